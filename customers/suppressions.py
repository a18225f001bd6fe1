"""The numbers that no campaign of the tenant's writes to, whoever has them."""

from collections.abc import Collection, Mapping

from django.db import transaction

from customers.errors import SuppressionNotFound
from customers.models import Suppression
from tenants import audit
from tenants.context import require_tenant


def suppress(
    *,
    phones: Collection[str],
    actor: str,
    reason: Suppression.Reason = Suppression.Reason.REQUESTED,
) -> int:
    """Put numbers (E.164) on the list; how many were not there before."""
    wanted = sorted(set(phones))  # Sorted: two calls wait for each other in one direction only.
    with transaction.atomic():
        known = set(Suppression.objects.filter(phone__in=wanted).values_list("phone", flat=True))
        fresh = [phone for phone in wanted if phone not in known]
        Suppression.objects.bulk_create(
            [Suppression(phone=phone, reason=reason, actor=actor) for phone in fresh],
            ignore_conflicts=True,
        )
        if fresh:
            _record("suppressions.added", "suppressions", actor, "", {"count": len(fresh)})
    return len(fresh)


def lift(*, phone: str, actor: str, reason: str) -> None:
    """Take a number off the list.

    Raises SuppressionNotFound.
    """
    with transaction.atomic():
        found = Suppression.objects.select_for_update().filter(phone=phone).first()
        if found is None:
            raise SuppressionNotFound
        # Its id, and not the number: the trail outlives whoever has it.
        after = {"was": found.reason}
        _record("suppression.lifted", f"suppression:{found.pk}", actor, reason, after)
        found.delete()


def _record(action: str, target: str, actor: str, reason: str, after: Mapping[str, object]) -> None:
    audit.record(
        actor=actor,
        action=action,
        target=target,
        tenant_id=require_tenant().id,
        reason=reason,
        after=after,
    )
