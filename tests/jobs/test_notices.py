"""Who is told of dead works and ailing lanes: once, and with the settlement or not at all."""

from dataclasses import replace
from datetime import datetime

import pytest

from jobs.models import Job
from jobs.outcomes import Fail, Retry, Succeeded
from tests.jobs.conftest import attempts_of
from tests.jobs.watching import claimed, fail, lane_of, notices, opened, over, told
from tests.works.models import Parcel


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
        "begun_at": max(claim.started_at for claim in claims).isoformat(),
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
