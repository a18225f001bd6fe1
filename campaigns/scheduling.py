"""What a campaign does by the clock: the jobs `campaigns.start`, `.expire` and `.quiet`.

Each looks at the campaign again when its time has come: a job that is late, or was left by a state
of things that is past, does no harm.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from django.db import transaction
from django.utils import timezone

from campaigns import endings, errands, lanes, moves
from campaigns.errors import CampaignNotFound
from campaigns.models import Campaign
from campaigns.states import CampaignState
from jobs.fence import hold
from jobs.outcomes import Outcome, Succeeded
from jobs.steps import Claim
from tenants.context import tenant_context

S = CampaignState


def start(claim: Claim) -> Outcome:
    """The job `campaigns.start`: a scheduled campaign begins, however late, if it still may."""
    with _campaign(claim) as campaign:
        now = timezone.now()
        if campaign is None or campaign.state != S.SCHEDULED:
            return Succeeded()
        if campaign.scheduled_at is None or campaign.scheduled_at > now:
            return Succeeded()  # It was taken back, and scheduled for another time.
        if campaign.send_until is not None and campaign.send_until <= now:
            why = f"{endings.TOO_LATE} before it could start"
            moves.move(campaign, S.CANCELLED, reason=why, finished_at=now)
            moves.record(campaign, "cancelled", actor=endings.ACTOR, reason=why)
            return Succeeded()
        moves.move(campaign, S.MATERIALISING)
        errands.leave(campaign, errands.GENERATE)
        moves.record(campaign, "started", actor=endings.ACTOR)
    return Succeeded()


def expire(claim: Claim) -> Outcome:
    """The job `campaigns.expire`: at send_until, what has not been sent is withdrawn."""
    with _campaign(claim) as campaign:
        if campaign is None or campaign.send_until is None or campaign.state in _OVER:
            return Succeeded()
        if campaign.send_until > timezone.now():
            return Succeeded()
        lanes.tell(campaign)
        errands.leave(campaign, errands.WITHDRAW, again=True, reason=endings.TOO_LATE)
        moves.record(campaign, "expired", actor=endings.ACTOR, after=endings.counters(campaign))
    return Succeeded()


def quiet(claim: Claim) -> Outcome:
    """The job `campaigns.quiet`: the lane is shut until the quiet hours end, day by day.

    They end by themselves: the lane says until when it is shut.
    """
    with _campaign(claim) as campaign:
        if campaign is None or campaign.state in _OVER:
            return Succeeded()
        if campaign.state == S.RUNNING:
            lanes.tell(campaign)
        errands.leave_quiet(campaign)
    return Succeeded()


_OVER = (S.COMPLETED, S.CANCELLED, S.FAILED)


@contextmanager
def _campaign(claim: Claim) -> Iterator[Campaign | None]:
    """The campaign of the job, in a transaction of its own; None when it is gone."""
    with tenant_context(claim.tenant), transaction.atomic():
        hold(claim)
        try:
            campaign = moves.locked(UUID(claim.data["args"]["campaign"]))
        except CampaignNotFound:
            campaign = None
        yield campaign
