"""The job `campaigns.withdraw`: what waits of a campaign that sends no more is cancelled.

Chunk by chunk, each counted in its own transaction; killed anywhere, it begins anew, and what is
cancelled is left alone. What is under way when it comes by may fail and wait again: the job stays
until there is nothing of that.
"""

import time
from typing import Any
from uuid import UUID

from django.db import connection, transaction
from django.utils import timezone

from campaigns import finishing, lanes
from campaigns.models import Campaign, Message
from campaigns.states import CampaignState
from jobs.fence import hold
from jobs.outcomes import Outcome, Snooze, Succeeded
from jobs.registry import queue
from jobs.states import State
from jobs.steps import Claim
from jobs.tallying import tally
from tenants.context import require_tenant, tenant_context

CHUNK = 2000  # Messages looked at in a transaction.
STRETCH = 20.0  # Seconds at a time; then others' jobs have their turn.
LOOK_AGAIN = 2.0  # Seconds, while some are under way.

# Gone through by id: no index leads to all that waits, in whatever state, of one campaign.
_WITHDRAW = """
with looked as materialized (
  select id from campaigns_message
  where tenant_id = %(tenant)s and campaign_id = %(campaign)s and id > %(place)s
  order by id limit {most}
),
chosen as materialized (
  select m.id, m.state from campaigns_message m join looked using (id)
  where m.state = any(%(waiting)s) and not m.test order by m.id for update of m
),
withdrawn as (
  update campaigns_message m
  set state = 'cancelled', finished_at = now(), last_error = %(why)s::text
  from chosen where m.id = chosen.id returning m.id, chosen.state as before
)
select (select id from looked order by id desc limit 1), (select count(*) from looked) = {most},
  array(select id from withdrawn order by id), array(select before from withdrawn order by id)
"""
_WAITING = [str(s) for s in (State.SCHEDULED, State.PENDING, State.HELD, State.FAILED)]


def run(claim: Claim) -> Outcome:
    """The job `campaigns.withdraw`: {"campaign", "reason"}."""
    campaign_id, why = UUID(claim.data["args"]["campaign"]), claim.data["args"]["reason"]
    ends_at = min(time.monotonic() + STRETCH, claim.deadline - STRETCH)
    place: UUID | None = UUID(int=0)
    with tenant_context(claim.tenant):
        while place is not None:
            if time.monotonic() >= ends_at:
                return Snooze(0.0, "there is more to do")
            place = _chunk(claim, campaign_id, why, place)
        if _under_way(campaign_id):
            return Snooze(LOOK_AGAIN, "what is under way comes to its end")
        with transaction.atomic():
            hold(claim)
            finishing.verify(campaign_id)
    return Succeeded()


def _chunk(claim: Claim, campaign_id: UUID, why: str, place: UUID) -> UUID | None:
    """One transaction; where the next one goes on, None at the end."""
    values: dict[str, Any] = {
        "tenant": require_tenant().id,
        "campaign": campaign_id,
        "place": place,
        "waiting": _WAITING,
        "why": why,
    }
    with transaction.atomic():
        hold(claim)
        if not _is_wanted(campaign_id):
            return None
        with connection.cursor() as cursor:
            cursor.execute(_WITHDRAW.format(most=CHUNK), values)
            last, more, ids, before = cursor.fetchone()
        moved = [(id_, was, str(State.CANCELLED)) for id_, was in zip(ids, before, strict=True)]
        tally(queue(lanes.QUEUE), moved, "default")
    return last if more else None


def _is_wanted(campaign_id: UUID) -> bool:
    """Whether the campaign still is one that sends no more."""
    campaign = Campaign.objects.filter(pk=campaign_id).first()
    if campaign is None:
        return False
    over = campaign.send_until is not None and campaign.send_until <= timezone.now()
    return over or campaign.state == CampaignState.CANCELLED


def _under_way(campaign_id: UUID) -> bool:
    """Whether some may fail yet, and wait for their next try, which nobody would make."""
    lane = Campaign(pk=campaign_id).lane
    return Message.objects.filter(lane=lane, state=State.PROCESSING).exists()
