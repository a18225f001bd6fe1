"""The only writer of campaigns besides their jobs. All of it in the current tenant's context.

A state moves by one guarded UPDATE (campaigns.moves). Locks: messages, campaign, lane.
"""

from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models.functions import Now
from django.utils import timezone

from campaigns import checking, endings, errands, lanes, moves
from campaigns.errors import (
    CampaignNotFound,
    IdempotencyConflict,
    NothingToRetry,
    StaleCampaign,
)
from campaigns.models import Campaign
from campaigns.states import CANCELLABLE, CampaignState
from campaigns.testing import test_send
from campaigns.wishes import FollowUp, Wish
from config.idempotency import KEPT
from jobs import replaying
from jobs.errors import ReasonMissing
from jobs.models import Replay
from jobs.selection import Selection
from jobs.states import State
from tenants.context import require_tenant

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
    "take_back",
    "test_send",
]

S = CampaignState


def find(campaign_id: UUID) -> Campaign:
    """A campaign of the current tenant's. Raises CampaignNotFound."""
    campaign = Campaign.objects.filter(pk=campaign_id).first()
    if campaign is None:
        raise CampaignNotFound
    return campaign


def create(*, wish: Wish, actor: str, key: bytes | None) -> tuple[Campaign, bool]:
    """Take a campaign in, and have it begin; whether this repeats an earlier call with this key.

    One transaction: the row that is the campaign, the job that begins it, the audit entry. Its
    content and its audience are the jobs' matter.
    Raises InvalidCampaign with every error, IdempotencyConflict.
    """
    fingerprint = wish.fingerprint()
    if key is not None and (found := _sent_before(key)) is not None:
        return _same(found, fingerprint), True
    campaign = Campaign(
        actor=actor, idempotency_key=key, fingerprint=fingerprint, **checking.columns(wish)
    )
    campaign.state = S.DRAFT if wish.draft else _beginning(campaign)
    try:
        _create(campaign)
    except IntegrityError:
        found = _sent_before(key) if key is not None else None
        if found is None:
            raise
        return _same(found, fingerprint), True
    campaign.refresh_from_db()
    return campaign, False


def change(*, campaign_id: UUID, wish: Wish, actor: str) -> Campaign:
    """Put all of a draft anew. Raises CampaignNotFound, InvalidCampaign, StaleCampaign."""
    columns = checking.columns(wish)
    with transaction.atomic():
        campaign = moves.locked(campaign_id)
        rows = Campaign.objects.filter(pk=campaign_id, state=S.DRAFT)
        if rows.update(**columns) != 1:
            raise StaleCampaign(f"It is {campaign.state}.", state=campaign.state)
        moves.record(campaign, "changed", actor=actor, after=_told(campaign))
    return find(campaign_id)


def launch(*, campaign_id: UUID, actor: str) -> Campaign:
    """Let a draft begin, now or at its time, with its segment and template as they are now.

    Raises CampaignNotFound, InvalidCampaign, StaleCampaign.
    """
    with transaction.atomic():
        campaign = moves.locked(campaign_id)
        if campaign.state != S.DRAFT:
            raise StaleCampaign(f"It is {campaign.state}.", state=campaign.state)
        frozen = checking.columns(checking.wish_of(campaign))
        moves.move(campaign, _beginning(campaign), start=[S.DRAFT], **frozen)
        _begin(campaign)
        moves.record(campaign, "launched", actor=actor, after=_told(campaign))
    return find(campaign_id)


def take_back(*, campaign_id: UUID, actor: str, reason: str = "") -> Campaign:
    """Make a draft again of what is scheduled. Raises CampaignNotFound, StaleCampaign."""
    with transaction.atomic():
        campaign = moves.locked(campaign_id)
        moves.move(campaign, S.DRAFT)
        moves.record(campaign, "taken_back", actor=actor, reason=reason)
    return find(campaign_id)


def pause(*, campaign_id: UUID, actor: str, reason: str) -> Campaign:
    """Send no more for now; what is under way comes to its end.

    One that is being prepared goes on with that, and sends nothing.
    Raises CampaignNotFound, StaleCampaign.
    """
    with transaction.atomic():
        campaign = moves.locked(campaign_id)
        before = {"state": campaign.state}
        moves.move(campaign, S.PAUSED, reason=reason)
        lanes.tell(campaign)
        moves.record(campaign, "paused", actor=actor, reason=reason, before=before)
    return find(campaign_id)


def resume(*, campaign_id: UUID, actor: str, reason: str = "") -> Campaign:
    """Go on with a paused campaign. Raises CampaignNotFound, StaleCampaign."""
    with transaction.atomic():
        campaign = moves.locked(campaign_id)
        ready = campaign.materialised_at is not None
        moves.move(campaign, S.RUNNING if ready else S.MATERIALISING, start=[S.PAUSED])
        lanes.tell(campaign)
        if ready and not campaign.remaining:  # There was nobody to write to, or none is left.
            errands.leave(campaign, errands.FINISH, again=True)
        after = {"state": campaign.state}
        moves.record(campaign, "resumed", actor=actor, reason=reason, after=after)
    return find(campaign_id)


def cancel(*, campaign_id: UUID, actor: str, reason: str) -> Campaign:
    """Send no more for good: what waits is withdrawn in the background.

    Raises CampaignNotFound, StaleCampaign.
    """
    with transaction.atomic():
        campaign = moves.locked(campaign_id)
        before = {"state": campaign.state}
        moves.move(campaign, S.CANCELLED, start=CANCELLABLE, reason=reason, finished_at=Now())
        lanes.tell(campaign)
        errands.leave(campaign, errands.WITHDRAW, again=True, reason=endings.CANCELLED)
        moves.record(campaign, "cancelled", actor=actor, reason=reason, before=before)
    return find(campaign_id)


def retry_failed(*, campaign_id: UUID, actor: str, reason: str, unknown: bool = False) -> int:
    """Try again what failed, and what is `unknown` too when that is asked; says how many.

    In the background. A campaign that had come to its end runs again with the first of them
    (campaigns.finishing); those that are unknown may be sent twice.
    Raises CampaignNotFound, StaleCampaign, NothingToRetry, ReasonMissing.
    """
    if not reason.strip():
        raise ReasonMissing("Say why: the audit trail keeps it.")
    with transaction.atomic():
        campaign = find(campaign_id)
        endings.refuse_over(campaign)
        count = campaign.failed + (campaign.unknown if unknown else 0)
        if not count:
            raise NothingToRetry
        states = (State.DEAD_LETTER, State.UNKNOWN) if unknown else (State.DEAD_LETTER,)
        selection = Selection(
            queue=lanes.QUEUE, tenant_id=require_tenant().id, states=states, lane=campaign.lane
        )
        replaying.start(
            selection=selection,
            action=Replay.Action.REPLAY,
            actor=actor,
            reason=reason,
            using="default",
        )
        after = {"failed": campaign.failed, "unknown": campaign.unknown if unknown else 0}
        moves.record(campaign, "retried", actor=actor, reason=reason, after=after)
    return count


def _create(campaign: Campaign) -> None:
    with transaction.atomic():
        campaign.save(force_insert=True)
        if campaign.state != S.DRAFT:
            _begin(campaign)
        moves.record(campaign, "created", actor=campaign.actor, after=_told(campaign))


def _beginning(campaign: Campaign) -> CampaignState:
    return S.SCHEDULED if campaign.scheduled_at is not None else S.MATERIALISING


def _begin(campaign: Campaign) -> None:
    if campaign.state == S.SCHEDULED:
        errands.leave(campaign, errands.START, due_at=campaign.scheduled_at)
    else:
        errands.leave(campaign, errands.GENERATE)


def _told(campaign: Campaign) -> dict[str, object]:
    return {
        "state": str(campaign.state),
        "account": str(campaign.account_id),
        "scheduled_at": campaign.scheduled_at.isoformat() if campaign.scheduled_at else None,
    }


def _sent_before(key: bytes) -> Campaign | None:
    """What was made with this key; an old one is forgotten, and may be used again."""
    found = Campaign.objects.filter(idempotency_key=key).first()
    if found is None or found.created_at >= timezone.now() - KEPT:
        return found
    Campaign.objects.filter(pk=found.pk).update(idempotency_key=None, fingerprint=None)
    return None


def _same(found: Campaign, fingerprint: bytes) -> Campaign:
    if bytes(found.fingerprint or b"") != fingerprint:
        raise IdempotencyConflict
    return found
