"""Rests: how long a drainer leaves a queue alone whose claims find nothing, and what ends that."""

import time
from datetime import UTC, datetime, timedelta

import pytest

from jobs import hints, lanes
from jobs.engine import drainer as looping
from jobs.engine import serving as resting
from jobs.engine.claim import Taken
from jobs.engine.serving import Round, Serving
from jobs.registry import queue
from tests.jobs.conftest import drain, fresh
from tests.works.models import Missive

SAID = {"actor": "operator:1", "reason": "because"}


@pytest.fixture
def restless(monkeypatch):
    """Loops that rest as long as may be after each round that found nothing, and look seldom."""
    monkeypatch.setattr(resting, "CHEAP", 0.0)
    monkeypatch.setattr(resting, "REST", 1e6)
    monkeypatch.setattr(looping, "POLL", 60.0)


def test_a_hint_of_something_new_ends_a_rest(engine, restless):
    lanes.pause(
        key="shut",
        tenant_id=(tenant := engine.tenant()),
        until=datetime.now(UTC) + timedelta(hours=1),
        **SAID,
    )
    engine.add(Missive, tenant=tenant, lane="shut")
    made = []

    def rests(drainer):
        serving = drainer._serving["missives"]
        if not made and serving.too_soon() > 3:
            made.extend(engine.add(Missive))
            made.append(time.monotonic())
            hints.send("missives")

    def done(*_):
        return made and fresh(made[0]).state == "succeeded"

    drain(done, name="missives", meanwhile=rests)
    assert time.monotonic() - made[1] < 2  # And not five.


def test_a_rest_ends_early_for_what_is_new(engine):
    one = Serving(queue("telegrams"))
    round_in_vain(one)
    assert one.too_soon() > 0.3
    assert one.has_news(promoted=0, newest=Missive().pk)
    assert one.too_soon() <= 0.05


def test_waiting_for_a_pace_is_not_fruitless():
    one = Serving(queue("missives"))
    waiting = Round(one)
    there = frozenset({(1, "there")})
    waiting.begin()
    waiting.claimed(
        Taken([], exhausted=True, ended=True, contended=False, after=None, took=1.0, waiting=there)
    )
    waiting.close()
    assert one.too_soon() <= 0.02


def test_what_is_new_in_a_paced_queue_does_not_wait_for_works_that_end(engine, monkeypatch):
    monkeypatch.setattr(resting.time, "monotonic", lambda: 1000.0)
    one = Serving(queue("missives"))
    one.claimed_at = 1000.0
    assert one.too_soon() == pytest.approx(0.02)
    one.hinted = True
    assert one.too_soon() == pytest.approx(0.005)


def shut(engine):
    """A work whose lane is paused."""
    until = datetime.now(UTC) + timedelta(hours=1)
    lanes.pause(key="shut", tenant_id=(tenant := engine.tenant()), until=until, **SAID)
    return engine.add(Missive, tenant=tenant, lane="shut")[0]


def test_a_lane_that_is_resumed_ends_a_rest(engine, restless):
    work, resumed = shut(engine), []

    def rests(drainer):
        if not resumed and drainer._serving["missives"].too_soon() > 3:
            lanes.resume(key="shut", tenant_id=work.tenant_id, **SAID)
            resumed.append(time.monotonic())

    drain(lambda *_: fresh(work).state == "succeeded", name="missives", meanwhile=rests)
    assert time.monotonic() - resumed[0] < 2  # And not five.


def test_a_flood_of_hints_does_not_defeat_a_rest(engine, restless, monkeypatch):
    shut(engine)
    rounds, begun = [], []
    monkeypatch.setattr(Round, "close", watched(Round.close, rounds))

    def flood(drainer):
        if begun or drainer._serving["missives"].too_soon() > 3:
            begun.append((time.monotonic(), len(rounds)))
            hints.send("missives")

    drain(lambda *_: begun and time.monotonic() > begun[0][0] + 2, name="missives", meanwhile=flood)
    assert len(begun) > 20
    assert len(rounds) - begun[0][1] <= 1  # The first hint's, and then they wait for five seconds.


def watched(close, rounds):
    """As it is, and remembered where it claimed anything."""

    def closed(one):
        if one.serving.claimed_at not in rounds:
            rounds.append(one.serving.claimed_at)
        close(one)

    return closed


def test_hints_of_nothing_new_end_a_rest_once_in_its_time(engine):
    one = Serving(queue("telegrams"))
    round_in_vain(one)
    one.has_news(promoted=0, newest=None)
    assert one.too_soon() > 0.3
    one.hinted = True
    assert one.has_news(promoted=0, newest=None)
    assert one.too_soon() <= 0.05
    round_in_vain(one)
    one.hinted = True
    assert not one.has_news(promoted=0, newest=None)
    assert one.too_soon() > 0.3


def round_in_vain(serving):
    """A round that costs 40 ms and finds nothing."""
    fruitless = Round(serving)
    fruitless.begin()
    fruitless.claimed(Taken([], exhausted=True, ended=True, contended=False, after=None, took=0.04))
    fruitless.close()
