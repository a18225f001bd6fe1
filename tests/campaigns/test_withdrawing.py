"""Withdrawing: what waits of a campaign that sends no more, and what nobody may try again then."""

from datetime import timedelta

import pytest
from django.utils import timezone

from campaigns import endings, unknown
from campaigns.errors import StaleCampaign
from campaigns.models import Campaign
from jobs import replaying, selection
from jobs.errors import StaleState
from jobs.models import DeadLetter, Replay
from jobs.outcomes import Fail, Retry, Succeeded, Unknown
from jobs.services import replay
from jobs.states import State
from tenants.context import tenant_context
from tests.campaigns.workshop import ACTOR, OPERATOR

DOUBT = "perhaps sent: HTTP 500"


def end(campaign):
    """Its send_until has passed, for the database's clock as for ours."""
    rows = Campaign.objects.using(OPERATOR).filter(pk=campaign.pk)
    rows.update(send_until=timezone.now() - timedelta(minutes=1))


def decided_again(workshop, campaign):
    with tenant_context(workshop.tenant):
        unknown.decide(campaign_id=campaign.pk, to="again", actor=ACTOR, reason="again")


def test_what_an_earlier_try_has_perhaps_sent_becomes_unknown_and_keeps_saying_so(workshops):
    campaign = workshops.running(4)
    workshops.send(Retry(DOUBT), most=1)
    workshops.send(Retry("connection refused"), most=1)
    workshops.do("cancel", campaign, reason="wrong")
    workshops.work()
    assert workshops.counters(campaign) == workshops.counted(campaign)
    assert workshops.counters(campaign) == {
        "sent": 0, "failed": 0, "unknown": 1, "cancelled": 3, "total": 4,
    }  # fmt: skip
    (message,) = workshops.messages(campaign, state="unknown")
    assert (message.last_error, message.finished_at) == (DOUBT, None)
    assert workshops.waiting() == []


def test_it_goes_on_while_something_waits_that_it_did_not_see(workshop, monkeypatch):
    """A replay that began before send_until, and ended when it had gone by."""
    campaign = workshop.running(1)
    workshop.send(Fail("refused"))
    workshop.work()
    end(campaign)
    workshop.messages(campaign).update(state="pending")
    Campaign.objects.using(OPERATOR).filter(pk=campaign.pk).update(
        failed=0, state="running", finished_at=None
    )
    with tenant_context(workshop.tenant):
        endings.watch(workshop.fresh(campaign))
    monkeypatch.setattr("campaigns.withdrawing._chunk", lambda *_: None)
    assert workshop.work() == ["campaigns.withdraw"]
    assert workshop.waiting() == ["campaigns.withdraw"]
    monkeypatch.undo()
    workshop.jobs("campaigns.withdraw").update(due_at=timezone.now() - timedelta(seconds=9))
    workshop.work()
    assert workshop.fresh(campaign).state == "completed"
    assert workshop.counters(campaign)["cancelled"] == 1


def test_after_send_until_nothing_is_tried_again_by_anybody(workshop):
    campaign = workshop.running(3)
    workshop.send(Fail("refused"), most=1)
    workshop.send(Unknown(DOUBT), most=1)
    workshop.send(Succeeded())
    workshop.work()
    end(campaign)
    with pytest.raises(StaleCampaign):
        workshop.do("retry_failed", campaign, reason="again", unknown=True)
    with pytest.raises(StaleCampaign):
        decided_again(workshop, campaign)
    letter = DeadLetter.objects.using(OPERATOR).get(tenant_id=workshop.tenant.pk, resolved_at=None)
    with pytest.raises(StaleState):
        replay(dead_letter=letter, actor=ACTOR, reason="again")
    assert workshop.fresh(campaign).state == "completed"
    assert workshop.counted(campaign)["failed"] == workshop.counted(campaign)["unknown"] == 1


def test_a_replay_that_comes_to_its_chunks_after_send_until_leaves_its_campaign_complete(workshop):
    campaign = workshop.running(3)
    workshop.send(Fail("refused"), most=2)
    workshop.send(Succeeded())
    workshop.work()
    workshop.do("retry_failed", campaign, reason="again")
    end(campaign)
    assert "jobs.resolve" in workshop.work()
    assert workshop.fresh(campaign).state == "completed"
    assert workshop.counters(campaign)["failed"] == 2


def test_why_they_cannot_be_tried_again_is_said(workshop):
    campaign = workshop.running(1)
    workshop.send(Fail("refused"))
    end(campaign)
    chosen = selection.Selection(
        queue="messages", tenant_id=workshop.tenant.pk, states=(State.DEAD_LETTER,)
    )
    with tenant_context(workshop.tenant):
        seen = replaying.preview(chosen, action=Replay.Action.REPLAY, using="default")
    assert (seen.count, dict(seen.left_out)) == (0, {"too_late": 1})


def test_a_campaign_past_its_send_until_has_no_patience(workshop):
    campaign = workshop.running(1, on_unknown="retry")
    workshop.send(Unknown(DOUBT))
    assert unknown.patience_of(workshop.fresh(campaign), using=OPERATOR) != unknown.NEVER
    end(campaign)
    assert unknown.patience_of(workshop.fresh(campaign), using=OPERATOR) == unknown.NEVER
