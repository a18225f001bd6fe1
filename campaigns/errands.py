"""What a campaign's jobs are called, and how each is left to be done.

Their ids are made of the campaign's: one of each, however often it is asked for.
"""

from datetime import datetime
from typing import Any
from uuid import UUID, uuid5

from django.utils import timezone

from campaigns.models import Campaign
from campaigns.quiet import next_quiet
from jobs.services import enqueue
from tenants.context import require_tenant

GENERATE = "campaigns.generate"
MATERIALISE = "campaigns.materialise"
START = "campaigns.start"
EXPIRE = "campaigns.expire"
QUIET = "campaigns.quiet"
WITHDRAW = "campaigns.withdraw"
FINISH = "campaigns.finish"
FOLLOW_UP = "campaigns.follow_up"


def job_id(campaign: Campaign, kind: str, at: datetime | None = None) -> UUID:
    """The id of a campaign's job of this kind: of that for a moment, where there are several."""
    return uuid5(campaign.pk, f"{kind} {at.isoformat()}" if at else kind)


def leave(
    campaign: Campaign,
    kind: str,
    *,
    due_at: datetime | None = None,
    again: bool = False,
    **args: Any,
) -> None:
    """Have a job done for a campaign, in the caller's transaction: once, unless `again` says so.

    Each in a lane of its own: one that is slow, or fails, keeps no other campaign waiting. It is
    another than the campaign's own lane, which is shut while it is prepared.
    """
    enqueue(
        kind,
        tenant_id=require_tenant().id,
        args={"campaign": str(campaign.pk), **args},
        lane=f"{kind}:{campaign.pk}",
        due_at=due_at,
        once=None if again else job_id(campaign, kind, due_at),
    )


def leave_quiet(campaign: Campaign) -> None:
    """Have the lane look at its quiet hours when they begin the next time."""
    begins = next_quiet(campaign, timezone.now())
    if begins is not None:
        leave(campaign, QUIET, due_at=begins)
