"""Paced queues: the lanes that lead to one place share its window, its pace, its pauses."""

import time
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from jobs import lanes
from jobs.engine import claim as claiming
from jobs.engine import rooms as rooming
from jobs.engine import serving as resting
from jobs.engine.claim import Taken
from jobs.engine.rooms import Rooms
from jobs.engine.serving import Serving
from jobs.models import Job, Lane
from jobs.outcomes import Retry, Snooze, Succeeded, Throttled, Unknown
from jobs.pacing import Sign
from jobs.registry import queue
from tests.jobs.conftest import drain, fresh, wait
from tests.jobs.watching import BREAKER, notices
from tests.works.models import Missive

SAID = {"actor": "operator:1", "reason": "because"}


class Paced:
    """One drainer's side of the missives, claim by claim."""

    def __init__(self, engine, **changes) -> None:
        self.engine = engine
        self.serving = Serving(replace(queue("missives"), **changes))
        self.me = engine.drainer()

    @property
    def rooms(self) -> Rooms:
        return self.serving.rooms

    def claim(self, slots: int = 64) -> Taken:
        taken = self.engine.run(
            claiming.claim(
                self.engine.connection,
                self.serving.queue,
                drainer=self.me,
                slots=slots,
                cursor=claiming.Cursor(),
                rooms=self.rooms,
            )
        )
        for one in taken.claims:
            self.serving.begin(one)
        return taken

    def claims(self, most: int = 10):
        """All that may start now."""
        claims = []
        for _ in range(most):
            taken = self.claim()
            claims += taken.claims
            if taken.exhausted:
                break
        return claims

    def end(self, claims, outcome, seconds: float = 0.1) -> None:
        for one in claims:
            self.serving.end(one, outcome, seconds)
        self.engine.settle(*((one, outcome) for one in claims))


@pytest.fixture
def paced(engine):
    yield lambda **changes: Paced(engine, **changes)
    Job.objects.using("operator").filter(kind="notice").delete()


def row(tenant: int, key: str = "there") -> Lane | None:
    return Lane.objects.using("operator").filter(tenant_id=tenant, key=key).first()


def campaigns(engine, tenant, count=30, lanes=2, **columns):
    """Works in several lanes that lead to one place."""
    return [
        engine.add(Missive, count, tenant=tenant, lane=f"lane:{tenant}:{n}", **columns)
        for n in range(lanes)
    ]


# ---- Windows ----


def test_lanes_of_one_place_share_its_window_in_turn(engine, paced):
    one, tenant = paced(), engine.tenant()
    campaigns(engine, tenant)
    claims = one.claims()
    assert len(claims) == 10  # The initial window; the first work alone told what is declared.
    assert Counter(claim.lane for claim in claims) == {
        f"lane:{tenant}:0": pytest.approx(5, abs=1),
        f"lane:{tenant}:1": pytest.approx(5, abs=1),
    }
    assert one.claim().claims == []


def test_where_there_is_room_for_one_each_lane_has_its_chance(engine, paced):
    one, tenant, served = paced(), engine.tenant(), Counter()
    campaigns(engine, tenant, most=1)
    for _ in range(20):
        claims = one.claims()
        served.update(claim.lane for claim in claims)
        one.end(claims, Succeeded())
    assert served.total() == 20
    assert len(served) == 2


def test_places_do_not_share(engine, paced):
    one, tenant = paced(), engine.tenant()
    for n in range(2):
        engine.add(Missive, 30, tenant=tenant, lane=f"lane:{n}", goes_to=f"there:{n}")
    assert Counter(claim.destination for claim in one.claims()) == {"there:0": 10, "there:1": 10}


def test_places_of_one_name_in_two_tenants_are_two(engine, paced):
    one = paced()
    tenants = [engine.tenant(), engine.tenant()]
    for tenant in tenants:
        engine.add(Missive, 30, tenant=tenant)
    assert Counter(claim.tenant_id for claim in one.claims()) == dict.fromkeys(tenants, 10)


def test_a_window_grows_as_its_works_are_answered(engine, paced):
    one = paced()
    engine.add(Missive, 60)
    one.end(one.claims(), Succeeded())
    assert len(one.claims()) == 20


def test_a_window_shrinks_when_nothing_is_answered(engine, paced):
    one = paced()
    engine.add(Missive, 60)
    one.end(one.claims(), Unknown("no answer"), seconds=0.0)
    Lane.objects.using("operator").update(paused_until=None, trips=0)
    assert len(one.claims()) == 7


def test_what_is_declared_bounds_all_drainers_together(engine, paced):
    (one, *_) = engine.add(Missive, 30, most=4)
    mirrored = {"tenant_id": one.tenant_id, "key": "there", "window": 4}
    Lane.objects.using("operator").create(**mirrored)  # As whoever declares it does.
    mine, theirs = paced(), paced()
    first = mine.claims()
    second = theirs.claims()
    assert (len(first), len(second)) == (4, 0)
    mine.end(first[:3], Succeeded())
    assert len(theirs.claims()) <= 3
    assert Missive.objects.using("operator").filter(state="processing").count() <= 4


def test_an_operators_window_bounds_a_place(engine, paced):
    works = engine.add(Missive, 30)
    lanes.set_window(key="there", tenant_id=works[0].tenant_id, window=3, **SAID)
    assert len(paced().claims()) == 3


def test_compat_takes_thirty_and_no_more_until_all_have_ended(engine, paced):
    engine.add(Missive, 70, mode="compat")
    one = paced(tenant_window=None)
    first = one.claims()
    assert len(first) == 30
    one.end(first[1:], Succeeded())
    time.sleep(0.11)  # The batch is closed; that is all that passes.
    assert one.claims() == []
    one.end(first[:1], Succeeded())
    assert len(one.claims()) == 30


# ---- Paces ----


def test_a_declared_rate_spaces_starts_from_the_first(engine, paced):
    engine.add(Missive, 40, rate=20.0)
    one, began_at, claims = paced(), time.monotonic(), []

    def take():
        claims.extend(one.claims())
        return len(claims) >= 12

    wait(take)
    assert time.monotonic() - began_at >= 0.4  # At most three at once, then 19.5 a second.


def test_an_operators_rate_is_kept_to_and_lifted(engine, paced):
    works = engine.add(Missive, 40, rate=1000.0)
    named = {"key": "there", "tenant_id": works[0].tenant_id}
    lanes.set_rate(**named, rate=2.0, **SAID)
    one = paced()
    assert len(one.claims()) == 1
    lanes.set_rate(**named, rate=None, **SAID)
    wait(lambda: len(one.claims()) > 3)


def test_a_declared_rate_is_divided_by_the_drainers_that_live(engine, paced):
    engine.add(Missive, 3, rate=100.0)
    one = paced()
    engine.drainer()
    engine.drainer(silent=60)
    seen = engine.look()
    assert seen.drainers == 2
    one.rooms.share(seen.drainers)
    one.claims()
    (known,) = one.rooms.known.values()
    assert known.control.pacer.rate == pytest.approx(48.75)
    one.rooms.share(1)
    assert known.control.pacer.rate == pytest.approx(97.5)


def test_what_is_learnt_is_left_in_the_places_row_and_taken_up_by_others(engine, paced):
    works = engine.add(Missive, 60)
    tenant = works[0].tenant_id
    one = paced()
    one.end(one.claims(), Succeeded())
    engine.run(rooming.learn(engine.connection, one.rooms.changes()))
    assert one.rooms.changes() == []
    assert (row(tenant).learnt_window, row(tenant).learnt_rate) == (20, None)
    Lane.objects.using("operator").update(learnt_window=60)
    other = paced()
    assert len(other.claims()) == 30


def test_places_where_nothing_goes_any_more_are_forgotten(engine, paced, monkeypatch):
    engine.add(Missive, 1)
    one = paced()
    claims = one.claims()
    monkeypatch.setattr(rooming, "IDLE", -1.0)
    one.rooms.changes()
    assert one.rooms.known  # It is under way.
    one.end(claims, Succeeded())
    one.rooms.changes()
    assert not one.rooms.known


@pytest.mark.parametrize(
    ("outcome", "sign"),
    [
        (Succeeded(), Sign.ANSWERED),
        (Unknown("no answer"), Sign.LOST),
        (Retry("refused"), Sign.LOST),
        (Retry("its name is not found", healthy=True), Sign.NOTHING),
        (Snooze(1, "paused"), Sign.NOTHING),
    ],
)
def test_what_an_end_says_of_the_place(outcome, sign):
    assert rooming.sign(outcome) is sign


# ---- Pauses and breakers ----


def test_a_place_that_is_paused_is_claimed_by_nobody(engine, paced):
    tenant = engine.tenant()
    campaigns(engine, tenant, count=2)
    until = datetime.now(UTC) + timedelta(hours=1)
    lanes.pause(key="there", tenant_id=tenant, until=until, **SAID)
    for one in (paced(), paced()):
        taken = one.claim()
        assert taken.claims == []
        assert 3500 < taken.after <= 3600
    lanes.resume(key="there", tenant_id=tenant, **SAID)
    assert len(paced().claims()) == 4


def test_a_lane_that_is_paused_leaves_the_places_other_lanes_alone(engine, paced):
    tenant = engine.tenant()
    campaigns(engine, tenant, count=2)
    until = datetime.now(UTC) + timedelta(hours=1)
    lanes.pause(key=f"lane:{tenant}:0", tenant_id=tenant, until=until, **SAID)
    assert {claim.lane for claim in paced().claims()} == {f"lane:{tenant}:1"}


def test_a_429_holds_the_place_and_not_the_lane_and_is_told(engine, paced):
    tenant = engine.tenant()
    campaigns(engine, tenant)
    mine, theirs = paced(), paced()
    (first, *others) = mine.claims()
    mine.end([first], Throttled(90, "not so fast", notice="slower"))
    assert 80 < (row(tenant).paused_until - datetime.now(UTC)).total_seconds() <= 90
    assert row(tenant, first.lane) is None
    assert theirs.claims() == []
    mine.end(others, Succeeded())
    assert mine.claims() == []
    (notice,) = notices(first)
    assert (notice["what"], notice["lane"]) == ("slower", "there")


def test_an_operator_lifts_a_hold_in_the_drainers_memory_too(engine, paced):
    tenant = engine.tenant()
    campaigns(engine, tenant, count=2)
    one = paced()
    one.end(one.claims()[:1], Throttled(3600, "much later"))
    lanes.resume(key="there", tenant_id=tenant, **SAID)
    wait(lambda: one.claims(), seconds=4)


def test_a_place_has_one_breaker_whose_probe_is_one_work_of_all_drainers(engine, paced):
    tenant = engine.tenant()
    campaigns(engine, tenant)
    mine, theirs = paced(), paced()
    claims = mine.claims()[: BREAKER.failures]
    mine.end(claims, Unknown("no answer"))
    assert row(tenant).trips == 1
    assert theirs.claims() == []
    past = datetime.now(UTC) - timedelta(seconds=1)
    Lane.objects.using("operator").update(paused_until=past, opened_until=past)
    assert mine.claims() == []  # What is under way is its probe.
    rest = Missive.objects.using("operator").filter(state="processing")
    rest.update(state="pending", lease=None, drainer=None)
    assert len(theirs.claims()) == 1
    assert mine.claims() == []
    assert notices(claims[0])[0]["lane"] == "there"


def test_a_place_without_room_does_not_make_its_drainer_spin(engine, paced):
    tenant = engine.tenant()
    campaigns(engine, tenant, most=3)
    one = paced()
    claims = one.claims()
    taken = one.claim()
    assert one.serving.opens_after(taken) is None  # Not before one has ended.
    theirs = paced()
    theirs.claims()
    assert theirs.serving.opens_after(theirs.claim()) is None
    one.end(claims[:1], Succeeded())
    assert one.rooms.wait([(tenant, "there")]) == 0


# ---- Others ----


def test_a_huge_backlog_leaves_slots_to_others_whose_first_work_starts_at_once(engine):
    flood = engine.tenant()
    campaigns(engine, flood, count=60, act="sleep 30", mode="compat")
    small = []

    def flooded(drainer):
        busy = Missive.objects.using("operator").filter(state="processing").count()
        if busy == 30 and not small:
            small.extend(engine.add(Missive, 3))
            small.append(time.monotonic())

    def done(*_):
        return small and all(fresh(work).state == "succeeded" for work in small[:-1])

    drain(done, name="missives", meanwhile=flooded, deadline=0.5)
    assert time.monotonic() - small[-1] < 5  # Without a hint: by the poll.


def test_a_loop_keeps_to_a_rate_by_timers_of_its_own(engine):
    works = engine.add(Missive, 100, rate=80.0)
    ours = Missive.objects.using("operator").filter(tenant_id=works[0].tenant_id)
    began = []

    def done(*_):
        ended = ours.filter(state="succeeded").count()
        if ended and not began:
            began.append((time.monotonic(), ended))
        return ended == len(works)

    drain(done, name="missives", seconds=30, tenant_window=None)
    seconds, ended = time.monotonic() - began[0][0], len(works) - began[0][1]
    # How close it comes is shown in virtual time; polls alone would come to 12 a second.
    assert 30 <= ended / seconds <= 85


def test_a_loop_goes_on_beyond_its_first_window(engine):
    works = engine.add(Missive, 45)
    ours = Missive.objects.using("operator").filter(tenant_id=works[0].tenant_id)
    drain(lambda *_: ours.filter(state="succeeded").count() == 45, name="missives")
    assert row(works[0].tenant_id) is None or row(works[0].tenant_id).learnt_window >= 10


def test_a_new_drainer_waits_until_the_others_leave_it_its_share(engine, monkeypatch):
    engine.drainer()  # Another one, that never looks.
    (work,) = engine.add(Missive)
    began_at = time.monotonic()
    drain(lambda *_: fresh(work).state == "succeeded", name="missives")
    assert time.monotonic() - began_at >= resting.INTRODUCTION
