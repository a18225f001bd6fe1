"""Letting go of sign-ups whose owner never came: a stranger's address is not theirs for ever."""

from datetime import timedelta
from uuid import UUID

from django.db import connection, connections, transaction
from django.utils import timezone

from jobs.outcomes import Outcome, Succeeded
from jobs.services import enqueue
from jobs.steps import Claim
from onboarding import steps
from onboarding.models import PendingOnboarding
from tenants import audit
from tenants.context import tenant_context

UNVERIFIED_AFTER = timedelta(days=7)
_AT_ONCE = 500  # Sign-ups a run; the next run takes the rest.

# Ready, asked for by a stranger, and no owner who activated the account and joined.
_UNVERIFIED = """
select o.id, o.tenant_id from onboarding_pendingonboarding o
where o.caller = 'anonymous' and o.state = 'succeeded' and o.created_at < %s
  and exists (select from tenants_tenant t where t.id = o.tenant_id and t.status = 'active')
  and not exists (
    select from tenants_membership m join tenants_user u on u.id = m.user_id
    where m.tenant_id = o.tenant_id and m.accepted_at is not null and u.activated_at is not null)
  and not exists (
    select from jobs_job j where j.tenant_id = o.tenant_id and j.kind = 'onboarding.reap'
      and j.finished_at is null)
order by o.created_at limit %s
"""


def reap(*, actor: str, dry_run: bool = False) -> list[UUID]:
    """Have every unverified tenant undone that is older than UNVERIFIED_AFTER; says which.

    The undoing is a job for each: it deletes files and schemas, which takes its time and may fail.
    """
    with connections["operator"].cursor() as cursor:
        cursor.execute(_UNVERIFIED, [timezone.now() - UNVERIFIED_AFTER, _AT_ONCE])
        found: list[tuple[UUID, int]] = cursor.fetchall()
    if not dry_run:
        for request_id, tenant_id in found:
            _hand_over(request_id, tenant_id, actor=actor)
    return [request_id for request_id, _ in found]


def undo(claim: Claim) -> Outcome:
    """The job `onboarding.reap`: undo a tenant that became ready, and forget its sign-up.

    The database refuses it when the owner has come in the meantime.
    """
    with tenant_context(claim.tenant):
        request_id = UUID(claim.data["args"]["request_id"])
        if not PendingOnboarding.objects.filter(pk=request_id).exists():
            return Succeeded()  # It was killed between the forgetting and the settling.
    outcome = steps.undo(claim)
    if isinstance(outcome, Succeeded):
        with tenant_context(claim.tenant), connection.cursor() as cursor:
            cursor.execute("select slipway.forget_sign_up(%s)", [request_id])
    return outcome


def _hand_over(request_id: UUID, tenant_id: int, *, actor: str) -> None:
    with transaction.atomic(using="operator"):
        enqueue(
            "onboarding.reap",
            tenant_id=tenant_id,
            args={"request_id": str(request_id)},
            using="operator",
        )
        audit.record(
            actor=actor,
            action="onboarding.reaped",
            target=f"onboarding:{request_id}",
            tenant_id=tenant_id,
            reason=f"The owner did not come within {UNVERIFIED_AFTER.days} days.",
            using="operator",
        )
