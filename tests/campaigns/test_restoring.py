"""After a restore campaigns that may have begun since do not begin by themselves."""

from datetime import timedelta

import pytest
from django.utils import timezone

from campaigns import restoring
from campaigns.models import Campaign
from jobs import restoring as works
from jobs.models import Job

BY = {"actor": "system:terminal:ada", "reason": "restored"}


@pytest.fixture
def moments():
    """The database shows `since`; drainers stopped at `until`."""
    until = timezone.now() + timedelta(minutes=5)
    return {"since": timezone.now() + timedelta(minutes=1), "until": until}


def stop(moments, **more):
    return restoring.stop(**moments, **BY, **{"dry_run": False} | more)


def made_at(campaign: Campaign, **columns) -> None:
    Campaign.objects.using("operator").filter(pk=campaign.pk).update(**columns)


def test_one_that_was_being_prepared_is_paused_and_can_be_resumed(workshops, moments):
    workshops.add_many(3)
    campaign = workshops.create()
    assert workshops.fresh(campaign).state == "materialising"
    assert stop(moments, dry_run=True)["campaigns paused"] >= 1
    assert workshops.fresh(campaign).state == "materialising"
    assert stop(moments)["campaigns paused"] >= 1
    found = workshops.fresh(campaign)
    assert (found.state, found.reason) == ("paused", "restored")
    workshops.work()
    assert workshops.take() == []
    workshops.do("resume", campaign)
    assert len(workshops.take()) == 3


def test_one_whose_time_came_since_is_a_draft_again(workshop, moments):
    soon, later = (timezone.now() + timedelta(minutes=n) for n in (2, 60))
    due, waiting = workshop.create(scheduled_at=soon), workshop.create(scheduled_at=later)
    assert stop(moments)["campaigns taken back"] >= 1
    assert workshop.fresh(due).state == "draft"
    assert workshop.fresh(waiting).state == "scheduled"


def test_what_was_made_after_the_restore_is_left_alone(workshop, moments):
    workshop.add_many(1)
    campaign = workshop.create()
    made_at(campaign, created_at=moments["since"] + timedelta(seconds=1))
    stop(moments)
    assert workshop.fresh(campaign).state == "materialising"


def test_a_follow_up_that_was_due_since_is_not_made(workshop, moments):
    campaign = workshop.running(1)
    job = Job(
        tenant_id=workshop.tenant.pk, kind="campaigns.follow_up", lane="x", max_attempts=3,
        state="scheduled", due_at=moments["until"] - timedelta(minutes=1),
        args={"campaign": str(campaign.pk)},
    )  # fmt: skip
    Job.objects.using("operator").bulk_create([job])
    assert stop(moments)["follow-ups cancelled"] >= 1
    job.refresh_from_db(using="operator")
    assert job.state == "cancelled"


def test_messages_that_become_unknown_are_counted(workshop, moments):
    campaign = workshop.running(4)
    sent = works.release(since=moments["since"], **BY).marked["messages"]
    assert sent == 4
    assert workshop.counters(campaign) == workshop.counted(campaign)
    assert workshop.fresh(campaign).unknown == 4
