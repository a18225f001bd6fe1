"""The job `campaigns.follow_up`: a second campaign, to those who did not read the first.

A campaign of its own, with an id made of its parent's: there is one, however often the job runs.
Its audience are the parent's messages (campaigns.materialising); consent is asked again.
"""

from datetime import timedelta
from typing import cast
from uuid import UUID, uuid5

from django.db import transaction
from django.utils import timezone

from campaigns import endings, errands, moves
from campaigns.checking import NAME_MOST
from campaigns.errors import CampaignNotFound
from campaigns.models import Campaign
from campaigns.states import CampaignState
from jobs.fence import hold
from jobs.outcomes import Outcome, Succeeded
from jobs.steps import Claim
from tenants.context import tenant_context

_SUFFIX = " (follow-up)"


def child_id(parent: UUID) -> UUID:
    """The id of a campaign's follow-up."""
    return uuid5(parent, "follow_up")


def run(claim: Claim) -> Outcome:
    """The job `campaigns.follow_up`."""
    with tenant_context(claim.tenant), transaction.atomic():
        hold(claim)
        try:
            parent = moves.locked(UUID(claim.data["args"]["campaign"]))
        except CampaignNotFound:
            return Succeeded()
        if _is_due(parent) and not Campaign.objects.filter(pk=child_id(parent.pk)).exists():
            child = _child(parent)
            child.save(force_insert=True)
            errands.leave(child, errands.GENERATE)
            after = {"parent": str(parent.pk), "state": str(child.state)}
            moves.record(child, "created", actor=endings.ACTOR, after=after)
    return Succeeded()


def _is_due(parent: Campaign) -> bool:
    """Whether it came to its end so long ago: one that was reopened has another end.

    Without its account there is nothing to send it through.
    """
    if parent.state != CampaignState.COMPLETED or parent.finished_at is None:
        return False
    after = timedelta(seconds=cast("dict[str, float]", parent.follow_up)["after"])
    return parent.finished_at + after <= timezone.now() and endings.has_account(parent)


def _child(parent: Campaign) -> Campaign:
    said = parent.follow_up or {}
    return Campaign(
        id=child_id(parent.pk),
        tenant_id=parent.tenant_id,
        parent_id=parent.pk,
        name=parent.name[: NAME_MOST - len(_SUFFIX)] + _SUFFIX,
        state=CampaignState.MATERIALISING,
        account_id=parent.account_id,
        template_id=UUID(said["template_id"]),
        brief={"template": said["template"]},
        variables=said["variables"],
        quiet_hours=parent.quiet_hours,
        time_zone=parent.time_zone,
        on_unknown=parent.on_unknown,
        actor=parent.actor,
    )
