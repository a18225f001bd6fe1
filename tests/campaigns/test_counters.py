"""Counters: whatever happens to a campaign's messages, its numbers are those of the messages."""

import random
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import pytest
from django.db import OperationalError, connections, transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from campaigns import finishing
from campaigns.errors import NothingToRetry, StaleCampaign
from campaigns.models import Campaign
from campaigns.states import TRANSITIONS
from jobs import replaying, tallying
from jobs import services as jobs
from jobs.errors import StaleState
from jobs.models import DeadLetter
from jobs.outcomes import Fail, Retry, Snooze, Succeeded, Unknown
from jobs.registry import queue
from jobs.resolving import Act, Resolution, resolve
from jobs.selection import Selection, look
from jobs.states import State
from tenants.context import tenant_context
from tenants.models import AuditEntry
from tests.campaigns.workshop import ACTOR, OPERATOR
from tests.chaos.conftest import until
from webhooks.models import Event

ENDS = (Succeeded(), Succeeded(), Fail("no"), Unknown("?"), Retry("later"), Snooze(0.0, "wait"))


def state_of(workshop, campaign):
    return workshop.fresh(campaign).state


def agree(workshop, campaign):
    counted = workshop.counted(campaign)
    assert workshop.counters(campaign) == counted
    return counted


def test_they_are_right_after_whatever_happens(workshops):
    dice = random.Random(4)
    campaign = workshops.running(30)
    for _ in range(8):
        claims = workshops.take(dice.randint(1, 8))
        workshops.engine.settle(*((claim, dice.choice(ENDS)) for claim in claims))
        rows = workshops.messages(campaign, state__in=["failed", "scheduled"])
        rows.update(state="pending")
        some = list(workshops.messages(campaign).values_list("pk", flat=True))
        act = Act(dice.choice([Resolution.REPLAYED, Resolution.CANCELLED]), ACTOR, "dice")
        resolve(queue="messages", ids=dice.sample(some, 3), act=act, using=OPERATOR)
        agree(workshops, campaign)
    workshops.send(Succeeded())
    workshops.work()
    found = agree(workshops, campaign)
    assert sum(found[name] for name in ("sent", "failed", "unknown", "cancelled")) == 30
    assert state_of(workshops, campaign) == "completed"


def test_lost_messages_are_unknown_and_counted_so(workshop):
    campaign = workshop.running(3)
    drainer = workshop.engine.drainer()
    workshop.engine.claim("messages", drainer=drainer)
    workshop.engine.silence(drainer)
    workshop.rescue()
    assert agree(workshop, campaign)["unknown"] == 3
    workshop.work()
    assert state_of(workshop, campaign) == "completed"


def test_the_last_message_finishes_the_campaign_and_its_tenant_is_told(workshops):
    campaign = workshops.running(2)
    workshops.send(Succeeded(), most=1)
    assert workshops.work() == []
    workshops.send(Succeeded())
    assert workshops.work() == ["campaigns.finish"]
    found = workshops.fresh(campaign)
    assert found.state == "completed"
    assert found.finished_at is not None
    event = Event.objects.using(OPERATOR).get(tenant_id=workshops.tenant.pk)
    assert event.type == "campaign.completed"


def test_it_is_not_finished_while_a_replay_has_more_of_it_to_come(workshop, monkeypatch):
    """Replays go in chunks, and at a pace: one chunk may be sent before the next comes."""
    monkeypatch.setattr("jobs.replaying.CHUNK", 1)
    campaign = workshop.running(2)
    workshop.send(Fail("refused"))
    workshop.work()
    workshop.do("retry_failed", campaign, reason="again")
    replayed = workshop.claim("jobs.resolve")
    _one_chunk_of(replayed)
    workshop.work()
    workshop.send(Succeeded())
    assert workshop.work() == ["campaigns.finish"]
    assert state_of(workshop, campaign) == "running"
    _one_chunk_of(replayed)
    _one_chunk_of(replayed)
    workshop.send(Succeeded())
    workshop.jobs("campaigns.finish").update(due_at="2020-01-01T00:00Z")
    workshop.work()
    assert (state_of(workshop, campaign), agree(workshop, campaign)["sent"]) == ("completed", 2)
    entries = AuditEntry.objects.using(OPERATOR).filter(target=f"cmp_{campaign.pk}")
    assert entries.filter(action="campaign.completed").count() == 2  # First, and at last.


def _one_chunk_of(claim):
    with tenant_context(claim.tenant):
        replaying._one_chunk(claim, UUID(claim.data["args"]["replay"]), "default")


def test_campaigns_are_locked_in_the_order_of_their_ids(workshop):
    """Whoever counts for the same campaigns in another order waits, and is not deadlocked."""
    workshop.add_many(1)
    first, last = workshop.running(0), workshop.running(0)
    Campaign.objects.using(OPERATOR).filter(pk=first.pk).update(name="Moved behind the other")
    ids = [workshop.messages(one).get().pk for one in (last, first)]
    moves = [(id_, "pending", "succeeded") for id_ in ids]
    pids = []

    def count():
        try:
            pids.append(_pid())
            with transaction.atomic(using=OPERATOR):
                tallying.tally(queue("messages"), moves, OPERATOR)
        finally:
            connections[OPERATOR].close()

    with ThreadPoolExecutor(1) as threads:
        with transaction.atomic(using=OPERATOR):
            _lock(last)
            counting = threads.submit(count)
            until(lambda: _waits(pids), 5)
            with pytest.raises(OperationalError), transaction.atomic(using=OPERATOR):
                _lock(first)
        counting.result()
    assert (workshop.fresh(first).sent, workshop.fresh(last).sent) == (1, 1)


def _lock(campaign):
    rows = Campaign.objects.using(OPERATOR).select_for_update(nowait=True)
    rows.get(pk=campaign.pk)


def _pid():
    with connections[OPERATOR].cursor() as cursor:
        cursor.execute("select pg_backend_pid()")
        return cursor.fetchone()[0]


def _waits(pids):
    with connections[OPERATOR].cursor() as cursor:
        cursor.execute(
            "select exists (select from pg_locks where not granted and pid = any(%s))", [pids]
        )
        return cursor.fetchone()[0]


def test_trying_again_comes_to_its_campaign_past_all_others_of_its_tenant(workshop, monkeypatch):
    monkeypatch.setattr("jobs.selection.LOOKED_AT", 2)  # In one statement.
    workshop.running(5)
    campaign = workshop.create()
    workshop.work()
    message = workshop.messages(campaign)[0]
    workshop.messages(campaign, pk=message.pk).update(state="unknown")
    states = (State.DEAD_LETTER, State.UNKNOWN)
    for lane in (campaign.lane, "campaign:none", "other"):
        chosen = Selection(queue="messages", tenant_id=workshop.tenant.pk, states=states, lane=lane)
        found = look(chosen, place="", most=10, using=OPERATOR)
        assert list(found.ids) == ([message.pk] if lane == campaign.lane else [])


def test_a_counter_that_is_wrong_is_put_right_and_told(workshop):
    campaign = workshop.running(2)
    workshop.send(Succeeded(), most=1)
    Campaign.objects.using(OPERATOR).filter(pk=campaign.pk).update(sent=0, failed=7)
    workshop.send(Succeeded())
    workshop.work()
    assert agree(workshop, campaign)["sent"] == 2
    entry = AuditEntry.objects.using(OPERATOR).get(
        target=f"cmp_{campaign.pk}", action="campaign.recounted"
    )
    assert entry.after == {"off": {"sent": 1, "failed": -7}}
    assert state_of(workshop, campaign) == "completed"


def test_it_is_not_finished_while_something_remains(workshop):
    campaign = workshop.running(2)
    Campaign.objects.using(OPERATOR).filter(pk=campaign.pk).update(sent=1)
    workshop.send(Succeeded(), most=1)
    assert workshop.work() == ["campaigns.finish"]
    assert agree(workshop, campaign)["sent"] == 1
    assert state_of(workshop, campaign) == "running"


def test_a_replayed_letter_has_a_completed_campaign_run_again(workshops):
    campaign = workshops.running(2)
    workshops.send(Fail("refused"), most=1)
    workshops.send(Succeeded())
    workshops.work()
    assert workshops.take() == []
    letter = DeadLetter.objects.using(OPERATOR).get(tenant_id=workshops.tenant.pk, resolved_at=None)
    jobs.replay(dead_letter=letter, actor=ACTOR, reason="again")
    assert workshops.take() == []  # Not before the campaign runs again.
    assert workshops.work() == ["campaigns.finish"]
    assert state_of(workshops, campaign) == "running"
    workshops.send(Succeeded())
    workshops.work()
    assert (state_of(workshops, campaign), agree(workshops, campaign)["sent"]) == ("completed", 2)


def test_what_a_cancelled_campaign_failed_to_send_is_not_tried_again(workshop):
    campaign = workshop.running(2)
    workshop.send(Fail("refused"), most=1)
    workshop.do("cancel", campaign, reason="no")
    workshop.work()
    letter = DeadLetter.objects.using(OPERATOR).get(tenant_id=workshop.tenant.pk, resolved_at=None)
    with pytest.raises(StaleState):
        jobs.replay(dead_letter=letter, actor=ACTOR, reason="again")
    assert agree(workshop, campaign) == {
        "sent": 0, "failed": 1, "unknown": 0, "cancelled": 1, "total": 2,
    }  # fmt: skip


def test_a_finish_that_comes_twice_finishes_once(workshop):
    campaign = workshop.running(1)
    workshop.send(Succeeded())
    claim = workshop.claim("campaigns.finish")
    finishing.run(claim)
    finishing.run(claim)
    actions = AuditEntry.objects.using(OPERATOR).filter(target=f"cmp_{campaign.pk}")
    assert actions.filter(action="campaign.completed").count() == 1


MOVES = ("pause", "resume", "cancel", "retry_failed", "work", "send", "fail", "lose")


@settings(
    max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(moves=st.lists(st.sampled_from(MOVES), min_size=3, max_size=8))
def test_whatever_is_done_in_whatever_order_every_move_is_one_of_the_table(workshop, moves):
    campaign = workshop.running(4)
    for name in moves:
        before = state_of(workshop, campaign)
        _make(workshop, campaign, name)
        after = state_of(workshop, campaign)
        if name != "work" and before != after:
            assert (before, after) in TRANSITIONS
        agree(workshop, campaign)
        paused = after in ("paused", "cancelled", "completed")
        assert workshop.is_shut(campaign) == paused


def _make(workshop, campaign, name):
    match name:
        case "work":
            workshop.work()
        case "send" | "fail" | "lose":
            ends = {"send": Succeeded(), "fail": Fail("no"), "lose": Unknown("?")}
            workshop.send(ends[name], most=1)
        case _:
            reason = {} if name == "resume" else {"reason": "because"}
            try:
                workshop.do(name, campaign, **reason)
            except (StaleCampaign, NothingToRetry):
                return


def test_two_that_pause_and_resume_at_once_leave_state_and_lane_as_one(workshop):
    campaign = workshop.running(1)
    for _ in range(3):
        workshop.do("pause", campaign, reason="hm")
        with pytest.raises(StaleCampaign):
            workshop.do("pause", campaign, reason="hm")
        assert workshop.is_shut(campaign)
        workshop.do("resume", campaign)
        assert not workshop.is_shut(campaign)
