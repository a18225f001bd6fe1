"""Who gets the slots where they are short, and what it costs to look at those who may not."""

import time
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from config.ids import uuid7
from jobs.engine import claim as claiming
from jobs.engine import serving as resting
from jobs.engine.claim import Taken
from jobs.engine.serving import Round, Serving
from jobs.models import Lane
from jobs.outcomes import Succeeded
from jobs.registry import queue
from tests.jobs.conftest import drain, fresh
from tests.works.models import Parcel, Telegram

DEAD, WELL = "dead.example:443", "well.example:443"


@pytest.fixture
def telegrams(monkeypatch):
    """Telegrams that go where their `act` says."""
    monkeypatch.setattr(Telegram, "destination", "act")
    return replace(queue("telegrams"), slots=64, destination_share=0.25)


def one_claim(engine, served, *, drainer, slots=64, under_way=None, cursor=None):
    return engine.run(
        claiming.claim(
            engine.connection,
            served,
            drainer=drainer,
            slots=slots,
            cursor=cursor or claiming.Cursor(),
            under_way=under_way,
        )
    )


def going(claims) -> Counter:
    return Counter(claim.destination for claim in claims)


# ---- Destinations ----


def test_forty_tenants_on_one_dead_host_leave_the_slots_to_the_others(engine, telegrams):
    for _ in range(40):
        engine.add(Telegram, count=5, act=DEAD)
    for _ in range(10):
        engine.add(Telegram, count=4, act=WELL + str(_))
    me, serving, busy, claims = engine.drainer(), Serving(telegrams), Counter(), 0
    claiming_round, over = Round(serving), False
    while not over:
        taken = one_claim(
            engine,
            telegrams,
            drainer=me,
            slots=64 - busy.total(),
            under_way=busy,
            cursor=serving.cursor,
        )
        busy += going(taken.claims)
        claims, over = claims + 1, claiming_round.claimed(taken)
    assert busy.pop(DEAD) == 16
    assert busy.total() == 40  # All that the others had.
    assert claims <= 8


def test_what_a_destinations_share_leaves_out_stays_pending_and_makes_nobody_spin(
    engine, telegrams
):
    for _ in range(40):
        engine.add(Telegram, count=2, act=DEAD)
    me = engine.drainer()
    taken = one_claim(engine, telegrams, drainer=me, under_way={DEAD: 15})
    assert going(taken.claims) == {DEAD: 1}
    taken = one_claim(engine, telegrams, drainer=me, under_way={DEAD: 16})
    assert (taken.claims, taken.exhausted) == ([], True)
    assert Telegram.objects.using("operator").filter(act=DEAD, state="pending").count() == 79


def test_each_drainer_has_a_share_of_its_own(engine, telegrams):
    for _ in range(40):
        engine.add(Telegram, count=2, act=DEAD)
    for _ in range(2):
        taken = one_claim(engine, telegrams, drainer=engine.drainer())
        assert going(taken.claims) == {DEAD: 16}


def test_a_small_queue_has_one_work_under_way_to_a_destination_at_least(engine, telegrams):
    engine.add(Telegram, count=3, act=DEAD)
    small = replace(telegrams, slots=2)
    assert len(one_claim(engine, small, drainer=engine.drainer(), slots=2).claims) == 1


def test_no_tenant_has_its_destinations_share_to_itself(engine, telegrams):
    tenants = [engine.tenant() for _ in range(20)]
    for one in tenants:
        engine.add(Telegram, tenant=one, count=60, act=DEAD)
    me, served = engine.drainer(), Counter()
    for _ in range(40):
        taken = one_claim(engine, telegrams, drainer=me, under_way={DEAD: 14})
        served.update(claim.tenant_id for claim in taken.claims)
        engine.settle(*((claim, Succeeded()) for claim in taken.claims))
    assert served.total() == 80
    assert len(served) >= 15  # Each has the same chance: with two at a time all but a few were in.
    assert max(served.values()) <= 20


def test_an_ordered_lane_keeps_to_its_destinations_share(engine, monkeypatch):
    monkeypatch.setattr(Parcel, "destination", "act")
    parcels = replace(queue("parcels"), slots=4, destination_share=0.25)
    for _ in range(3):
        engine.add(Parcel, act=DEAD, seq=1)
    me = engine.drainer()
    assert going(one_claim(engine, parcels, drainer=me, slots=4).claims) == {DEAD: 1}
    assert one_claim(engine, parcels, drainer=me, slots=3, under_way={DEAD: 1}).claims == []


@pytest.fixture
def claims_made(monkeypatch):
    """Counts the claims of a loop."""
    made = []

    async def counted(*args, **values):
        made.append(await claiming.claim(*args, **values))
        return made[-1]

    monkeypatch.setattr(resting, "claim", counted)
    return made


def test_a_drainer_does_the_others_work_while_a_host_is_dead(engine, telegrams, claims_made):
    for _ in range(40):
        engine.add(Telegram, count=2, act="sleep 30")
    quick = [engine.add(Telegram, count=4, act="succeed")[-1] for _ in range(10)]

    def done(*_):
        return all(fresh(work).state == "succeeded" for work in quick)

    drain(done, slots=16, destination_share=0.25, deadline=2.0)
    states = Counter(Telegram.objects.using("operator").values_list("state", flat=True))
    assert states["pending"] >= 60  # Four at a time, for two seconds each.
    assert len(claims_made) <= 100


# ---- Who goes first ----


def test_first_tries_go_before_retries_and_those_before_replays_of_whichever_tenant(engine):
    replays, retries, firsts = (engine.tenant() for _ in range(3))
    for one, priority in ((replays, 2), (retries, 1), (firsts, 0)):
        engine.add(tenant=one, count=2, priority=priority)
    me, order = engine.drainer(), []
    for _ in range(6):
        (claim,) = engine.claim(drainer=me, slots=1)
        engine.settle((claim, Succeeded()))
        order.append(claim.tenant_id)
    assert order == [firsts, firsts, retries, retries, replays, replays]


def test_a_tenants_own_replays_go_after_its_first_tries_in_its_other_lanes(engine):
    one, me, order = engine.tenant(), engine.drainer(), []
    engine.add(tenant=one, lane="a", count=2, priority=2)
    engine.add(tenant=one, lane="b", count=2)
    for _ in range(4):
        (claim,) = engine.claim(drainer=me, slots=1)
        engine.settle((claim, Succeeded()))
        order.append(claim.lane)
    assert order == ["b", "b", "a", "a"]


def test_a_replay_that_has_waited_for_long_lets_nobody_go_before_it_any_more(engine):
    (replay,) = engine.add(priority=2, due_at=datetime.now(UTC) - timedelta(minutes=1))
    engine.add(count=3)
    (claim,) = engine.claim(drainer=engine.drainer(), slots=1)
    assert claim.id == replay.pk  # Its tenant's turn came first.


# ---- What shut lanes cost ----


def paused(engine, tenants: int, lanes: int, until: datetime) -> None:
    """Lanes with one telegram each that nobody may claim."""
    works = [
        Telegram(tenant_id=one, lane=f"lane:{one}:{n:03}", max_attempts=3)
        for one in [engine.tenant() for _ in range(tenants)]
        for n in range(lanes)
    ]
    Telegram.objects.using("operator").bulk_create(works)
    Lane.objects.using("operator").bulk_create(
        Lane(tenant_id=work.tenant_id, key=work.lane, paused_until=until) for work in works
    )


@pytest.mark.parametrize(("tenants", "lanes"), [(2000, 1), (40, 50)])
def test_two_thousand_paused_lanes_are_looked_through_in_a_few_claims(engine, tenants, lanes):
    paused(engine, tenants, lanes, datetime.now(UTC) + timedelta(hours=1))
    me, cursor = engine.drainer(), claiming.Cursor()
    served, seen = queue("telegrams"), []
    for _ in range(12):
        seen.append(one_claim(engine, served, drainer=me, slots=8, cursor=cursor))
        assert not seen[-1].claims
        if seen[-1].ended and any(one.ended for one in seen[:-1]):
            break
    else:
        pytest.fail("it did not come round")
    assert 3500 < min(one.after for one in seen) <= 3600


def test_two_thousand_paused_lanes_leave_a_drainer_idle(engine, claims_made):
    paused(engine, 2000, 1, datetime.now(UTC) + timedelta(hours=1))
    ends_at = []

    def long_enough(drainer, _):
        if drainer.id and not ends_at:
            ends_at.append(time.monotonic() + 4)
        return ends_at and time.monotonic() >= ends_at[0]

    drain(long_enough)
    # A round of some eight claims, and another for each time that the looks or hints insist.
    assert 0 < len(claims_made) <= 25


def test_a_resting_drainer_is_woken_by_what_is_new_and_by_nothing_else(engine):
    serving = Serving(queue("telegrams"))
    nothing = Taken([], exhausted=True, ended=True, contended=False, after=None, took=0.05)
    fruitless = Round(serving)
    fruitless.begin()
    fruitless.claimed(nothing)
    fruitless.close()
    assert 0.3 < serving.too_soon() <= 0.45
    first, second = uuid7(), uuid7()
    assert serving.has_news(promoted=0, newest=first)
    assert not serving.has_news(promoted=0, newest=first)
    assert serving.has_news(promoted=0, newest=second)
    assert serving.has_news(promoted=1, newest=second)
    serving.unasked_until = 0.0
    assert serving.has_news(promoted=0, newest=second)


def test_a_round_that_is_cheap_is_followed_by_no_rest():
    serving = Serving(queue("telegrams"))
    cheap = Round(serving)
    cheap.begin()
    cheap.claimed(Taken([], exhausted=True, ended=True, contended=False, after=None, took=0.002))
    cheap.close()
    assert serving.too_soon() <= 0


def test_new_work_is_done_at_once_beside_two_thousand_paused_lanes(engine, claims_made):
    paused(engine, 2000, 1, datetime.now(UTC) + timedelta(hours=1))
    works = []

    def done(drainer, _):
        if len(claims_made) >= 8 and not works:
            works.extend(engine.add(Telegram))  # Without a hint: a look finds that it is new.
        return works and fresh(works[0]).state == "succeeded"

    drain(done)
    assert len(claims_made) <= 40


def test_a_drainer_claims_when_a_paused_lane_opens(engine, claims_made):
    paused(engine, 1, 1, datetime.now(UTC) + timedelta(seconds=2))
    rows = Telegram.objects.using("operator").order_by("-id")
    work = rows[0]
    drain(lambda *_: fresh(work).state == "succeeded")
    assert len(claims_made) <= 20


def test_a_drainer_serves_a_lane_with_a_rate_as_its_tokens_come_back(engine, claims_made):
    works = engine.add(Telegram, count=11)
    Lane.objects.using("operator").create(
        tenant_id=works[0].tenant_id,
        key=works[0].lane,
        rate=10.0,
        tokens=0.0,
        refilled_at=datetime.now(UTC),
    )
    drain(lambda *_: fresh(works[-1]).state == "succeeded")
    served = [len(taken.claims) for taken in claims_made]
    assert sum(served) == 11
    assert sum(1 for n in served if n) >= 5  # As they come, and not a second's worth at a time,
    assert len(served) <= 80  # nor ever so many claims.
