"""Lanes that fail: their breakers, other people's pauses, and what all of it costs."""

import threading
from datetime import UTC, datetime, timedelta

import pytest
from django.conf import settings

from jobs import lanes
from jobs.breaker import Breaker
from jobs.engine import health, verdict
from jobs.engine.settle import settle as settle_batch
from jobs.models import Lane
from jobs.outcomes import Fail, Retry, Snooze, Succeeded, Throttled, Unknown
from jobs.registry import queue
from tests.jobs.conftest import Engine, wait
from tests.jobs.watching import claimed, fail, lane_of, opened, over, pause_left, told


def test_failures_in_a_row_open_the_breaker(watched):
    claims = claimed(watched, 3)
    fail(watched, claims[:2])
    lane = lane_of(claims[0])
    assert (lane.failures, lane.trips, lane.paused_until) == (2, 0, None)
    fail(watched, claims[2:])
    lane = lane_of(claims[0])
    assert (lane.failures, lane.trips) == (3, 1)
    assert 28 < pause_left(lane) <= 33
    assert lane.paused_why == "breaker: 503 from a.test"
    assert lane.failing_since <= lane.failed_at


def test_it_says_since_when_a_lane_fails(watched):
    claims = claimed(watched, 2)
    fail(watched, claims[:1])
    since = lane_of(claims[0]).failing_since
    fail(watched, claims[1:])
    lane = lane_of(claims[0])
    assert lane.failing_since == since
    assert lane.failed_at > since


def test_a_success_in_between_breaks_the_row(watched):
    claims = claimed(watched, 5)
    fail(watched, claims[:2])
    ends = [Succeeded(), Retry("no"), Retry("no")]
    watched.settle(*zip(claims[2:], ends, strict=True))
    lane = lane_of(claims[0])
    assert (lane.failures, lane.trips, lane.paused_until) == (2, 0, None)


def test_failures_count_in_the_order_of_their_ends(watched):
    claims = claimed(watched, 4)
    ends = [Retry("no"), Retry("no"), Retry("no"), Succeeded()]
    watched.settle(*zip(claims, ends, strict=True))
    assert lane_of(claims[0]) is None or lane_of(claims[0]).trips == 0
    assert told(claims[0]) == []


@pytest.mark.parametrize("outcome", [Retry("no"), Fail("no"), Unknown("no answer")])
def test_it_counts_every_sort_of_failure(watched, outcome):
    fail(watched, [claim := claimed(watched)[0]], outcome)
    assert lane_of(claim).failures == 1


@pytest.mark.parametrize(
    "outcome",
    [
        Retry("the secret is unreadable", healthy=True),
        Fail("nothing to send", healthy=True),
        Snooze(5, "not now"),
        "nonsense",
    ],
)
def test_what_says_nothing_of_the_destination_is_not_counted(watched, outcome):
    fail(watched, [claim := claimed(watched)[0]], outcome)
    assert lane_of(claim) is None


def test_a_drainers_death_says_nothing_of_the_lane(watched):
    (claim,) = claimed(watched)
    watched.silence(claim.drainer)
    assert watched.rescue() == 1
    assert lane_of(claim) is None


def test_an_open_breaker_lets_nothing_start(watched):
    claims = claimed(watched, 3)
    fail(watched, claims)
    watched.add(tenant=claims[0].tenant_id)
    assert watched.claim(drainer=watched.drainer()) == []


def test_after_the_pause_one_work_is_let_through(watched):
    opened(watched)
    assert len(watched.claim(drainer=watched.drainer())) == 1
    assert watched.claim(drainer=watched.drainer()) == []


def test_a_success_after_the_pause_closes_the_breaker(watched):
    claim = opened(watched)
    (probe,) = watched.claim(drainer=watched.drainer())
    watched.settle((probe, Succeeded()))
    lane = lane_of(claim)
    assert (lane.failures, lane.trips) == (0, 0)
    assert (lane.failing_since, lane.paused_until, lane.paused_why) == (None, None, "")
    assert len(watched.claim(drainer=watched.drainer())) == 3


def test_a_failure_after_the_pause_opens_it_again_for_longer(watched):
    claim = opened(watched)
    for trips, pause in ((2, 60), (3, 120), (4, 120)):
        (probe,) = watched.claim(drainer=watched.drainer())
        fail(watched, [probe])
        lane = lane_of(claim)
        assert lane.trips == trips
        assert pause - 2 < pause_left(lane) <= 1.1 * pause
        over(lane)


def test_tries_that_began_before_it_opened_do_not_open_it_again(watched):
    claims = claimed(watched, 5)
    fail(watched, claims[:3])
    before = lane_of(claims[0])
    fail(watched, claims[3:4])
    fail(watched, claims[4:])
    lane = lane_of(claims[0])
    assert (lane.failures, lane.trips, lane.paused_until) == (5, 1, before.paused_until)


def test_a_late_failure_after_the_pause_is_no_probe(watched):
    claims = claimed(watched, 4)
    fail(watched, claims[:3])
    over(lane_of(claims[0]))
    fail(watched, claims[3:])
    lane = lane_of(claims[0])
    assert (lane.failures, lane.trips) == (4, 1)
    assert pause_left(lane) < 0


def test_a_success_that_began_before_it_opened_closes_it_all_the_same(watched):
    claims = claimed(watched, 4)
    fail(watched, claims[:3])
    watched.settle((claims[3], Succeeded()))
    lane = lane_of(claims[0])
    assert (lane.trips, lane.paused_until) == (0, None)


def operators_pause(claim, **long) -> datetime:
    until = datetime.now(UTC) + timedelta(**long)
    lanes.pause(
        key=claim.lane,
        tenant_id=claim.tenant_id,
        until=until,
        actor="operator:1",
        reason="they asked us to",
    )
    return until


@pytest.mark.parametrize("long", [{"days": 1}, {"seconds": 5}])
def test_the_breaker_leaves_an_operators_pause_as_it_is(watched, long):
    claims = claimed(watched, 5)
    until = operators_pause(claims[0], **long)
    fail(watched, claims[:3])
    lane = lane_of(claims[0])
    said = (until, "they asked us to")
    assert (lane.trips, lane.operator_paused_until, lane.operator_why) == (1, *said)
    watched.settle((claims[3], Succeeded()))
    lane = lane_of(claims[0])
    assert (lane.trips, lane.operator_paused_until, lane.operator_why) == (0, *said)


def test_an_operators_pause_of_an_open_lane_outlives_the_breaker(watched):
    claims = claimed(watched, 4)
    fail(watched, claims[:3])
    until = operators_pause(claims[0], days=1)
    watched.settle((claims[3], Succeeded()))
    assert lane_of(claims[0]).operator_paused_until == until


def test_a_throttle_in_an_open_lane_outlives_the_breaker(watched):
    claims = claimed(watched, 5)
    fail(watched, claims[:3])
    watched.settle((claims[3], Throttled(3600, "much later")), (claims[4], Succeeded()))
    lane = lane_of(claims[0])
    assert (lane.trips, lane.paused_why) == (0, "much later")
    assert pause_left(lane) > 3500


def test_an_operator_who_resumes_an_open_lane_starts_it_afresh(watched):
    claims = claimed(watched, 3)
    fail(watched, claims)
    watched.add(tenant=claims[0].tenant_id, count=2, max_attempts=20)
    lanes.resume(key=claims[0].lane, tenant_id=claims[0].tenant_id, actor="operator:1")
    again = watched.claim(drainer=watched.drainer())
    assert len(again) == 2
    fail(watched, again)
    lane = lane_of(claims[0])
    assert (lane.failures, lane.trips) == (2, 0)


def test_a_queue_without_a_breaker_counts_nothing(engine):
    claims = claimed(engine, 4)
    fail(engine, claims)
    assert lane_of(claims[0]) is None


def test_other_lanes_and_other_tenants_are_untouched(watched):
    claims = claimed(watched, 3)
    (neighbour,) = claimed(watched, tenant=claims[0].tenant_id, lane="another")
    (stranger,) = claimed(watched, lane=claims[0].lane)
    fail(watched, [*claims, neighbour])
    watched.settle((stranger, Succeeded()))
    assert lane_of(claims[0]).trips == 1
    assert (lane_of(neighbour).failures, lane_of(neighbour).trips) == (1, 0)
    assert lane_of(stranger) is None


# ---- At once, and how much ----


def both(engine, first, second):
    """Two drainers settle a number of batches each, at once."""
    other, gate = Engine(), threading.Barrier(2)

    def run(mine, batches):
        gate.wait()
        for ends in batches:
            mine.settle(*ends)

    threads = [
        threading.Thread(target=run, args=given) for given in ((engine, first), (other, second))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    other.close()


def test_two_drainers_that_settle_for_one_lane_lose_no_failure(watched, monkeypatch):
    monkeypatch.setattr("tests.jobs.watching.BREAKER", Breaker(failures=1000))
    queue.cache_clear()
    for _ in range(8):  # The first failures of a lane make its row.
        claims = claimed(watched, 4)
        batches = [[(claim, Retry("no"))] for claim in claims]
        both(watched, batches[:2], batches[2:])
        assert lane_of(claims[0]).failures == 4


def test_two_drainers_that_settle_for_the_same_lanes_do_not_deadlock(watched, superuser):
    tenant = watched.tenant()
    claims = [claimed(watched, 3, tenant=tenant, lane=f"lane:{n}") for n in range(5)]
    fail(watched, [held[0] for held in claims])  # Now each lane has a row.
    first = [(held[1], Retry("no")) for held in claims]
    second = [(held[2], Retry("no")) for held in reversed(claims)]
    waiting = (
        "select count(*), pg_stat_clear_snapshot() from pg_stat_activity"
        " where wait_event_type = 'Lock' and datname = current_database()"
    )
    deadlocks = "select deadlocks from pg_stat_database where datname = current_database()"
    [before] = superuser.execute(deadlocks).fetchone()
    with superuser.transaction():  # Both come to stand here, each with what it locked before.
        superuser.execute(
            "select from jobs_lane where tenant_id = %s and key = 'lane:2' for update", [tenant]
        )
        settling = threading.Thread(target=both, args=(watched, [first], [second]))
        settling.start()
        wait(lambda: superuser.execute(waiting).fetchone()[0] == 2)
    settling.join()
    superuser.execute("select pg_stat_force_next_flush()")
    [after] = superuser.execute(deadlocks).fetchone()
    assert after == before
    rows = Lane.objects.using("operator").filter(tenant_id=tenant)
    assert set(rows.values_list("failures", flat=True)) == {3}


class Counting:
    """A connection that counts what is asked of it."""

    def __init__(self, connection):
        self.connection, self.statements = connection, []

    def __getattr__(self, name):
        return getattr(self.connection, name)

    async def execute(self, statement, *given, **options):
        self.statements.append(statement)
        return await self.connection.execute(statement, *given, **options)


def statements(engine, ends) -> list[str]:
    counting = Counting(engine.connection)
    batch = [
        verdict.settle(claim, end, queue=queue(claim.queue), elapsed=0.01, random=lambda: 0.0)
        for claim, end in ends
    ]
    engine.run(settle_batch(counting, batch))
    return counting.statements


def test_a_healthy_batch_costs_one_statement_more_and_no_write(watched, superuser):
    claims = [claimed(watched, 2)[0] for _ in range(3)]
    asked = statements(watched, [(claim, Succeeded()) for claim in claims])
    assert len(asked) == 3  # Works, attempts, and a look at the lanes.
    assert not Lane.objects.using("operator").exists()


def test_a_failing_batch_costs_one_statement_for_all_its_lanes(watched):
    claims = [claimed(watched)[0] for _ in range(6)]
    ends = [(claim, Retry("no")) for claim in claims]
    assert len([one for one in statements(watched, ends) if one == health.WATCH]) == 1
    assert Lane.objects.using("operator").count() == 6


def test_losing_redis_forgets_no_breaker_and_no_notice(watched, valkey):
    import redis

    claim = opened(watched)
    redis.Redis.from_url(settings.REDIS_URL).flushall()
    assert lane_of(claim).trips == 1
    assert told(claim) == ["opened"]
