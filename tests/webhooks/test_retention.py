"""What events say goes with its day; what somebody still needs of it stays until they do not."""

import json
from datetime import UTC, date, datetime, time, timedelta
from io import StringIO

import pytest
from django.core.management import call_command
from django.db import connections

from jobs import keeping, partitions, pruning
from jobs.models import DeadLetter
from tests.jobs.conftest import withdraw_everything
from tests.webhooks.letters import OPERATOR, Desk, attempt, change, fresh, letter_of, outside
from webhooks import retention
from webhooks.models import Delivery, Event, Payload

OLD = datetime.now(UTC) - timedelta(days=100)


@pytest.fixture
def desk(client, tenant):
    withdraw_everything()
    return Desk(client, tenant)


@pytest.fixture
def old_day():
    """A partition of payloads that is past its retention."""
    day = OLD.date()
    with connections["owner"].cursor() as cursor:
        if day not in partitions.existing(cursor, parent="webhooks_payload"):
            partitions.make(cursor, [day], parent="webhooks_payload")
    return day


def age(delivery, **columns):
    """As if it had been published a hundred days ago."""
    rows = Payload.objects.using(OPERATOR).filter(event_id=delivery.event_id)
    data = rows.get().data
    rows.delete()
    Event.objects.using(OPERATOR).filter(pk=delivery.event_id).update(created_at=OLD)
    Payload(
        event_id=delivery.event_id, tenant_id=delivery.tenant_id, created_at=OLD, data=data
    ).save(using=OPERATOR, force_insert=True)
    return change(delivery, created_at=OLD, **columns)


def event_of(delivery):
    return Event.objects.using(OPERATOR).filter(pk=delivery.event_id).first()


def drop_old():
    out = StringIO()
    call_command("partitions", "--json", stdout=out)
    return json.loads(out.getvalue())


def prune():
    for sort in pruning.sorts():
        pruning.prune(sort)


def days_of_payloads() -> set[date]:
    with connections["owner"].cursor() as cursor:
        return partitions.existing(cursor, parent="webhooks_payload")


def test_a_dead_letter_can_be_replayed_after_its_payloads_partition_was_dropped(desk, old_day):
    desk.endpoint()
    (dead,) = desk.dead(amount=7)
    age(dead)
    assert partitions.name_of(old_day, parent="webhooks_payload") in drop_old()["dropped"]
    assert old_day not in days_of_payloads()
    assert not Payload.objects.using(OPERATOR).filter(event_id=dead.event_id).exists()
    answer = desk.post(f"deliveries/{outside('dlv', dead)}/replay", reason="at last")
    assert answer.status_code == 202
    from jobs import columns
    from jobs.registry import queue

    carried = columns.of_works(queue("deliveries"), [dead.pk], using=OPERATOR)
    assert json.loads(carried[dead.pk]["payload"])["amount"] == 7


@pytest.mark.parametrize("state", ["pending", "failed", "held", "scheduled", "processing"])
def test_what_is_not_finished_keeps_what_it_has_to_say(desk, old_day, state):
    desk.endpoint()
    (delivery,) = desk.deliveries(desk.publish(n=1))
    age(delivery, state=state)
    drop_old()
    assert json.loads(event_of(delivery).kept_payload)["n"] == 1


@pytest.mark.parametrize("state", ["succeeded", "discarded", "cancelled"])
def test_what_is_finished_keeps_nothing(desk, old_day, state):
    desk.endpoint()
    (delivery,) = desk.deliveries(desk.publish(n=1))
    age(delivery, state=state, finished_at=datetime.now(UTC))
    drop_old()
    assert event_of(delivery).kept_payload is None
    assert old_day not in days_of_payloads()


def test_a_day_that_somebody_still_needs_is_not_dropped(desk, old_day, monkeypatch):
    desk.endpoint()
    (dead,) = desk.dead()
    age(dead)
    monkeypatch.setattr(retention, "_KEEP", "select null::bigint, null::uuid where false")
    answer = drop_old()
    name = partitions.name_of(old_day, parent="webhooks_payload")
    assert name in answer["refused"]
    assert name not in answer["dropped"]
    assert Payload.objects.using(OPERATOR).filter(event_id=dead.event_id).exists()


def test_many_payloads_are_looked_at_batch_by_batch(desk, old_day, monkeypatch):
    monkeypatch.setattr(retention, "AT_ONCE", 2)
    desk.endpoint()
    dead = [age(one) for one in desk.dead(5)]
    assert retention.keep_needed(old_day)
    assert all(event_of(one).kept_payload for one in dead)


def test_a_dead_letter_keeps_what_it_needs_until_it_is_resolved_and_then_lets_it_go(desk, old_day):
    desk.endpoint()
    (dead,) = desk.dead()
    age(dead)
    drop_old()
    prune()
    assert event_of(dead).kept_payload is not None
    change(dead, state="discarded", finished_at=datetime.now(UTC))
    prune()
    assert event_of(dead).kept_payload is None


def test_a_finished_delivery_and_then_its_event_go_after_ninety_days(desk, old_day):
    desk.endpoint()
    old, recent, dead = desk.dead(3)
    age(old, state="succeeded", finished_at=OLD)
    age(recent, state="succeeded", finished_at=datetime.now(UTC))
    age(dead)
    prune()
    left = Delivery.objects.using(OPERATOR).filter(tenant_id=desk.owner.pk)
    assert {one.pk for one in left} == {recent.pk, dead.pk}
    assert event_of(old) is None
    assert event_of(recent)
    assert letter_of(fresh(dead)).resolved_at is None


def test_an_event_that_nobody_heard_goes_too(desk):
    silent, fresh_one = desk.publish(), desk.publish()
    Event.objects.using(OPERATOR).filter(pk=silent.pk).update(created_at=OLD)
    prune()
    left = Event.objects.using(OPERATOR).filter(pk__in=[silent.pk, fresh_one.pk])
    assert [event.pk for event in left] == [fresh_one.pk]


def test_what_was_pruned_does_not_look_as_if_it_were_missing(desk):
    desk.endpoint()
    (delivery,) = desk.deliveries(desk.publish())
    age_of = {"created_at": OLD}
    Event.objects.using(OPERATOR).filter(pk=delivery.event_id).update(kept_payload="{}", **age_of)
    Delivery.objects.using(OPERATOR).filter(pk=delivery.pk).delete()
    counted = desk.post("replays", missing=True, since="2020-01-01T00:00:00Z", dry_run=True)
    assert counted.json()["count"] == 0


@pytest.fixture
def old_attempts():
    """A partition of attempts that is past its retention."""
    day = (datetime.now(UTC) - timedelta(days=40)).date()
    with connections["owner"].cursor() as cursor:
        if day not in partitions.existing(cursor):
            partitions.make(cursor, [day])
    return datetime.combine(day, time(12), UTC)


def tried(desk, delivery, query=""):
    return desk.get(f"deliveries/{outside('dlv', delivery)}/attempts{query}").json()


def test_an_open_dead_letter_keeps_every_attempt_after_its_partition_was_dropped(
    desk, old_attempts
):
    desk.endpoint()
    dead, done = desk.dead(2)
    change(done, state="succeeded")
    DeadLetter.objects.using(OPERATOR).filter(work_id=done.pk).update(resolved_at=old_attempts)
    sent = {"method": "POST", "headers": {"webhook-id": "evt_1"}}
    for number in (1, 2):
        told = {"number": number, "request": sent, "response": {"status": 500, "body": "no"}}
        for delivery in (dead, done):
            attempt(delivery, started_at=old_attempts, **told)
    attempt(dead, number=3, started_at=datetime.now(UTC), request=sent)
    before = tried(desk, dead)
    assert [one["number"] for one in before["data"]] == [1, 2, 3]
    keeping.keep_attempts(old_attempts.date())
    assert tried(desk, dead) == before  # Copied, and not yet dropped: none is shown twice.
    assert partitions.name_of(old_attempts.date()) in drop_old()["dropped"]
    assert tried(desk, dead) == before
    assert len(letter_of(dead).attempts) == 2
    assert tried(desk, done)["data"] == []
    first = tried(desk, dead, "?limit=2")
    then = tried(desk, dead, f"?limit=2&cursor={first['next_cursor']}")
    assert first["data"] + then["data"] == before["data"]


def test_a_letter_keeps_so_many_attempts_and_the_last_ones(desk, old_attempts, monkeypatch):
    monkeypatch.setattr(keeping, "MOST", 3)
    monkeypatch.setattr(keeping, "AT_ONCE", 1)
    desk.endpoint()
    for delivery in desk.dead(2):
        for number in range(1, 6):
            attempt(delivery, number=number, started_at=old_attempts)
    keeping.keep_attempts(old_attempts.date())
    for delivery in desk.deliveries():
        assert [one["number"] for one in letter_of(delivery).attempts] == [3, 4, 5]


def test_payloads_have_partitions_two_weeks_ahead(old_day):
    drop_old()
    today = datetime.now(UTC).date()
    assert {today, today + timedelta(days=14)} <= days_of_payloads()
