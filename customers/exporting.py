"""All customers of a tenant's in a file, which an import reads again.

A job writes the file on its machine, stores it and says so: killed anywhere, it begins anew.
"""

import posixpath
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from typing import IO
from uuid import UUID

import orjson
from django.conf import settings
from django.core.files.base import File
from django.db import transaction
from django.db.models.functions import Now
from django.utils import timezone

from config.ids import uuid7
from config.spreadsheets import as_csv
from customers.errors import TooManyExports
from customers.models import Customer, Export, Import
from customers.serializers.customers import customer_as_json
from customers.uploads import spool
from jobs.fence import hold
from jobs.outcomes import Outcome, Succeeded
from jobs.services import enqueue
from jobs.steps import Claim
from tenants import audit, files
from tenants.context import require_tenant, tenant_context

KIND = "customers.export"
PAGE = 2000  # Customers read at once.
COLUMNS = (
    "external_id", "name", "phone", "email", "lifetime_value", "last_purchase_at", "consent",
)  # fmt: skip


def begin(*, format: Import.Format, actor: str) -> Export:
    """Have the file written. Raises TooManyExports."""
    most = settings.SLIPWAY["CUSTOMERS"]["exports_most"]
    if Export.objects.filter(finished_at=None).count() >= most:
        raise TooManyExports(f"At most {most} wait at once.")
    made = Export(format=format, actor=actor)
    with transaction.atomic():
        made.save(force_insert=True)
        args = {"export": str(made.pk)}
        enqueue(KIND, tenant_id=made.tenant_id, args=args, lane="exports", once=made.pk)
        record(actor=actor, target=f"export:{made.pk}", format=format)
    made.refresh_from_db()
    return made


def record(*, actor: str, target: str, format: str) -> None:
    """The audit trail's entry of who took the customers away."""
    audit.record(
        actor=actor,
        action="customers.exported",
        target=target,
        tenant_id=require_tenant().id,
        after={"format": format},
    )


def run(claim: Claim) -> Outcome:
    """The job `customers.export`."""
    with tenant_context(claim.tenant):
        _forget_old()
        found = Export.objects.filter(pk=UUID(claim.data["args"]["export"])).first()
        if found is None or found.finished_at is not None:
            return Succeeded()
        with spool() as file:
            rows = write(file, found.format)
            size = file.tell()
            file.seek(0)
            name = files.storage().save(_name(found), File(file))
        try:
            _finish(claim, found, name, rows=rows, size=size)
        except BaseException:
            files.storage().delete(name)
            raise
    return Succeeded()


def _finish(claim: Claim, found: Export, name: str, *, rows: int, size: int) -> None:
    with transaction.atomic():
        hold(claim)
        row = Export.objects.filter(pk=found.pk, finished_at=None)
        row.update(file=name, rows=rows, size=size, finished_at=Now())


def write(file: IO[bytes], format: str) -> int:
    """The customers as they stand, oldest first; how many they are."""
    count = 0
    if format == Import.Format.CSV:
        file.write(as_csv([(*COLUMNS, "attributes")]))
    for customers in _pages():
        file.write(_as_csv(customers) if format == Import.Format.CSV else _as_lines(customers))
        count += len(customers)
    return count


def _pages() -> Iterator[Sequence[Customer]]:
    after: UUID | None = None
    while True:
        rows = Customer.objects.order_by("id")
        found = list(rows.filter(pk__gt=after)[:PAGE] if after else rows[:PAGE])
        if not found:
            return
        yield found
        after = found[-1].pk


def _as_csv(customers: Iterable[Customer]) -> bytes:
    return as_csv(
        (*(_cell(getattr(customer, name)) for name in COLUMNS), _attributes(customer))
        for customer in customers
    )


def _attributes(customer: Customer) -> str:
    return orjson.dumps(customer.attributes).decode() if customer.attributes else ""


def _cell(value: object) -> str:
    if value is None:
        return ""
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _as_lines(customers: Iterable[Customer]) -> bytes:
    """As POST takes them: an import of these lines makes the same customers."""
    lines = []
    for customer in customers:
        shown = customer_as_json(customer)
        lines.append(orjson.dumps({name: shown[name] for name in (*COLUMNS, "attributes")}))  # type: ignore[literal-required]
    return b"".join(line + b"\n" for line in lines)


def _name(found: Export) -> str:
    prefix = files.prefix_of(require_tenant().id)
    return posixpath.join(prefix, "exports", f"{found.pk}-{uuid7()}.{found.format}")


def _forget_old() -> None:
    kept = timedelta(days=settings.SLIPWAY["RETENTION"]["exports"])
    for old in Export.objects.filter(finished_at__lt=timezone.now() - kept):
        files.storage().delete(old.file)
        old.delete()
