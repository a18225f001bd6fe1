"""A failure that is its whole lane's: one work is dead of it, and the others wait."""

from collections import Counter

import pytest

from jobs.models import Lane
from jobs.outcomes import Exchange, Fail
from tests.jobs.conftest import attempts_of, letter_of
from tests.jobs.watching import claimed, lane_of, notices, pause_left
from tests.works.models import Parcel

EXCHANGE = Exchange({"method": "POST"}, {"status": 410})
GONE = Fail("410 Gone", EXCHANGE, notice="gone", shuts=3600)


def states(claims) -> list[str]:
    rows = dict(Parcel.objects.using("operator").values_list("pk", "state"))
    return [rows[claim.id] for claim in claims]


def test_of_those_under_way_the_first_is_dead_and_the_others_are_tries_that_failed(watched):
    claims = claimed(watched, 4)
    watched.settle(*((claim, GONE) for claim in claims[:2]))
    watched.settle(*((claim, GONE) for claim in claims[2:]))
    assert states(claims) == ["dead_letter", "failed", "failed", "failed"]
    first, *others = (Parcel.objects.using("operator").get(pk=claim.id) for claim in claims)
    assert letter_of(first).response == EXCHANGE.response
    assert [attempts_of(one) for one in others] == [[(1, "retry")]] * 3
    assert {one.last_error for one in others} == {"410 Gone"}


def test_it_shuts_its_lane_in_the_settling_transaction_and_is_told(watched):
    (claim, other) = claimed(watched, 2)
    watched.settle((claim, GONE))
    lane = lane_of(claim)
    assert 3590 < pause_left(lane) <= 3600
    assert (lane.paused_why, lane.failures) == ("410 Gone", 1)
    assert Counter(one["what"] for one in notices(claim)) == {"gone": 1, "exhausted": 1}
    watched.hand_back(other)
    assert watched.claim(drainer=watched.drainer()) == []


def test_one_is_dead_in_each_lane(watched):
    claims = [claim for _ in range(3) for claim in claimed(watched, 2)]
    watched.settle(*((claim, GONE) for claim in claims))
    assert states(claims) == ["dead_letter", "failed"] * 3


@pytest.mark.parametrize("ends", ["over", "the breaker's"])
def test_a_pause_that_is_over_or_the_breakers_spares_nobody(watched, ends):
    (claim, other) = claimed(watched, 2)
    watched.settle((claim, GONE))
    lane = Lane.objects.using("operator").filter(pk=lane_of(claim).pk)
    if ends == "over":
        lane.update(paused_until="2026-01-01T00:00Z")
    else:
        lane.update(opened_until=lane.get().paused_until)
    watched.settle((other, GONE))
    assert states([claim, other]) == ["dead_letter", "dead_letter"]
