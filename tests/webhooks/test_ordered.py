"""Ordered endpoints: one event after the other, in the order in which they were published."""

import random
import time

import pytest

from jobs import services
from jobs.errors import ReasonMissing
from jobs.models import Lane
from tests.chaos.conftest import open_yard, until
from tests.webhooks.hooks import bury, came_to, draining, letter_of


def test_events_arrive_in_order_from_three_drainers_whatever_fails(hooks):
    dice = random.Random(7)
    moods = ["ok", "ok", "ok", "status/500", "close", "reset-in-body"]
    script = [dice.choice(moods) for _ in range(40)]
    hook = hooks.scripted(*script, "ok", ordered=True, schedule=[0] * 20)
    for n in range(25):
        hooks.publish(n=n)
    with draining(drainers=3):
        until(lambda: hook.states == ["succeeded"] * 25, 60)
    assert hook.numbers == sorted(hook.numbers)  # Repeated, and never overtaken.
    assert set(hook.numbers) == set(range(25))
    assert len(hook.numbers) > 25


def test_a_failing_head_blocks_its_own_endpoint_and_no_other(hooks):
    failing = hooks.endpoint("status", 500, ordered=True)
    other = hooks.endpoint(ordered=True)
    for n in range(4):
        hooks.publish(n=n)
    with draining():
        until(lambda: other.states == ["succeeded"] * 4, 10)
        until(lambda: failing.states == ["failed", "pending", "pending", "pending"], 10)
    assert failing.numbers == [0]
    assert other.numbers == [0, 1, 2, 3]


def test_a_dead_head_blocks_until_an_operator_skips_it_with_a_reason(hooks):
    hook = hooks.scripted("status/500", "ok", ordered=True, schedule=[])
    for n in range(3):
        hooks.publish(n=n)
    with draining():
        until(lambda: hook.states == ["dead_letter", "pending", "pending"], 10)
        time.sleep(0.3)  # Some looks, in which nothing may start.
        head = {"queue": "deliveries", "work_id": hook.deliveries[0].pk, "actor": "operator:a"}
        with pytest.raises(ReasonMissing):
            services.skip(**head, reason=" ")
        assert hook.numbers == [0]
        services.skip(**head, reason="They know of it.")
        until(lambda: hook.states == ["discarded", "succeeded", "succeeded"], 10)
    assert hook.numbers == [0, 1, 2]


def test_a_dead_head_that_is_replayed_goes_first(hooks):
    hook = hooks.scripted("status/500", "ok", ordered=True, schedule=[])
    for n in range(3):
        hooks.publish(n=n)
    with draining():
        until(lambda: hook.states == ["dead_letter", "pending", "pending"], 10)
        letter = letter_of(hook.deliveries[0])
        services.replay(dead_letter=letter, actor="operator:a", reason="It is mended.")
        until(lambda: hook.states == ["succeeded"] * 3, 10)
    assert hook.numbers == [0, 0, 1, 2]
    assert len(set(hook.inbox.counts)) == 3  # The replay had the id of the first try.


def test_what_was_finished_and_is_replayed_goes_behind_fresh_work(hooks):
    hook = hooks.endpoint(ordered=True)
    one_at_a_time = Lane(tenant_id=hooks.tenant.pk, key=hook.endpoint.lane, window=1)
    one_at_a_time.save(using="operator", force_insert=True)
    for n in range(3):
        hooks.publish(n=n)
    with draining():
        until(lambda: hook.states == ["succeeded"] * 3, 10)
    for done in hook.deliveries:
        again = {"queue": "deliveries", "work_id": done.pk, "actor": "operator:a"}
        services.replay_work(**again, reason="They lost them.")
    assert [one.seq for one in hook.deliveries] == [None] * 3
    hooks.publish(n=100)
    with draining():
        until(lambda: hook.states == ["succeeded"] * 4, 10)
    assert hook.numbers[:4] == [0, 1, 2, 100]
    assert sorted(hook.numbers[4:]) == [0, 1, 2]


def test_a_throttled_head_stays_the_head(hooks):
    hook = hooks.scripted("retry-after/429/1", "ok", ordered=True)
    for n in range(3):
        hooks.publish(n=n)
    with draining():
        until(lambda: hook.states == ["succeeded"] * 3, 15)
    assert hook.numbers == [0, 0, 1, 2]


@pytest.mark.thorough
def test_order_outlives_a_drainer_that_is_killed(hooks, tmp_path):
    with open_yard(tmp_path) as yard:
        hook = hooks.endpoint("slow", 0.05, ordered=True)
        for n in range(30):
            hooks.publish(n=n)
        doomed = yard.drain(wait=False)
        until(lambda: len(hook.seen) >= 5, 60, doomed.said())
        doomed.kill()
        bury(doomed.pid)
        with draining(drainers=2):
            until(lambda: hook.states == ["succeeded"] * 30, 30)
    assert hook.numbers == sorted(hook.numbers)
    assert set(hook.numbers) == set(range(30))
    twice = [one for one in hook.deliveries if "lost" in came_to(one)]
    assert len(hook.numbers) <= 30 + len(twice)  # What came twice, the log explains.
