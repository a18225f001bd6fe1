"""Campaigns whose preparation ended without a word: beat looks for them each minute.

A job that is out of attempts says so to its campaign itself. One that was killed or timed out with
its last attempt cannot: its letter is in the inbox, and its campaign would be prepared for ever.
"""

from uuid import UUID

from django.db import connections, transaction

from campaigns import endings, errands, moves
from campaigns.errors import CampaignNotFound
from campaigns.states import CampaignState
from tenants.context import NOWHERE, TenantRef, tenant_context

OPERATOR = "operator"
# For the tenant. Why stands in the letter, for operators: it may quote anything.
GIVEN_UP = "its preparation was given up"
# From the few letters that are open, not from the campaigns that there were.
_STUCK = """
select c.tenant_id, c.id from jobs_deadletter l
join jobs_job j on j.tenant_id = l.tenant_id and j.id = l.work_id
join campaigns_campaign c on c.tenant_id = j.tenant_id and c.id::text = j.args ->> 'campaign'
where l.queue = 'jobs' and l.resolved_at is null and j.kind = any(%s)
  and c.state in ('materialising', 'paused') and c.materialised_at is null
order by l.created_at limit 1000
"""


def tend() -> int:
    """Fail the campaigns whose job is dead; says how many. Needs the operator's login."""
    with connections[OPERATOR].cursor() as cursor:
        cursor.execute(_STUCK, [[errands.GENERATE, errands.MATERIALISE]])
        stuck = cursor.fetchall()
    return sum(_fail(tenant_id, campaign_id) for tenant_id, campaign_id in stuck)


def _fail(tenant_id: int, campaign_id: UUID) -> bool:
    """In its tenant's context; whether it still was to be failed."""
    # All that is written is in tables that the tenants share.
    with tenant_context(TenantRef(tenant_id, NOWHERE)), transaction.atomic():
        try:
            campaign = moves.locked(campaign_id)
        except CampaignNotFound:
            return False
        preparing = (CampaignState.MATERIALISING, CampaignState.PAUSED)
        if campaign.state not in preparing or campaign.materialised_at is not None:
            return False
        endings.fail(campaign, GIVEN_UP)
    return True
