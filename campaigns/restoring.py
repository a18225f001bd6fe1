"""After a restore (jobs.restoring): campaigns that may have begun since do not begin by themselves.

Their messages were made after the moment that the database shows, so there is none to mark: made
anew, they would all be sent again. So one that was being prepared is paused, one whose time has
come since is a draft again, and the follow-up of one that had come to its end is not made. Their
tenants decide.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from campaigns import errands, services
from campaigns.errors import CampaignNotFound, StaleCampaign
from campaigns.models import Campaign
from campaigns.states import CampaignState
from jobs.errors import StaleState
from jobs.models import Job
from jobs.services import OPERATOR, cancel
from jobs.states import WAITING, State
from tenants.context import tenant_context
from tenants.models import Tenant


def stop(
    *, since: datetime, until: datetime, actor: str, reason: str, dry_run: bool
) -> dict[str, int]:
    """SLIPWAY["RESTORED"]: says how many were stopped, or would be."""
    rows = Campaign.objects.using(OPERATOR).filter(created_at__lte=since)
    preparing = rows.filter(state=CampaignState.MATERIALISING)
    due = rows.filter(state=CampaignState.SCHEDULED, scheduled_at__lte=until)
    following = Job.objects.using(OPERATOR).filter(
        kind=errands.FOLLOW_UP,
        created_at__lte=since,
        due_at__lte=until,
        state__in=[State.PENDING, *WAITING],
    )
    found = {
        "campaigns paused": preparing.values_list("tenant_id", "pk"),
        "campaigns taken back": due.values_list("tenant_id", "pk"),
        "follow-ups cancelled": following.values_list("tenant_id", "pk"),
    }
    if dry_run:
        return {what: rows.count() for what, rows in found.items()}
    said: dict[str, Any] = {"actor": actor, "reason": reason}
    acts: dict[str, Callable[[Any], Any]] = {
        "campaigns paused": lambda key: services.pause(campaign_id=key, **said),
        "campaigns taken back": lambda key: services.take_back(campaign_id=key, **said),
        "follow-ups cancelled": lambda key: cancel(queue="jobs", work_id=key, **said),
    }
    return {what: sum(_did(acts[what], *one) for one in list(found[what])) for what in found}


def _did(act: Callable[[Any], Any], tenant_id: int, key: Any) -> bool:
    tenant = Tenant.objects.using(OPERATOR).filter(pk=tenant_id).first()
    if tenant is None:
        return False
    try:
        with tenant_context(tenant):
            act(key)
    except (StaleCampaign, CampaignNotFound, StaleState):  # Its tenant was quicker.
        return False
    return True
