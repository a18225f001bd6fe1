"""How a campaign comes to its end, and what is told of it: in the caller's transaction."""

from datetime import timedelta
from typing import Any

from django.utils import timezone

from campaigns import errands, lanes, moves
from campaigns.errors import StaleCampaign
from campaigns.models import Campaign, ProviderAccount
from campaigns.states import CampaignState
from config.ids import format_id
from tenants.context import require_tenant
from webhooks.services import publish

ACTOR = "system:campaigns"
TOO_LATE = "send_until has passed"
CANCELLED = "the campaign was cancelled"
# What of a campaign in these was not sent may be tried again.
OPEN = (CampaignState.RUNNING, CampaignState.PAUSED, CampaignState.COMPLETED)


def complete(campaign: Campaign) -> None:
    """Each message has come to its end. The lane is shut: what is tried again waits for `reopen`.

    The follow-up, if there is one, is due from now. Raises StaleCampaign.
    """
    moves.move(campaign, CampaignState.COMPLETED, finished_at=timezone.now())
    lanes.tell(campaign)
    if campaign.follow_up and campaign.sent and campaign.finished_at is not None:
        due_at = campaign.finished_at + timedelta(seconds=campaign.follow_up["after"])
        errands.leave(campaign, errands.FOLLOW_UP, due_at=due_at)
    moves.record(campaign, "completed", actor=ACTOR, after=counters(campaign))
    _publish(campaign, "campaign.completed")


def fail(campaign: Campaign, why: str) -> None:
    """It never began, and `why`. Whoever replays the dead job has it begin again.

    Raises StaleCampaign.
    """
    moves.move(campaign, CampaignState.FAILED, reason=why, finished_at=timezone.now())
    lanes.tell(campaign)
    moves.record(campaign, "failed", actor=ACTOR, reason=why)
    _publish(campaign, "campaign.failed")


def watch(campaign: Campaign) -> None:
    """Have what depends on the clock done while a campaign sends: its quiet hours, and its end."""
    if campaign.send_until is not None and campaign.send_until <= timezone.now():
        errands.leave(campaign, errands.WITHDRAW, again=True, reason=TOO_LATE)
    elif campaign.send_until is not None:
        errands.leave(campaign, errands.EXPIRE, due_at=campaign.send_until)
    errands.leave_quiet(campaign)


def refuse_over(campaign: Campaign) -> None:
    """Insist that what is tried again may be sent. Raises StaleCampaign."""
    if campaign.state not in OPEN:
        raise StaleCampaign(f"It is {campaign.state}.", state=str(campaign.state))
    if is_too_late(campaign):
        raise StaleCampaign("Its send_until has passed.", state=str(campaign.state))
    if not has_account(campaign):
        raise StaleCampaign("Its account was deleted.", state=str(campaign.state))


def is_too_late(campaign: Campaign) -> bool:
    """Whether its send_until has passed."""
    return campaign.send_until is not None and campaign.send_until <= timezone.now()


def has_account(campaign: Campaign) -> bool:
    """Whether its account is there: one that was deleted sends nothing any more."""
    return ProviderAccount.objects.filter(pk=campaign.account_id, deleted_at=None).exists()


def counters(campaign: Campaign) -> dict[str, int]:
    """How its messages fared."""
    return {
        name: getattr(campaign, name)
        for name in ("total", "skipped", "sent", "failed", "unknown", "cancelled")
    }


def _publish(campaign: Campaign, type: str) -> None:
    said: dict[str, Any] = {
        "campaign_id": format_id("cmp", campaign.pk),
        "name": campaign.name,
        "state": str(campaign.state),
        "reason": campaign.reason,
        "parent_id": format_id("cmp", campaign.parent_id) if campaign.parent_id else None,
        **counters(campaign),
    }
    publish(tenant_id=require_tenant().id, type=type, payload=said)
