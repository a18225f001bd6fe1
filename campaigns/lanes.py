"""What a campaign says to its lane: whether it sends, or from when on.

When its next quiet hours begin stands in its own row: from then on its messages wait, however late
the job is that shuts the lane.

Written in the transaction that changes the campaign, so that the engine never sees one without the
other. All else that holds messages back (a 429, a breaker, an operator) is in the account's lane.
"""

from datetime import UTC, datetime

from django.db import connection
from django.utils import timezone

from campaigns.models import Campaign
from campaigns.quiet import next_quiet, quiet_until
from campaigns.states import CampaignState
from jobs.services import wake_after_commit
from tenants.context import require_tenant

QUEUE = "messages"
NEVER = datetime(9999, 12, 31, tzinfo=UTC)  # What Python can read, unlike infinity.

_SAY = """
insert into jobs_lane (tenant_id, key, paused_until, paused_why) values (%s, %s, %s, %s)
on conflict (tenant_id, key) do update
  set paused_until = excluded.paused_until, paused_why = excluded.paused_why
"""


def tell(campaign: Campaign) -> None:
    """Let the lane be as the campaign is now. Written after the campaign's row (lock order)."""
    now = timezone.now()
    until, why = _said(campaign, now)
    _keep_quiet(campaign, now)
    with connection.cursor() as cursor:
        cursor.execute(_SAY, [require_tenant().id, campaign.lane, until, why])
    if until is None:
        wake_after_commit(QUEUE)


def _keep_quiet(campaign: Campaign, now: datetime) -> None:
    begins = next_quiet(campaign, now) if campaign.state == CampaignState.RUNNING else None
    if begins != campaign.quiet_from:
        Campaign.objects.filter(pk=campaign.pk).update(quiet_from=begins)
        campaign.quiet_from = begins


def _said(campaign: Campaign, now: datetime) -> tuple[datetime | None, str]:
    if campaign.state != CampaignState.RUNNING:
        return NEVER, f"the campaign is {campaign.state}"
    if campaign.send_until is not None and campaign.send_until <= now:
        return NEVER, "send_until has passed"
    quiet = quiet_until(campaign, now)
    return quiet, "quiet hours" if quiet else ""
