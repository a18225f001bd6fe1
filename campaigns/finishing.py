"""The job `campaigns.finish`: whether a campaign is at its end, counted by its messages themselves.

Message.tally leaves it when nothing remains by the counters, and when something of a completed
campaign is tried again. What the counters say is compared with what is there; a difference is put
right, and told: there should be none.
"""

from uuid import UUID

import structlog
from django.db import DEFAULT_DB_ALIAS, connection, transaction
from django.db.models import F

from campaigns import endings, lanes, moves
from campaigns.errors import CampaignNotFound
from campaigns.models import Campaign
from campaigns.states import CampaignState
from jobs import replaying
from jobs.fence import hold
from jobs.models import Replay
from jobs.outcomes import Outcome, Snooze, Succeeded
from jobs.steps import Claim
from tenants.context import require_tenant, tenant_context

COUNTED = ("total", "sent", "failed", "unknown", "cancelled")
S = CampaignState
LOOK_AGAIN = 2.0  # Seconds, while a replay is on its way.

log = structlog.get_logger(__name__)

# One statement sees one moment: messages and counters move in the same transactions.
_DIFFERENCES = """
select count(m.id) - c.total,
  count(m.id) filter (where m.state = 'succeeded') - c.sent,
  count(m.id) filter (where m.state = 'dead_letter') - c.failed,
  count(m.id) filter (where m.state = 'unknown') - c.unknown,
  count(m.id) filter (where m.state in ('cancelled', 'discarded', 'discarding')) - c.cancelled
from campaigns_campaign c
left join campaigns_message m
  on m.tenant_id = c.tenant_id and m.campaign_id = c.id and not m.test
where c.tenant_id = %s and c.id = %s group by c.tenant_id, c.id
"""


def run(claim: Claim) -> Outcome:
    """The job `campaigns.finish`."""
    campaign_id = UUID(claim.data["args"]["campaign"])
    with tenant_context(claim.tenant), transaction.atomic():
        hold(claim)
        verify(campaign_id)
        try:
            campaign = moves.locked(campaign_id)
        except CampaignNotFound:
            return Succeeded()
        if campaign.materialised_at is None:
            return Succeeded()
        if campaign.state in (S.RUNNING, S.PAUSED) and not campaign.remaining:
            if _is_replayed(campaign):
                return Snooze(LOOK_AGAIN, "more of it is about to be tried again")
            endings.complete(campaign)
        elif campaign.state == S.COMPLETED and campaign.remaining:
            _reopen(campaign)
    return Succeeded()


def _is_replayed(campaign: Campaign) -> bool:
    """Whether somebody has some of it tried again, who has not come to all of them."""
    rows = Replay.objects.filter(queue=lanes.QUEUE, finished_at=None)
    replays = list(rows.filter(action=Replay.Action.REPLAY, selection__lane=campaign.lane))
    return len(replaying.stuck(replays, using=DEFAULT_DB_ALIAS)) < len(replays)


def verify(campaign_id: UUID) -> None:
    """Compare the counters of a campaign with its messages, and put them right."""
    with connection.cursor() as cursor:
        cursor.execute("set local statement_timeout = '60s'")  # Millions take some seconds.
        cursor.execute(_DIFFERENCES, [require_tenant().id, campaign_id])
        row = cursor.fetchone()
        cursor.execute("reset statement_timeout")
    off = {name: count for name, count in zip(COUNTED, row or (), strict=False) if count}
    if not off or off.get("total", 0) < 0:  # Those of long ago are pruned (jobs.pruning).
        return
    log.error("campaign_miscounted", campaign=str(campaign_id), off=off)
    changes = {name: F(name) + count for name, count in off.items()}
    Campaign.objects.filter(pk=campaign_id).update(**changes)
    campaign = moves.locked(campaign_id)
    moves.record(campaign, "recounted", actor=endings.ACTOR, after={"off": off})


def _reopen(campaign: Campaign) -> None:
    """Some of it is tried again: it runs until these have come to their end too."""
    moves.move(campaign, S.RUNNING, finished_at=None)
    lanes.tell(campaign)
    endings.watch(campaign)
    moves.record(campaign, "reopened", actor=endings.ACTOR, after=endings.counters(campaign))
