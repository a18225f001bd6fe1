"""Erasing one customer: from the customers, and from all that others keep of them.

The request notes it and queues a job. That deletes the customer's row first, so that nobody makes
anything new of it, and then has each of SLIPWAY["ERASERS"] erase what is theirs: killed anywhere,
it goes on with the one it was at. The audit trail keeps ids.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.module_loading import import_string

from customers.errors import CustomerNotFound
from customers.jobless import stuck
from customers.models import ConsentChange, Customer, Erasure, Export, Suppression
from jobs.fence import hold
from jobs.outcomes import Outcome, Snooze, Succeeded
from jobs.services import enqueue
from jobs.steps import Claim
from tenants import audit, files
from tenants.context import TenantRef, tenant_context

KIND = "customers.erase"
# Seconds between the customer's end and the others': longer than any statement of the app role
# takes, so that what was being made of the customer just then is there to be found.
SETTLING = 10.0


@dataclass(frozen=True, slots=True)
class Erased:
    """Who is erased. Phone (E.164) and address are empty where none was known."""

    tenant: TenantRef
    customer_id: UUID
    gone_at: datetime  # When its row went.
    phone: str = field(repr=False)
    email: str = field(repr=False)


class NotYet(Exception):
    """An eraser must wait for something that is under way; it is asked again."""

    def __init__(self, why: str, after: float = 2.0) -> None:
        super().__init__(why)
        self.after = after


# Erases what it keeps of a customer, again and again if it is asked, and says how many rows it was.
# Runs in the tenant's context, outside of any transaction. Raises NotYet.
Eraser = Callable[[Erased], int]


def begin(*, customer_id: UUID, suppress: bool, actor: str, reason: str) -> Erasure:
    """Have a customer erased in the background; asked again meanwhile, it is the same erasure.

    With `suppress` the number stays, alone, on the list of those that are not written to.
    Raises CustomerNotFound.
    """
    with transaction.atomic():
        customer = Customer.objects.select_for_update().filter(pk=customer_id).first()
        if customer is None:
            raise CustomerNotFound
        found = Erasure.objects.filter(customer_id=customer_id, finished_at=None).first()
        if found is not None:
            return found
        made = Erasure(customer_id=customer_id, suppress=suppress, actor=actor, reason=reason)
        made.phone, made.email = customer.phone, customer.email
        made.save(force_insert=True)
        args = {"erasure": str(made.pk)}
        enqueue(KIND, tenant_id=made.tenant_id, args=args, lane="erasures", once=made.pk)
        _record(made, "customer.erasure_begun", {"suppress": suppress})
    made.refresh_from_db()
    return made


def run(claim: Claim) -> Outcome:
    """The job `customers.erase`."""
    with tenant_context(claim.tenant):
        found = _delete(claim, UUID(claim.data["args"]["erasure"]))
        if found is None or found.gone_at is None:
            return Succeeded()
        left = SETTLING - (timezone.now() - found.gone_at).total_seconds()
        if left > 0:
            return Snooze(left, "what was being written is waited for")
        erased = Erased(claim.tenant, found.customer_id, found.gone_at, found.phone, found.email)
        for path in [f"{__name__}.erase_exports", *settings.SLIPWAY["ERASERS"]]:
            if path in found.erased:
                continue
            eraser: Eraser = import_string(path)
            try:
                found.erased[path] = eraser(erased)
            except NotYet as why:
                return Snooze(why.after, str(why))
            _tell(claim, found)
        _finish(claim, found)
    return Succeeded()


def erase_exports(erased: Erased) -> int:
    """Files of all customers that were written while this one was among them."""
    rows = Export.objects.filter(created_at__lte=erased.gone_at)
    open_ones = rows.filter(finished_at=None)
    if len(stuck(open_ones)) < len(open_ones):  # Those that are stuck would begin anew.
        raise NotYet("an export is being written")
    count = 0
    for export in rows.exclude(finished_at=None):
        files.storage().delete(export.file)
        count += export.delete()[0]
    return count


def _delete(claim: Claim, erasure_id: UUID) -> Erasure | None:
    """The customer's own rows, in one transaction; None when there is nothing left to do."""
    with transaction.atomic():
        hold(claim)
        rows = Erasure.objects.select_for_update().filter(pk=erasure_id, finished_at=None)
        found = rows.first()
        if found is None or found.gone_at is not None:
            return found
        customer = Customer.objects.select_for_update().filter(pk=found.customer_id).first()
        if customer is not None:
            found.phone, found.email = customer.phone or found.phone, customer.email or found.email
            customer.delete()
        entries, _ = ConsentChange.objects.filter(customer_id=found.customer_id).delete()
        if found.suppress and found.phone:
            Suppression.objects.bulk_create(
                [
                    Suppression(
                        phone=found.phone, reason=Suppression.Reason.ERASED, actor=found.actor
                    )
                ],
                ignore_conflicts=True,
            )
        found.erased = {"customers": int(customer is not None) + entries}
        found.gone_at = Now()
        found.save()
    found.refresh_from_db()
    return found


def _tell(claim: Claim, found: Erasure) -> None:
    with transaction.atomic():
        hold(claim)
        Erasure.objects.filter(pk=found.pk).update(erased=found.erased)


def _finish(claim: Claim, found: Erasure) -> None:
    with transaction.atomic():
        hold(claim)
        rows = Erasure.objects.filter(pk=found.pk, finished_at=None)
        if rows.update(phone="", email="", finished_at=Now()):
            _record(found, "customer.erased", found.erased)


def _record(found: Erasure, action: str, after: dict[str, object]) -> None:
    """Ids and numbers only: the trail outlives the customer."""
    audit.record(
        actor=found.actor,
        action=action,
        target=f"customer:{found.customer_id}",
        tenant_id=found.tenant_id,
        reason=found.reason,
        after={"erasure": str(found.pk), **after},
    )
