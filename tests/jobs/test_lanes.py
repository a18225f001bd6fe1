"""Lanes: what operators and tenants say about them, and how they are paced by it."""

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from django.db import DatabaseError

from config.redis import client
from jobs import hints, lanes
from jobs.engine import claim as claiming
from jobs.engine.drainer import PACE
from jobs.errors import PaceRefused, ReasonMissing
from jobs.models import Lane
from jobs.registry import queue
from tenants.context import tenant_context
from tenants.models import AuditEntry
from tests.works.models import Telegram

WHO = {"actor": "operator:1", "reason": "they asked us to"}
ONE_HOUR = timedelta(hours=1)


def lane_of(work) -> Lane | None:
    rows = Lane.objects.using("operator")
    return rows.filter(tenant_id=work.tenant_id, key=work.lane).first()


def named(work) -> dict:
    return {"key": work.lane, "tenant_id": work.tenant_id}


def put(work, **columns) -> None:
    """Let a lane's row say this."""
    Lane.objects.using("operator").update_or_create(**named(work), defaults=columns)


def pass_time(work, seconds: float) -> None:
    """Let so much time have gone by since the lane's bucket was last drawn from."""
    lane = lane_of(work)
    put(work, refilled_at=lane.refilled_at - timedelta(seconds=seconds))


def spent_at_once(engine, *, name="parcels", slots=1000) -> int:
    """How many works start when as many are claimed as can be."""
    claims = engine.claim(name, drainer=engine.drainer(), slots=slots)
    engine.hand_back(*claims)
    return len(claims)


def replaced(name: str, **changes):
    """A queue without bounds of its own."""
    return replace(queue(name), lane_window=None, tenant_window=None, **changes)


def taken_from(engine, served=None):
    """What one claim comes to, of parcels when nothing else is said."""
    return engine.run(
        claiming.claim(
            engine.connection,
            served or queue("parcels"),
            drainer=engine.drainer(),
            slots=served.slots if served else 8,
            cursor=claiming.Cursor(),
        )
    )


def version_of(engine, work) -> str:
    """Which version of the lane's row there is: another after every write."""
    return engine.sql("select xmin from jobs_lane where key = %s", work.lane)


# ---- What is said ----


def test_a_window_and_a_rate_are_obeyed_and_audited(engine):
    (work, *_) = engine.add(count=4)
    lanes.set_window(**named(work), window=3, **WHO)
    assert spent_at_once(engine) == 3
    lanes.set_rate(**named(work), rate=2.0, **WHO)
    assert spent_at_once(engine) == 2
    lanes.set_rate(**named(work), rate=None, **WHO)
    lanes.set_window(**named(work), window=None, **WHO)
    assert spent_at_once(engine) == 4
    told = AuditEntry.objects.using("operator").filter(tenant_id=work.tenant_id).order_by("at")
    assert [(entry.action, entry.after) for entry in told] == [
        ("lane.window_set", {"window": 3}),
        ("lane.rate_set", {"rate": 2.0}),
        ("lane.rate_set", {"rate": None}),
        ("lane.window_set", {"window": None}),
    ]
    assert {(entry.actor, entry.reason) for entry in told} == {("operator:1", "they asked us to")}


@pytest.mark.parametrize("rate", [0, -1, float("inf"), float("nan")])
def test_it_refuses_a_rate_that_is_none_and_changes_nothing(engine, rate):
    (work,) = engine.add()
    with pytest.raises(PaceRefused):
        lanes.set_rate(**named(work), rate=rate, **WHO)
    assert lane_of(work) is None


@pytest.mark.parametrize("window", [0, -3, 2**31])
def test_it_refuses_a_window_that_is_none_and_changes_nothing(engine, window):
    (work,) = engine.add()
    with pytest.raises(PaceRefused):
        lanes.set_window(**named(work), window=window, **WHO)
    assert lane_of(work) is None


@pytest.mark.parametrize(
    ("change", "value"),
    [
        (lanes.pause, {"until": datetime(2100, 1, 1, tzinfo=UTC)}),
        (lanes.set_window, {"window": 1}),
        (lanes.set_rate, {"rate": 1.0}),
    ],
)
def test_it_wants_a_reason_and_changes_nothing_without(engine, change, value):
    (work,) = engine.add()
    with pytest.raises(ReasonMissing):
        change(**named(work), **value, actor="operator:1", reason=" ")
    assert lane_of(work) is None


def test_an_operator_who_resumes_a_lane_forgets_that_it_failed(engine):
    (work,) = engine.add()
    now = datetime.now(UTC)
    put(work, failures=12, trips=2, failing_since=now, failed_at=now, paused_until=now + ONE_HOUR)
    lanes.resume(**named(work), actor="operator:1")
    lane = lane_of(work)
    assert (lane.failures, lane.trips, lane.failing_since, lane.paused_until) == (0, 0, None, None)


def test_a_tenant_paces_and_pauses_its_own_lanes_and_nobody_elses(engine, tenant, make_tenant):
    other = make_tenant()
    for one in (tenant, other):
        engine.add(tenant=one.pk, lane="shared name")
    mine = {
        "key": "shared name",
        "tenant_id": tenant.pk,
        "using": "default",
        **WHO,
        "actor": "user:1",
    }
    with tenant_context(tenant):
        lanes.pause(**mine, until=datetime.now(UTC) + ONE_HOUR)
        lanes.set_rate(**mine, rate=1.0)
        lanes.set_window(**mine, window=1)
        with pytest.raises(DatabaseError):
            lanes.set_rate(**mine | {"tenant_id": other.pk}, rate=1.0)
    assert [claim.tenant_id for claim in engine.claim(drainer=engine.drainer())] == [other.pk]
    with tenant_context(tenant):
        lanes.resume(**mine)
    assert [claim.tenant_id for claim in engine.claim(drainer=engine.drainer())] == [tenant.pk]


def test_drainers_hear_that_a_lane_was_resumed(engine):
    (work,) = engine.add()
    with client().pubsub() as channel:
        channel.subscribe(hints.CHANNEL)
        channel.get_message(timeout=1)
        lanes.resume(**named(work), actor="operator:1")
        heard = set()
        while message := channel.get_message(timeout=1):
            heard.add(message["data"])
    assert b"parcels" in heard


# ---- Half open ----


def test_a_lane_whose_breaker_opened_gets_one_work_at_a_time_after_its_pause(engine):
    (work, *_) = engine.add(count=5)
    now = datetime.now(UTC)
    put(work, trips=1, window=3, paused_until=now + ONE_HOUR)
    assert engine.claim(drainer=engine.drainer()) == []
    put(work, paused_until=now - ONE_HOUR)
    (probe,) = engine.claim(drainer=engine.drainer())
    assert engine.claim(drainer=engine.drainer()) == []
    put(work, trips=0)
    assert len(engine.claim(drainer=engine.drainer())) == 2
    assert probe.id == work.pk


def test_a_half_open_lane_gets_one_work_even_when_it_mixes_ordered_and_unordered(engine):
    one = engine.tenant()
    (head,) = engine.add(tenant=one, seq=1)
    engine.add(tenant=one, count=3)
    put(head, trips=1)
    (claim,) = engine.claim(drainer=engine.drainer())
    assert claim.id == head.pk


# ---- Rates ----


@pytest.mark.parametrize(
    ("rate", "works"), [(1 / 3600, 12), (0.1, 12), (3.0, 20), (20.0, 60), (1000.0, 1500)]
)
def test_a_rate_comes_out_over_time_whatever_it_is(engine, rate, works):
    added = engine.add(Telegram, count=works + 100)
    put(added[0], rate=rate, tokens=0.0, refilled_at=datetime.now(UTC))
    telegrams, began_at = replaced("telegrams", slots=1000), time.monotonic()
    started, passed = 0, 0.0
    while started < works:
        taken = taken_from(engine, telegrams)
        started += len(taken.claims)
        wait = max(taken.after or 0.0, PACE)  # As a drainer does.
        pass_time(added[0], wait)
        passed += wait
    seconds = passed + time.monotonic() - began_at
    assert started == pytest.approx(rate * seconds, rel=0.1, abs=1)


def test_what_a_lane_does_not_use_is_saved_up_for_a_second_and_no_longer(engine):
    (work, *_) = engine.add(Telegram, count=100)
    put(work, rate=5.0, window=100)
    assert spent_at_once(engine, name=replaced("telegrams")) == 5
    pass_time(work, 3600.0)
    assert spent_at_once(engine, name=replaced("telegrams")) == 5


def test_all_drainers_together_keep_the_rate(engine):
    (work, *_) = engine.add(Telegram, count=100)
    began_at = time.monotonic()
    put(work, rate=10.0, tokens=0.0, refilled_at=datetime.now(UTC), window=100)
    pass_time(work, 0.65)
    telegrams = replaced("telegrams")
    taken = [engine.claim(telegrams, drainer=engine.drainer(), slots=4) for _ in range(6)]
    passed = 0.65 + time.monotonic() - began_at  # The claims take their time, too.
    assert 6 <= sum(len(claims) for claims in taken) <= 10.0 * passed


def test_a_claim_says_when_a_lane_has_a_token_again(engine):
    (work, *_) = engine.add(count=4)
    put(work, rate=0.01)
    first, again = taken_from(engine), taken_from(engine)
    assert len(first.claims) == 1
    assert 99 < first.after <= 100
    assert not again.claims
    assert 90 < again.after < 100


def test_a_claim_says_when_a_paused_lane_opens(engine):
    (soon,), (late,) = engine.add(), engine.add()
    put(soon, paused_until=datetime.now(UTC) + timedelta(minutes=10))
    put(late, paused_until=datetime.now(UTC) + timedelta(minutes=20))
    assert 590 < taken_from(engine).after <= 600


def test_a_claim_of_lanes_without_a_rate_writes_no_lane(engine):
    (work, *_) = engine.add(count=4)
    put(work, window=4)
    before = version_of(engine, work)
    assert spent_at_once(engine) == 4
    assert version_of(engine, work) == before
