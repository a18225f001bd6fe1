"""The claim: who gets what, within which caps."""

import threading
from collections import Counter
from datetime import UTC, datetime, timedelta

from jobs import lanes
from jobs.engine import claim as claiming
from jobs.models import Drainer, Lane
from jobs.outcomes import Fail, Retry, Succeeded
from jobs.registry import queue
from tests.jobs.conftest import Engine, fresh
from tests.works.models import Parcel, Telegram


def test_it_claims_with_a_lease_and_counts_the_attempt(engine):
    (work,) = engine.add(act="succeed")
    me = engine.drainer()
    (claim,) = engine.claim(drainer=me)
    assert (claim.id, claim.attempt, claim.data) == (work.pk, 1, {"act": "succeed"})
    work = fresh(work)
    assert (work.state, work.attempts, work.lease, work.drainer) == (
        "processing",
        1,
        claim.lease,
        me,
    )


def test_it_claims_nothing_for_a_dead_drainer(engine):
    (work,) = engine.add()
    me = engine.drainer()
    Drainer.objects.using("operator").filter(pk=me).update(dead_at="2026-01-01T00:00Z")
    assert engine.claim(drainer=me) == []
    assert fresh(work).state == "pending"


def test_it_claims_nothing_for_a_drainer_without_a_row(engine):
    engine.add()
    assert engine.claim(drainer=999_999_999) == []


def test_it_knows_where_each_tenant_lives(engine, tenant, dedicated_tenant):
    for number in (tenant.pk, dedicated_tenant.pk, engine.tenant()):
        engine.add(tenant=number)
    schemas = [claim.schema for claim in engine.claim(drainer=engine.drainer())]
    assert sorted(schemas) == sorted(["pool", f"t_{dedicated_tenant.pk}", "public"])


def test_it_takes_first_tries_before_retries_before_replays_and_then_the_oldest(engine):
    one = engine.tenant()
    works = [engine.add(tenant=one, priority=priority)[0] for priority in (2, 1, 0, 0)]
    me, taken = engine.drainer(), []
    for _ in works:
        (claim,) = engine.claim(drainer=me, slots=1)
        engine.settle((claim, Succeeded()))
        taken.append(claim.id)
    assert taken == [works[2].pk, works[3].pk, works[1].pk, works[0].pk]


def test_it_never_takes_more_than_a_lanes_window(engine):
    engine.add(count=20)
    me = engine.drainer()
    assert len(engine.claim(drainer=me, slots=100)) == queue("parcels").lane_window
    assert engine.claim(drainer=me, slots=100) == []


def test_it_never_takes_more_than_a_tenants_window_over_all_its_lanes(engine):
    one = engine.tenant()
    for n in range(6):
        engine.add(tenant=one, count=3, lane=f"lane:{one}:{n}")
    claims = engine.claim(drainer=engine.drainer(), slots=100)
    assert len(claims) == queue("parcels").tenant_window == 4
    assert len({claim.lane for claim in claims}) == 4  # Each lane its turn.


def test_it_lets_a_lanes_row_say_its_window(engine):
    (work, *_) = engine.add(count=5)
    Lane.objects.using("operator").create(tenant_id=work.tenant_id, key=work.lane, window=1)
    assert len(engine.claim(drainer=engine.drainer(), slots=100)) == 1


def test_it_takes_no_more_than_start_at_once_and_serves_every_tenant_in_turn(engine):
    tenants = [engine.tenant() for _ in range(5)]
    for one in tenants:
        engine.add(tenant=one, count=10)
    me, cursor, served = engine.drainer(), claiming.Cursor(), Counter()
    for _ in range(10):
        (claim,) = engine.claim(drainer=me, slots=1, cursor=cursor)
        engine.settle((claim, Succeeded()))
        served[claim.tenant_id] += 1
    assert served == dict.fromkeys(tenants, 2)


def test_it_gives_a_tenant_with_a_thousand_lanes_no_more_turns_than_one_with_a_single_lane(engine):
    many, few = engine.tenant(), engine.tenant()
    Parcel.objects.using("operator").bulk_create(
        Parcel(tenant_id=many, lane=f"lane:{many}:{n:04}", max_attempts=3) for n in range(1000)
    )
    engine.add(tenant=few, count=40)
    me, cursor, served = engine.drainer(), claiming.Cursor(), Counter()
    for _ in range(20):
        claims = engine.claim(drainer=me, slots=2, cursor=cursor)
        engine.settle(*((claim, Succeeded()) for claim in claims))
        served.update(claim.tenant_id for claim in claims)
    assert served == {many: 20, few: 20}


def test_it_comes_round_to_every_lane_of_a_tenant(engine):
    one = engine.tenant()
    for n in range(30):
        engine.add(tenant=one, lane=f"lane:{one}:{n:02}", count=2)
    me, cursor, lanes_served = engine.drainer(), claiming.Cursor(), []
    for _ in range(30):
        claims = engine.claim(drainer=me, slots=1, cursor=cursor)
        engine.settle(*((claim, Succeeded()) for claim in claims))
        lanes_served += [claim.lane for claim in claims]
    # Eight lanes are looked at a time: the first of each look, at the least.
    assert len(set(lanes_served)) >= 4


def test_it_leaves_a_paused_lane_alone_and_resumes_it(engine):
    (work,) = engine.add()
    me = engine.drainer()
    later = datetime.now(UTC) + timedelta(hours=1)
    lanes.pause(
        key=work.lane, tenant_id=work.tenant_id, until=later, actor="operator:1", reason="too loud"
    )
    assert engine.claim(drainer=me) == []
    lanes.resume(key=work.lane, tenant_id=work.tenant_id, actor="operator:1")
    assert len(engine.claim(drainer=me)) == 1


def test_it_runs_only_the_lowest_unfinished_work_of_an_ordered_lane(engine):
    one, me = engine.tenant(), engine.drainer()
    third, first, second = (engine.add(tenant=one, seq=n)[0] for n in (3, 1, 2))
    (claim,) = engine.claim(drainer=me)
    assert claim.id == first.pk
    assert engine.claim(drainer=me) == []  # It is being done.
    engine.settle((claim, Retry("not yet")))
    assert engine.claim(drainer=me) == []  # A failing head holds its lane.
    engine.look()
    (claim,) = engine.claim(drainer=me)
    assert claim.id == first.pk
    engine.settle((claim, Succeeded()))
    (claim,) = engine.claim(drainer=me)
    assert claim.id == second.pk
    engine.settle((claim, Fail("never")))
    assert engine.claim(drainer=me) == []  # A dead head blocks it.
    assert fresh(third).state == "pending"


def test_it_mixes_ordered_and_unordered_works_of_one_lane(engine):
    one, me = engine.tenant(), engine.drainer()
    head, _ = (engine.add(tenant=one, seq=n)[0] for n in (1, 2))
    loose = engine.add(tenant=one, count=2)
    claimed = {claim.id for claim in engine.claim(drainer=me)}
    assert claimed == {head.pk, *(work.pk for work in loose)}


def test_it_promotes_what_is_due_and_nothing_else(engine):
    (due,) = engine.add(state="scheduled", due_at=datetime.now(UTC) - timedelta(seconds=1))
    (failed,) = engine.add(state="failed", due_at=datetime.now(UTC) - timedelta(seconds=1))
    (early,) = engine.add(state="scheduled", due_at=datetime.now(UTC) + timedelta(hours=1))
    seen = engine.look()
    assert seen.runnable["parcels"]
    assert not seen.runnable["telegrams"]
    states = [fresh(work).state for work in (due, failed, early)]
    assert states == ["pending", "pending", "scheduled"]


def test_two_hundred_claims_at_once_never_overrun_a_cap_nor_take_a_work_twice(engine):
    tenants = [engine.tenant() for _ in range(10)]
    for one in tenants:
        engine.add(Telegram, tenant=one, count=50)
    taken, lock = [], threading.Lock()

    def claim_often() -> None:
        mine = Engine()
        me = mine.drainer()
        for _ in range(25):
            claims = mine.claim("telegrams", drainer=me, slots=8)
            with lock:
                taken.extend(claims)
        mine.close()

    threads = [threading.Thread(target=claim_often) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({claim.id for claim in taken}) == len(taken)
    in_progress = Counter(claim.tenant_id for claim in taken)
    assert in_progress == dict.fromkeys(tenants, queue("telegrams").tenant_window)
