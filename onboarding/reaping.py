"""Letting go of sign-ups whose owner never came: a stranger's address is not theirs for ever."""

from contextlib import suppress
from datetime import datetime, timedelta
from uuid import UUID

from django.db import connection, connections, transaction
from django.db.models import QuerySet
from django.utils import timezone

from jobs.errors import StaleState
from jobs.models import DeadLetter
from jobs.outcomes import Outcome, Succeeded
from jobs.services import discard, enqueue
from jobs.states import State
from jobs.steps import Claim
from onboarding import steps
from onboarding.models import PendingOnboarding
from tenants import audit
from tenants.context import tenant_context

UNVERIFIED_AFTER = timedelta(days=7)
REASON = f"The owner did not come within {UNVERIFIED_AFTER.days} days."
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


def reap(*, actor: str, reason: str = REASON, dry_run: bool = False) -> list[UUID]:
    """Let go of strangers' sign-ups older than UNVERIFIED_AFTER that nobody came for; says which.

    A tenant that became ready is undone by a job, since that takes its time and may fail; a sign-up
    that never did, and waits for an operator, is discarded for them.
    """
    before = timezone.now() - UNVERIFIED_AFTER
    with connections["operator"].cursor() as cursor:
        cursor.execute(_UNVERIFIED, [before, _AT_ONCE])
        found: list[tuple[UUID, int]] = cursor.fetchall()
    stuck = list(_stuck(before))
    if not dry_run:
        for request_id, tenant_id in found:
            _hand_over(request_id, tenant_id, actor=actor, reason=reason)
        for letter in stuck:
            _discard(letter, actor=actor, reason=reason)
    return [request_id for request_id, _ in found] + [letter.work_id for letter in stuck]


def undo(claim: Claim) -> Outcome:
    """The job `onboarding.reap`: undo a tenant that became ready, and forget its sign-up.

    Nothing is done when the owner has come in the meantime: the database looks.
    """
    with tenant_context(claim.tenant):
        request_id = UUID(claim.data["args"]["request_id"])
        if not PendingOnboarding.objects.filter(pk=request_id).exists():
            return Succeeded()  # It was killed between the forgetting and the settling.
    outcome = steps.undo(claim)
    if outcome == steps.IN_USE:
        return Succeeded()
    if isinstance(outcome, Succeeded):
        with tenant_context(claim.tenant), connection.cursor() as cursor:
            cursor.execute("select slipway.forget_sign_up(%s)", [request_id])
    return outcome


def _stuck(before: datetime) -> QuerySet[DeadLetter]:
    """The dead letters of strangers' sign-ups from before then."""
    letters = DeadLetter.objects.using("operator").filter(queue="onboarding", resolved_at=None)
    strangers = PendingOnboarding.objects.using("operator").filter(
        caller="anonymous", state=State.DEAD_LETTER, created_at__lt=before
    )
    return letters.filter(work_id__in=strangers.values("pk"))[:_AT_ONCE]


def _discard(letter: DeadLetter, *, actor: str, reason: str) -> None:
    with suppress(StaleState):  # An operator was quicker.
        discard(dead_letter=letter, actor=actor, reason=reason)


def _hand_over(request_id: UUID, tenant_id: int, *, actor: str, reason: str) -> None:
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
            reason=reason,
            using="operator",
        )
