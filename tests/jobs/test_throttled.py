"""Told to come later: no attempt is spent, and the lane waits."""

from datetime import UTC, datetime, timedelta

import pytest

from jobs import services, shutting
from jobs.models import Attempt, Lane
from jobs.outcomes import Exchange, Throttled
from tests.jobs.conftest import letter_of
from tests.jobs.watching import claimed, lane_of, pause_left
from tests.works.models import Parcel

EXCHANGE = Exchange({"method": "POST", "url": "https://a.test/"}, {"status": 429, "body": "no"})
TOO_MANY = Throttled(90, "429 Too Many Requests", EXCHANGE)


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


def test_a_work_that_was_throttled_for_its_policys_window_is_retried_and_the_lane_waits(watched):
    long_ago = datetime.now(UTC) - timedelta(hours=2)
    (claim,) = claimed(watched, created_at=long_ago, throttled_since=long_ago)
    watched.settle((claim, TOO_MANY))
    work = Parcel.objects.using("operator").get(pk=claim.id)
    assert (work.state, work.attempts) == ("dead_letter", 1)  # Its window bounds its tries, too.
    assert letter_of(work).reason == "exhausted"
    lane = lane_of(claim)
    assert 88 < pause_left(lane) <= 90
    assert (lane.failures, lane.failing_since) == (0, None)


def test_what_waited_for_long_before_it_was_throttled_loses_no_attempt_by_it(watched):
    long_ago = datetime.now(UTC) - timedelta(days=30)
    (claim,) = claimed(watched, created_at=long_ago)
    watched.settle((claim, TOO_MANY))
    work = Parcel.objects.using("operator").get(pk=claim.id)
    assert (work.state, work.attempts) == ("pending", 0)
    assert pause_left(lane_of(claim)) > 88


def test_a_works_window_begins_with_its_first_throttle_and_is_not_prolonged_by_others(watched):
    since = datetime.now(UTC) - timedelta(minutes=30)
    (first, second) = claimed(watched, 2)
    watched.settle((first, TOO_MANY))
    Parcel.objects.using("operator").filter(pk=second.id).update(throttled_since=since)
    watched.settle((second, TOO_MANY))
    rows = Parcel.objects.using("operator")
    assert rows.get(pk=first.id).throttled_since > since + timedelta(minutes=29)
    assert rows.get(pk=second.id).throttled_since == since


@pytest.mark.parametrize("how", ["replayed", "released"])
def test_what_is_replayed_or_released_has_its_window_anew(watched, how):
    long_ago = datetime.now(UTC) - timedelta(hours=2)
    state = {"replayed": "dead_letter", "released": "held"}[how]
    (work,) = watched.add(state=state, throttled_since=long_ago)
    if how == "replayed":
        services.replay_work(queue="parcels", work_id=work.pk, actor="operator:1", reason="mended")
    else:
        shutting.release(queue="parcels", tenant_id=work.tenant_id, lane=work.lane)
    work.refresh_from_db(using="operator")
    assert (work.state, work.throttled_since) == ("pending", None)


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
