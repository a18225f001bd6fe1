"""The job `campaigns.withdraw`: what waits of a campaign that sends no more is cancelled.

Chunk by chunk, each counted in its own transaction; killed anywhere, it begins anew, and what is
cancelled is left alone. What an earlier try has perhaps sent becomes unknown instead, and keeps
saying so. What is under way when it comes by may fail and wait again, and a replay may bring more:
the job stays until there is nothing of that.
"""

import time
from typing import Any
from uuid import UUID

from django.db import connection, transaction

from campaigns import endings, finishing, lanes
from campaigns.models import DOUBTFUL, Campaign, Message
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
  select m.id, m.state, m.last_error ~ '{doubtful}' as doubtful
  from campaigns_message m join looked using (id)
  where m.state = any(%(waiting)s) and not m.test order by m.id for update of m
),
withdrawn as (
  update campaigns_message m
  set state = case when doubtful then 'unknown' else 'cancelled' end, due_at = now(),
    finished_at = case when not doubtful then now() end,
    last_error = case when doubtful then m.last_error else %(why)s::text end
  from chosen where m.id = chosen.id returning m.id, chosen.state as before, m.state as after
)
select (select id from looked order by id desc limit 1), (select count(*) from looked) = {most},
  array(select id from withdrawn order by id), array(select before from withdrawn order by id),
  array(select after from withdrawn order by id)
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
        if _is_wanted(campaign_id) and _is_any_left(campaign_id):
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
            cursor.execute(_WITHDRAW.format(most=CHUNK, doubtful=DOUBTFUL), values)
            last, more, ids, before, after = cursor.fetchone()
        tally(queue(lanes.QUEUE), list(zip(ids, before, after, strict=True)), "default")
    return last if more else None


def _is_wanted(campaign_id: UUID) -> bool:
    """Whether the campaign still is one that sends no more."""
    campaign = Campaign.objects.filter(pk=campaign_id).first()
    if campaign is None:
        return False
    return endings.is_too_late(campaign) or campaign.state == CampaignState.CANCELLED


def _is_any_left(campaign_id: UUID) -> bool:
    """Whether some may fail yet, or wait for a try that nobody would make."""
    rows = Message.objects.filter(campaign_id=campaign_id, test=False)
    return rows.filter(state__in=[State.PROCESSING, *_WAITING]).exists()
