"""Redis (Valkey) forgets everything, goes away, comes back: it carries hints, and nothing else."""

import signal
import time

from django.conf import settings

from config import celery
from config.redis import client
from tests.chaos.conftest import LONG, all_are, enqueue, in_state, state_of, traces, until

AWAY = 120 if LONG else 5  # Seconds.


def test_two_drainers_on_one_lane_do_every_work_once_while_redis_is_flushed(yard):
    first = yard.drain()
    works = enqueue("sleep 0.05", count=100)
    until(lambda: in_state("succeeded", works) > 0, 30)
    second = yard.drain()
    lane = works[0].tenant_id
    works += enqueue("sleep 0.05", count=200, tenant=lane)
    for done in range(50, 250, 50):  # A flush now and then, all along the way.
        until(lambda done=done: in_state("succeeded", works) >= done, 30)
        client().flushall()
    first.send(signal.SIGTERM)  # Whoever was quicker till now, the rest is the other's.
    until(lambda: not first.alive, 30)
    works += enqueue("sleep 0.05", count=50, tenant=lane)
    until(lambda: all_are("succeeded", works), 60)
    began = [trace for work in works for trace in traces(work, "began")]
    assert len(began) == len(works)
    assert {trace.pid for trace in began} == {first.pid, second.pid}
    assert most_at_once(works) <= 8  # The lane's window, over both.


def most_at_once(works) -> int:
    moments = []
    for work in works:
        moments += [(traces(work, "began")[0].at, 1), (traces(work, "ended")[0].at, -1)]
    running = most = 0
    for _, change in sorted(moments):
        running += change
        most = max(most, running)
    return most


def test_work_goes_on_while_redis_is_away_and_workers_come_back_with_it(yard, valkey):
    before, alone = yard.worker(wait=False), yard.drain(wait=False)
    for process in (before, alone):
        until(lambda process=process: yard.beating(process), 30)
    until(lambda: len(answering()) == 1, 30, before.said())
    valkey.stop()
    late = yard.worker()  # Its loop runs before there is a broker.
    ends_at = time.monotonic() + AWAY
    while time.monotonic() < ends_at:
        (work,) = enqueue("succeed")
        until(lambda work=work: state_of(work) == "succeeded", 2.5)
    valkey.start()
    until(lambda: len(answering()) == 2, 60, late.said())
    assert all(process.alive for process in (before, alone, late))
    asked = celery.app.control.inspect(timeout=3)._request("drainer")
    assert all(answer["running"] for answer in asked.values())


def answering() -> dict:
    """The workers whose consumer answers."""
    try:
        return celery.app.control.inspect(timeout=2).ping() or {}
    except (OSError, *celery.app.connection_for_read().connection_errors):
        return {}


def test_it_runs_without_a_broker_at_all(yard):
    assert settings.BROKER == "redis"  # This process's; the drainer's is none.
    yard.drain(SLIPWAY_BROKER="none", REDIS_URL="redis://127.0.0.1:1/0")
    (work,) = enqueue("succeed")
    until(lambda: state_of(work) == "succeeded", 2.5)
