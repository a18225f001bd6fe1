"""A schedule that changes while deliveries wait: the one in force counts, from the next try on."""

from datetime import UTC, datetime, timedelta

import pytest

from jobs import services
from tests.chaos.conftest import until
from tests.people import tenant_key
from tests.webhooks.hooks import came_to, draining, letter_of
from tests.webhooks.test_endpoints import Api
from webhooks.models import Delivery


@pytest.fixture
def api(client, tenant):
    return Api(client, tenant_key(tenant))


def change(api, hook, schedule):
    answer = api.change(f"ep_{hook.endpoint.pk}", schedule=schedule)
    assert answer.status_code == 200, answer.content


def tried(hook, times: int) -> None:
    """Wait until the delivery has so many attempts, and is at rest."""
    until(lambda: hook.states != ["processing"] and len(came_to(hook.delivery)) == times, 10)


def waits(hook) -> float:
    return (hook.delivery.due_at - datetime.now(UTC)).total_seconds()


def test_a_schedule_that_is_emptied_makes_the_next_failure_the_last(hooks, api):
    hook = hooks.endpoint("status", 500)
    hooks.publish(n=1)
    with draining():
        tried(hook, 1)
        change(api, hook, [])
        hook.hasten()
        until(lambda: hook.states == ["dead_letter"], 10)
    assert letter_of(hook.delivery).reason == "exhausted"
    assert hook.delivery.last_error == "HTTP 500"
    assert (hook.delivery.attempts, hook.delivery.max_attempts) == (2, 2)


def test_a_schedule_that_is_shortened_leaves_no_more_tries_than_it_says(hooks, api):
    hook = hooks.endpoint("status", 500, schedule=[1] * 9)
    hooks.publish(n=1)
    change(api, hook, [3600])
    with draining():
        tried(hook, 1)
        assert (hook.states, hook.delivery.max_attempts) == (["failed"], 2)
        assert waits(hook) == pytest.approx(3600, rel=0.25)
        hook.hasten()
        until(lambda: hook.states == ["dead_letter"], 10)
    assert len(hook.seen) == 2


def test_a_schedule_that_is_lengthened_gives_what_waits_the_tries_that_it_says(hooks, api):
    hook = hooks.endpoint("status", 500, schedule=[])
    hooks.publish(n=1)
    change(api, hook, [1, 3600, 7200])
    with draining():
        tried(hook, 1)
        assert (hook.states, hook.delivery.max_attempts) == (["failed"], 4)
        hook.hasten()
        tried(hook, 2)
    assert waits(hook) == pytest.approx(3600, rel=0.25)


def test_a_replay_begins_the_schedule_anew_whatever_it_was_when_the_delivery_died(hooks, api):
    hook = hooks.endpoint("status", 500, schedule=[])
    hooks.publish(n=1)
    with draining():
        until(lambda: hook.states == ["dead_letter"], 10)
        services.replay_work(
            queue="deliveries", work_id=hook.delivery.pk, actor="operator:a", reason="mended"
        )
        until(lambda: len(hook.seen) == 2 and hook.states == ["dead_letter"], 10)
        change(api, hook, [3600, 7200])
        services.replay_work(
            queue="deliveries", work_id=hook.delivery.pk, actor="operator:a", reason="mended"
        )
        until(lambda: hook.states == ["failed"], 10)
    assert (hook.delivery.attempts, hook.delivery.max_attempts) == (3, 5)
    assert waits(hook) == pytest.approx(3600, rel=0.25)


def test_429s_to_old_deliveries_pause_their_endpoint_and_burn_nothing(hooks):
    hook = hooks.endpoint("retry-after", "429", "30")
    for n in range(5):
        hooks.publish(n=n)
    rows = Delivery.objects.using("operator").filter(endpoint_id=hook.endpoint.pk)
    rows.update(created_at=datetime.now(UTC) - timedelta(days=12))
    with draining():
        until(lambda: hook.lane is not None and "processing" not in hook.states, 10)
    assert hook.states == ["pending"] * 5
    assert [one.attempts for one in hook.deliveries] == [0] * 5
    assert hook.lane.paused_until > datetime.now(UTC) + timedelta(seconds=15)
    assert len(hook.seen) <= 5


def test_a_429_after_five_days_of_them_costs_an_attempt_and_pauses_the_endpoint_all_the_same(hooks):
    hook = hooks.endpoint("retry-after", "429", "30")
    hooks.publish(n=1)
    rows = Delivery.objects.using("operator").filter(endpoint_id=hook.endpoint.pk)
    rows.update(throttled_since=datetime.now(UTC) - timedelta(days=6))
    with draining():
        until(lambda: hook.states == ["failed"], 10)
    assert (hook.delivery.attempts, hook.delivery.priority) == (1, 1)
    assert waits(hook) >= 25  # Retry-After is a floor for the next try, too.
    assert hook.lane.paused_until > datetime.now(UTC) + timedelta(seconds=15)
