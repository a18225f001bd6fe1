"""Lanes that fail: breakers, pauses that somebody asked for, and who is told of it."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from django.conf import settings

from jobs import lanes
from jobs.breaker import Breaker
from jobs.engine import health
from jobs.engine.settle import settle as settle_batch
from jobs.models import Attempt, Job, Lane
from jobs.outcomes import Exchange, Fail, Retry, Snooze, Succeeded, Throttled, Unknown
from jobs.registry import queue
from jobs.retry import RetryPolicy
from tests.jobs.conftest import Engine, attempts_of, letter_of
from tests.works.models import Parcel

BREAKER = Breaker(failures=3, pauses=(30.0, 60.0, 120.0))
WINDOWED = RetryPolicy(attempts=3, base=0.01, cap=0.02, window=3600)
EXCHANGE = Exchange({"method": "POST", "url": "https://a.test/"}, {"status": 429, "body": "no"})
TOO_MANY = Throttled(90, "429 Too Many Requests", EXCHANGE)


@pytest.fixture
def watched(engine, monkeypatch) -> Iterator[Engine]:
    """The engine, with queues of parcels and telegrams that have a breaker and a notice."""
    extra = {
        "breaker": "tests.jobs.test_health.BREAKER",
        "policy": "tests.jobs.test_health.WINDOWED",
        "notice": "notice",
        "lane_window": None,
        "tenant_window": None,
    }
    for name in ("parcels", "telegrams"):
        spec = settings.SLIPWAY["QUEUES"][name] | extra
        monkeypatch.setitem(settings.SLIPWAY["QUEUES"], name, spec)
    queue.cache_clear()
    yield engine
    monkeypatch.undo()
    queue.cache_clear()
    Job.objects.using("operator").filter(kind="notice").delete()


def claimed(engine, count=1, *, model=Parcel, name="parcels", **columns):
    """Works of one lane in the hands of one drainer: their claims, in the order of their ids."""
    tenant = columns.pop("tenant", None) or engine.tenant()
    works = engine.add(model, count, tenant=tenant, max_attempts=20, **columns)
    held = engine.claim(name, drainer=engine.drainer(), slots=max(count, 1))
    claims = {claim.id: claim for claim in held}
    return [claims[work.pk] for work in works]


def lane_of(claim) -> Lane | None:
    return Lane.objects.using("operator").filter(tenant_id=claim.tenant_id, key=claim.lane).first()


def fail(engine, claims, outcome=None):
    engine.settle(*((claim, outcome or Retry("503 from a.test")) for claim in claims))


def pause_left(lane: Lane) -> float:
    return (lane.paused_until - datetime.now(UTC)).total_seconds()


def over(lane: Lane) -> None:
    """Let the breaker's pause be over."""
    past = datetime.now(UTC) - timedelta(seconds=1)
    Lane.objects.using("operator").filter(pk=lane.pk).update(paused_until=past, opened_until=past)


def notices(claim) -> list[dict]:
    jobs = Job.objects.using("operator").filter(kind="notice", tenant_id=claim.tenant_id)
    return [job.args for job in jobs.order_by("id")]


def told(claim) -> list[str]:
    return [args["what"] for args in notices(claim)]


# ---- Throttled ----


def test_being_throttled_costs_no_attempt_and_keeps_the_exchange(watched):
    (claim,) = claimed(watched)
    watched.settle((claim, TOO_MANY))
    work = Parcel.objects.using("operator").get(pk=claim.id)
    assert (work.state, work.attempts, work.priority) == ("pending", 0, 0)
    assert work.last_error == "429 Too Many Requests"
    attempt = Attempt.objects.using("operator").get(work_id=work.pk)
    assert (attempt.number, attempt.outcome) == (1, "throttled")
    assert attempt.response == EXCHANGE.response


def test_being_throttled_pauses_the_lane_for_as_long_as_it_was_told(watched):
    (claim, other) = claimed(watched, 2)
    watched.settle((claim, TOO_MANY))
    lane = lane_of(claim)
    assert 88 < pause_left(lane) <= 90
    assert lane.paused_why == "429 Too Many Requests"
    assert (lane.failures, lane.failing_since) == (0, None)
    watched.hand_back(other)
    assert watched.claim(drainer=watched.drainer()) == []


@pytest.mark.parametrize(("after", "pause"), [(0, 1), (-5, 1), (10**9, 24 * 3600)])
def test_a_throttle_pauses_from_a_second_to_a_day(watched, after, pause):
    (claim,) = claimed(watched)
    watched.settle((claim, Throttled(after, "later")))
    assert pause - 2 < pause_left(lane_of(claim)) <= pause


def test_a_throttle_never_shortens_a_pause(watched):
    (claim, other) = claimed(watched, 2)
    watched.settle((claim, Throttled(3600, "much later")))
    watched.settle((other, Throttled(5, "soon")))
    lane = lane_of(claim)
    assert pause_left(lane) > 3500
    assert lane.paused_why == "much later"


def test_a_throttled_head_stays_the_head_of_its_ordered_lane(watched):
    tenant = watched.tenant()
    works = [watched.add(tenant=tenant, seq=seq)[0] for seq in (1, 2)]
    (head,) = watched.claim(drainer=watched.drainer())
    watched.settle((head, Throttled(1, "later")))
    Lane.objects.using("operator").update(paused_until=None)
    (again,) = watched.claim(drainer=watched.drainer())
    assert (again.id, again.attempt) == (works[0].pk, 1)


def test_a_throttled_work_past_its_policys_window_counts_as_retried(watched):
    long_ago = datetime.now(UTC) - timedelta(hours=2)
    (claim,) = claimed(watched, created_at=long_ago)
    watched.settle((claim, TOO_MANY))
    work = Parcel.objects.using("operator").get(pk=claim.id)
    assert (work.state, work.attempts) == ("dead_letter", 1)
    assert letter_of(work).reason == "exhausted"
    assert lane_of(claim) is None  # It says nothing of the lane.


def test_a_throttled_undoing_waits_and_pauses_nothing(watched):
    watched.add(state="discarding")
    (claim,) = watched.claim_undo(drainer=watched.drainer())
    watched.settle((claim, TOO_MANY))
    work = Parcel.objects.using("operator").get(pk=claim.id)
    assert (work.state, work.attempts) == ("discarding", 0)
    assert work.due_at > datetime.now(UTC) + timedelta(seconds=80)
    assert lane_of(claim) is None


def test_throttling_needs_no_breaker(engine):
    (claim,) = claimed(engine)
    engine.settle((claim, TOO_MANY))
    assert 88 < pause_left(lane_of(claim)) <= 90


# ---- The breaker ----


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


def opened(watched):
    """A lane whose breaker has opened and whose pause is over: its row, and a claim of it."""
    claims = claimed(watched, 3)
    fail(watched, claims)
    over(lane_of(claims[0]))
    watched.add(tenant=claims[0].tenant_id, count=4, max_attempts=20)
    return claims[0]


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
    assert (lane.trips, lane.paused_until, lane.paused_why) == (1, until, "they asked us to")
    watched.settle((claims[3], Succeeded()))
    lane = lane_of(claims[0])
    assert (lane.trips, lane.paused_until, lane.paused_why) == (0, until, "they asked us to")


def test_an_operators_pause_of_an_open_lane_outlives_the_breaker(watched):
    claims = claimed(watched, 4)
    fail(watched, claims[:3])
    until = operators_pause(claims[0], days=1)
    watched.settle((claims[3], Succeeded()))
    assert lane_of(claims[0]).paused_until == until


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


# ---- Notices ----


def test_dead_works_are_told_of_once_a_batch_and_lane(watched):
    claims = claimed(watched, 2)
    fail(watched, claims, Fail("never", healthy=True))
    [args] = notices(claims[0])
    assert args == {
        "queue": "parcels",
        "lane": claims[0].lane,
        "what": "exhausted",
        "works": [str(claim.id) for claim in claims],
        "count": 2,
        "failing_since": None,
        "reason": "failed",
        "quiet": False,
    }


def test_a_notice_is_a_job_of_the_tenants_like_any_other(watched):
    (claim,) = claimed(watched)
    fail(watched, [claim], Fail("never"))
    job = Job.objects.using("operator").get(kind="notice", tenant_id=claim.tenant_id)
    assert (job.state, job.lane) == ("pending", f"jobs:{claim.tenant_id}")
    assert (job.max_attempts, job.priority) == (3, 0)


def test_a_notice_names_a_hundred_works_and_counts_all(watched):
    claims = claimed(watched, 101)
    fail(watched, claims, Fail("never", healthy=True))
    [args] = notices(claims[0])
    assert (len(args["works"]), args["count"]) == (100, 101)


def test_opening_is_told_of_once_and_recovering_too(watched):
    claim = opened(watched)
    assert told(claim) == ["opened"]
    [args] = notices(claim)
    since = lane_of(claim).failing_since
    assert (args["count"], args["reason"]) == (3, "503 from a.test")
    assert datetime.fromisoformat(args["failing_since"]) == since
    (probe,) = watched.claim(drainer=watched.drainer())
    fail(watched, [probe])
    assert told(claim) == ["opened"]  # Not again at each probe.
    over(lane_of(claim))
    (probe,) = watched.claim(drainer=watched.drainer())
    watched.settle((probe, Succeeded()))
    assert told(claim) == ["opened", "recovered"]
    args = notices(claim)[1]
    assert args["works"] == [str(probe.id)]
    assert datetime.fromisoformat(args["failing_since"]) == since
    held = watched.claim(drainer=watched.drainer())
    watched.settle(*((one, Succeeded()) for one in held))
    assert told(claim) == ["opened", "recovered"]


def test_a_lane_that_failed_without_opening_recovers_silently(watched):
    claims = claimed(watched, 3)
    fail(watched, claims[:2])
    watched.settle((claims[2], Succeeded()))
    assert told(claims[0]) == []
    assert lane_of(claims[0]).failing_since is None


@pytest.mark.parametrize(
    ("outcome", "what"),
    [
        (Fail("410 Gone", notice="gone"), ["gone", "exhausted"]),
        (Retry("503", notice="odd"), ["odd"]),
        (Succeeded(notice="first"), ["first"]),
    ],
)
def test_an_outcome_has_told_what_it_asks_for(watched, outcome, what):
    (claim,) = claimed(watched)
    watched.settle((claim, outcome))
    assert told(claim) == what


def test_quiet_works_are_told_of_nowhere(watched):
    claims = claimed(watched, 3)
    quiet = [replace(claim, data={"quiet": True}) for claim in claims]
    fail(watched, quiet, Fail("never"))
    assert lane_of(claims[0]).trips == 1
    assert told(claims[0]) == []


def test_what_a_quiet_works_outcome_asks_for_is_passed_on_as_quiet(watched):
    (claim,) = claimed(watched)
    fail(watched, [replace(claim, data={"quiet": True})], Fail("410 Gone", notice="gone"))
    [args] = notices(claim)
    assert (args["what"], args["reason"], args["quiet"]) == ("gone", "410 Gone", True)


def test_a_settlement_that_comes_too_late_tells_nobody_and_counts_nothing(watched):
    (claim,) = claimed(watched)
    watched.silence(claim.drainer)
    watched.rescue()
    fail(watched, [claim], Fail("never", notice="gone"))
    assert told(claim) == []
    assert lane_of(claim) is None


def test_a_notice_stands_or_falls_with_its_settlement(watched, superuser):
    superuser.execute(
        "create function refuse() returns trigger language plpgsql as"
        " $$ begin raise exception 'no letters today' using errcode = 'check_violation'; end $$"
    )
    superuser.execute(
        "create trigger refuse before insert on jobs_job for each row execute function refuse()"
    )
    (claim,) = claimed(watched)
    try:
        fail(watched, [claim], Fail("never"))
    finally:
        superuser.execute("drop trigger refuse on jobs_job; drop function refuse()")
    assert Parcel.objects.using("operator").get(pk=claim.id).state == "processing"
    assert attempts_of(Parcel(pk=claim.id)) == []
    fail(watched, [claim], Fail("never"))
    assert told(claim) == ["exhausted"]


def test_a_queue_that_names_no_kind_tells_nobody(engine):
    (claim,) = claimed(engine)
    fail(engine, [claim], Fail("never", notice="gone"))
    assert told(claim) == []


# ---- At once, and how much ----


def both(engine, first, second):
    """Two drainers settle at once."""
    other, gate, failed = Engine(), threading.Barrier(2), []

    def run(mine, ends):
        gate.wait()
        try:
            for claim, outcome in ends:
                mine.settle((claim, outcome))
        except Exception as error:
            failed.append(error)

    threads = [
        threading.Thread(target=run, args=(engine, first)),
        threading.Thread(target=run, args=(other, second)),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    other.close()
    assert failed == []


def test_two_drainers_that_settle_for_one_lane_lose_no_failure(watched, monkeypatch):
    monkeypatch.setattr("tests.jobs.test_health.BREAKER", Breaker(failures=1000))
    queue.cache_clear()
    for _ in range(5):  # The first failures of a lane make its row.
        claims = claimed(watched, 4)
        ends = [(claim, Retry("no")) for claim in claims]
        both(watched, ends[:2], ends[2:])
        assert lane_of(claims[0]).failures == 4


def test_two_drainers_that_settle_for_the_same_lanes_do_not_deadlock(watched, superuser):
    [before] = superuser.execute(
        "select deadlocks from pg_stat_database where datname = current_database()"
    ).fetchone()
    tenant = watched.tenant()
    for _ in range(5):
        claims = [claimed(watched, 2, tenant=tenant, lane=f"lane:{n}") for n in range(8)]
        first = [(one, Retry("no")) for one, _ in claims]
        second = [(two, Succeeded()) for _, two in reversed(claims)]
        together = threading.Barrier(2)
        other = Engine()

        def settle(mine, ends, together=together):
            together.wait()
            mine.settle(*ends)

        threads = [
            threading.Thread(target=settle, args=(watched, first)),
            threading.Thread(target=settle, args=(other, second)),
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        other.close()
        Lane.objects.using("operator").filter(tenant_id=tenant).delete()
    [after] = superuser.execute(
        "select deadlocks from pg_stat_database where datname = current_database()"
    ).fetchone()
    assert after == before


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
    from jobs.engine import verdict

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
