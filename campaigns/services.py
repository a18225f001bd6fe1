"""The only writer of campaigns besides their jobs. All of it in the current tenant's context.

A state moves by one guarded UPDATE (campaigns.moves). Locks: messages, campaign, lane.
"""

from collections.abc import Mapping
from uuid import UUID

from campaigns.models import Campaign, Message
from campaigns.wishes import FollowUp, Wish

__all__ = [
    "FollowUp",
    "Wish",
    "cancel",
    "change",
    "create",
    "find",
    "launch",
    "pause",
    "resume",
    "retry_failed",
    "test_send",
]


def find(campaign_id: UUID) -> Campaign:
    """A campaign of the current tenant's. Raises CampaignNotFound."""
    raise NotImplementedError


def create(*, wish: Wish, actor: str, key: bytes | None) -> tuple[Campaign, bool]:
    """Take a campaign in, and have it begin; whether this repeats an earlier call with this key.

    Raises InvalidCampaign with every error, IdempotencyConflict.
    """
    raise NotImplementedError


def change(*, campaign_id: UUID, wish: Wish, actor: str) -> Campaign:
    """Put all of a draft anew. Raises CampaignNotFound, InvalidCampaign, StaleCampaign."""
    raise NotImplementedError


def launch(*, campaign_id: UUID, actor: str) -> Campaign:
    """Let a draft begin, now or at its time, with its segment and template as they are now.

    Raises CampaignNotFound, InvalidCampaign, StaleCampaign.
    """
    raise NotImplementedError


def pause(*, campaign_id: UUID, actor: str, reason: str) -> Campaign:
    """Send no more for now; what is under way comes to its end.

    Raises CampaignNotFound, StaleCampaign.
    """
    raise NotImplementedError


def resume(*, campaign_id: UUID, actor: str, reason: str = "") -> Campaign:
    """Go on with a paused campaign. Raises CampaignNotFound, StaleCampaign."""
    raise NotImplementedError


def cancel(*, campaign_id: UUID, actor: str, reason: str) -> Campaign:
    """Send no more for good: what waits is withdrawn. Raises CampaignNotFound, StaleCampaign."""
    raise NotImplementedError


def retry_failed(*, campaign_id: UUID, actor: str, reason: str, unknown: bool = False) -> int:
    """Try again what failed, and what is `unknown` too when that is asked; says how many.

    Raises CampaignNotFound, StaleCampaign, NothingToRetry.
    """
    raise NotImplementedError


def test_send(
    *, campaign_id: UUID, phone: str, params: Mapping[str, str], actor: str
) -> Message:
    """Send the campaign's message to a phone that its tenant names; nobody counts it.

    Raises CampaignNotFound, InvalidTest, ContentMissing.
    """
    raise NotImplementedError
