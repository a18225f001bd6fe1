"""How a campaign comes from one state to another: one guarded UPDATE, and its count is checked."""

from collections.abc import Collection
from typing import Any
from uuid import UUID

from campaigns.errors import CampaignNotFound, StaleCampaign
from campaigns.models import Campaign
from campaigns.states import TRANSITIONS, CampaignState
from config.ids import format_id
from tenants import audit
from tenants.context import require_tenant

LONGEST_REASON = 500


def locked(campaign_id: UUID) -> Campaign:
    """The campaign, for this transaction alone. Messages that point to it need not wait.

    Raises CampaignNotFound.
    """
    rows = Campaign.objects.select_for_update(no_key=True)
    campaign = rows.filter(pk=campaign_id).first()
    if campaign is None:
        raise CampaignNotFound
    return campaign


def starts(to: CampaignState) -> set[CampaignState]:
    """The states from which a campaign comes to this one."""
    return {start for start, end in TRANSITIONS if end == to}


def move(
    campaign: Campaign,
    to: CampaignState,
    *,
    start: Collection[CampaignState] | None = None,
    reason: str = "",
    **columns: Any,
) -> None:
    """Bring the campaign from the state that it is seen in to another, and write `columns` with it.

    `start` are fewer states than TRANSITIONS allows. Raises StaleCampaign, and nothing is changed.
    """
    allowed = starts(to) if start is None else starts(to) & set(start)
    before = CampaignState(campaign.state)
    columns |= {"state": to, "reason": reason[:LONGEST_REASON]}
    rows = Campaign.objects.filter(pk=campaign.pk, state=before)
    if before not in allowed or rows.update(**columns) != 1:
        raise StaleCampaign(f"It is {before}.", state=str(before))
    for name, value in columns.items():
        setattr(campaign, name, value)


def record(
    campaign: Campaign,
    action: str,
    *,
    actor: str,
    reason: str = "",
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
) -> None:
    """The audit trail's entry of what was done with a campaign: ids and numbers, nobody's data."""
    audit.record(
        actor=actor,
        action=f"campaign.{action}",
        target=format_id("cmp", campaign.pk),
        tenant_id=require_tenant().id,
        reason=reason,
        before=before,
        after=after,
    )


def begin_again(campaign: Campaign) -> None:
    """Have a failed campaign be prepared again, where it was left. Raises StaleCampaign."""
    move(campaign, CampaignState.MATERIALISING, start=[CampaignState.FAILED], finished_at=None)
    record(campaign, "begun_again", actor="system:campaigns")
