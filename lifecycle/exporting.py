"""Everything of a tenant in an archive (lifecycle.archive), for whoever moves away.

A job of the platform's writes it on its machine, stores it below the tenant's own prefix and says
so: killed anywhere, it begins anew, and a half file is given to nobody. It works for suspended
tenants and for those in their days of grace too.
"""

import hashlib
import posixpath
import time
from contextlib import suppress
from datetime import timedelta
from typing import IO
from uuid import UUID

from django.conf import settings
from django.core.files.base import File
from django.db import transaction
from django.db.models import QuerySet
from django.db.models.functions import Now

from config.ids import format_id, uuid7
from customers.uploads import spool
from jobs.fence import hold
from jobs.models import Job
from jobs.outcomes import Fail, Outcome, Succeeded
from jobs.services import enqueue
from jobs.states import State
from jobs.steps import Claim
from lifecycle import archive
from lifecycle.archive import Written
from lifecycle.errors import TenantGone, TooManyExports
from lifecycle.models import Export
from tenants import audit, files, problems
from tenants.context import NOWHERE, PLATFORM, PLATFORM_ID, TenantRef, tenant_context
from tenants.models import Tenant
from tenants.services import Door
from tenants.states import TenantStatus
from tenants.summary import TenantSummary

KIND = "tenants.export"
OPERATOR = "operator"
TELL_SECONDS = 2.0  # Between two words on how far it is.
SPARE = 30.0  # Seconds before the deadline that are left for storing the file.
_NOBODYS = (State.DEAD_LETTER, State.DISCARDING, State.DISCARDED, State.CANCELLED)


class TooLong(Exception):
    """It takes longer than a job may."""


def begin(*, tenant_id: int, actor: str, reason: str = "", door: Door | None = None) -> Export:
    """Have a tenant's archive written. Raises TenantNotFound, TenantNotReady, TenantGone,
    TooManyExports.
    """
    alias = (door or Door()).alias
    most = int(settings.SLIPWAY["EXPORTS"]["most"])
    with tenant_context(TenantRef(tenant_id, NOWHERE)), transaction.atomic(using=alias):
        uuid = refuse_unless_there(tenant_id, using=alias)
        rows = Export.objects.using(alias).filter(tenant_id=tenant_id)
        if rows.filter(finished_at=None).count() >= most:
            raise TooManyExports(f"At most {most} wait at once.")
        made = Export(tenant_id=tenant_id, actor=actor, reason=reason)
        made.save(force_insert=True, using=alias)
        audit.record(
            actor=actor,
            action="tenant.export_begun",
            target=format_id("tnt", uuid),
            tenant_id=tenant_id,
            reason=reason,
            after={"export": format_id("exp", made.pk)},
            using=alias,
        )
        made.refresh_from_db(using=alias)
        args = {"export": str(made.pk)}
        with tenant_context(PLATFORM):
            enqueue(
                KIND, tenant_id=PLATFORM_ID, args=args, lane="exports", once=made.pk, using=alias
            )
    return made


def refuse_unless_there(tenant_id: int, *, using: str) -> UUID:
    """The public id of a tenant that has something. Raises as `begin` says."""
    rows = Tenant.objects.using(using).filter(pk=tenant_id)
    found = rows.values_list("uuid", "status").first()
    if found is None:
        raise problems.TenantNotFound
    uuid, status = found
    if status == TenantStatus.CLOSED:
        raise TenantGone
    if status == TenantStatus.PROVISIONING:
        raise problems.TenantNotReady(headers={"Retry-After": "5"})
    return UUID(str(uuid))


def run(claim: Claim) -> Outcome:
    """The job `tenants.export`."""
    found = _rows(claim).first()
    if found is None:
        return Succeeded()
    tenant_id = int(found.tenant_id or 0)
    _tell(claim, started_at=Now())
    _forget_halves(found, tenant_id)
    with spool() as file:
        try:
            written = archive.write(file, tenant_id=tenant_id, heard=_Teller(claim))
        except TooLong:
            return Fail(f"too large for a job: manage.py tenants export --file, for {found.pk}")
        except TenantGone:
            return Fail("the tenant is gone")
        size, digest = file.tell(), digest_of(file)
        name = files.storage().save(_name(found, tenant_id), File(file))
    try:
        _finish(claim, written, name, size=size, digest=digest)
    except BaseException:
        files.storage().delete(name)
        raise
    return Succeeded()


def record_taken(tenant: TenantSummary, found: Export, *, actor: str) -> None:
    """The audit trail's entry of who took the archive away."""
    with tenant_context(tenant.ref):
        audit.record(
            actor=actor,
            action="tenant.export_taken",
            target=format_id("tnt", tenant.uuid),
            tenant_id=tenant.ref.id,
            after={"export": format_id("exp", found.pk)},
        )


def stuck(found: Export) -> bool:
    """Whether nobody goes on with it: its job is dead, or was withdrawn."""
    if found.finished_at is not None:
        return False
    with tenant_context(PLATFORM):
        return Job.objects.filter(pk=found.pk, state__in=_NOBODYS).exists()


def digest_of(file: IO[bytes]) -> str:
    """SHA-256 of a file, in hexadecimal digits; it stands at its beginning afterwards."""
    file.seek(0)
    digest = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
    file.seek(0)
    return digest


def record_written(tenant: Tenant, *, actor: str, reason: str) -> None:
    """The audit trail's entry of an archive that a terminal wrote itself."""
    audit.record(
        actor=actor,
        action="tenant.export_taken",
        target=format_id("tnt", tenant.uuid),
        tenant_id=tenant.pk,
        reason=reason,
        using=OPERATOR,
    )


def old() -> QuerySet[Export]:
    """Archives older than SLIPWAY["RETENTION"]["archives"]."""
    kept = timedelta(days=float(settings.SLIPWAY["RETENTION"]["archives"]))
    return Export.objects.using(OPERATOR).filter(finished_at__lt=Now() - kept)


def forget_old() -> int:
    """Delete the old ones; says how many."""
    count = 0
    for each in old():
        if each.file:
            files.storage().delete(each.file)
        count += each.delete(using=OPERATOR)[0]
    return count


class _Teller:
    """Says in the export's row how far it is, and ends what would take too long."""

    def __init__(self, claim: Claim) -> None:
        self.claim, self.told = claim, time.monotonic()

    def __call__(self, table: str, rows: int) -> None:
        now = time.monotonic()
        if now > self.claim.deadline - SPARE:
            raise TooLong
        if now - self.told > TELL_SECONDS:
            self.told = now
            _tell(self.claim, table=table, rows=rows)


def _rows(claim: Claim) -> QuerySet[Export]:
    rows = Export.objects.using(OPERATOR).filter(pk=UUID(claim.data["args"]["export"]))
    return rows.filter(finished_at=None)


def _tell(claim: Claim, **columns: object) -> None:
    with transaction.atomic(using=OPERATOR):
        hold(claim, using=OPERATOR)
        _rows(claim).update(**columns)


def _finish(claim: Claim, written: Written, name: str, *, size: int, digest: str) -> None:
    _tell(
        claim,
        table="",
        rows=written.rows,
        taken_at=written.taken_at,
        file=name,
        size=size,
        digest=digest,
        finished_at=Now(),
    )


def _forget_halves(found: Export, tenant_id: int) -> None:
    """Delete what a try left behind that was killed while it stored its file."""
    place = posixpath.join(files.prefix_of(tenant_id), "archives")
    with suppress(FileNotFoundError):
        for name in files.storage().listdir(place)[1]:
            if name.startswith(f"{found.pk}-"):
                files.storage().delete(posixpath.join(place, name))


def _name(found: Export, tenant_id: int) -> str:
    """Another name for each try: nothing is ever written over."""
    prefix = files.prefix_of(tenant_id)
    return posixpath.join(prefix, "archives", f"{found.pk}-{uuid7()}.zip")
