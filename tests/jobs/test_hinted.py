"""Hints that name tenants: a claim for these alone, whatever others have waiting."""

import time
from dataclasses import replace

import pytest

from jobs import hints
from jobs.engine.claim import Taken
from jobs.engine.serving import FEW, Serving
from jobs.hints import MOST_NAMED, Hint
from jobs.registry import queue
from tests.jobs.conftest import drain, fresh
from tests.works.models import Parcel

NOTHING = Taken([], exhausted=True, ended=True, contended=False, after=None, took=0.001)


@pytest.mark.parametrize("hint", [Hint("jobs"), Hint("jobs", frozenset({3, 12}))])
def test_a_hint_is_read_as_it_was_written(hint):
    assert Hint.read(hint.written()) == hint


@pytest.mark.parametrize("written", ["jobs x", "jobs -1", "jobs 1 ²", "jobs  1"])
def test_what_makes_no_sense_is_no_hint_for_any_queue(written):
    assert Hint.read(written) == Hint(written)


def test_hints_of_one_moment_are_one_for_each_queue():
    told = [("jobs", 1), ("jobs", 2), ("parcels", 3), ("parcels", None)]
    assert sorted(hints.gathered(told)) == [Hint("jobs", frozenset({1, 2})), Hint("parcels")]
    many = [("jobs", n) for n in range(MOST_NAMED + 1)]
    assert hints.gathered(many) == [Hint("jobs")]


def test_a_named_tenants_work_starts_while_the_round_rests(engine):
    """And nobody else's: a hint that names one is no reason for a round."""
    made = []

    def rests(drainer):
        serving = drainer._serving["parcels"]
        if not made and drainer.id:
            serving.rests_until = serving.wakes_at = time.monotonic() + 60
            made.extend([*engine.add(Parcel), *engine.add(Parcel)])
        if made:  # Again and again: nobody may be listening yet.
            hints.send("parcels", made[0].tenant_id)

    def done(*_):
        return made and fresh(made[0]).state == "succeeded"

    drain(done, name="parcels", meanwhile=rests)
    assert fresh(made[1]).state == "pending"


def test_what_is_left_of_a_named_tenants_works_is_left_to_the_round(engine):
    made = []

    def add(drainer):
        if not made and drainer.id:
            made.extend(engine.add(Parcel, 30))
            hints.send("parcels", made[0].tenant_id)

    def done(*_):
        return made and all(fresh(one).state == "succeeded" for one in made)

    drain(done, name="parcels", meanwhile=add)


def test_a_claim_for_named_tenants_takes_nothing_of_others(engine):
    mine, other = engine.add(Parcel), engine.add(Parcel)
    serving = Serving(queue("parcels"))
    at = engine.drainer()
    named = [mine[0].tenant_id, engine.tenant()]
    taken = engine.run(serving.claim(engine.connection, drainer=at, named=named))
    assert [claim.id for claim in taken.claims] == [mine[0].pk]
    assert taken.exhausted
    assert fresh(other[0]).state == "pending"


def test_who_is_named_does_not_wait_for_the_end_of_a_round(engine, monkeypatch):
    """A round of many claims, with a hint in the first of them."""
    other, tenant = engine.add(Parcel)[0], engine.tenant()
    for lane in range(30):
        engine.add(Parcel, tenant=tenant, lane=f"lane:{lane}")
    claims, claim = [], Serving.claim

    async def hinted(serving, *args, named=(), **kwargs):
        claims.append(list(named))
        if len(claims) == 1:
            serving.hear({other.tenant_id})
        return await claim(serving, *args, named=named, **kwargs)

    monkeypatch.setattr(Serving, "claim", hinted)
    drain(lambda *_: len(claims) >= 4, name="parcels", slots=64)
    assert claims[:4] == [[], [other.tenant_id], [], []]


def test_who_has_much_in_progress_waits_for_the_round():
    serving = Serving(queue("parcels"))
    serving.of_tenants[1] = FEW
    serving.hear({1, 2})
    assert serving.named == {2}
    assert serving.whole


@pytest.mark.parametrize("exhausted", [True, False])  # False: it has more lanes that are shut.
def test_who_was_named_in_vain_waits_for_the_round_for_a_moment(monkeypatch, exhausted):
    serving = Serving(queue("parcels"))
    serving.hear({1})
    assert (serving.named, serving.whole) == ({1}, False)
    serving.named.clear()
    serving.answered({1}, replace(NOTHING, exhausted=exhausted))
    serving.hear({1})
    assert (serving.named, serving.whole) == (set(), True)
    later = time.monotonic() + 1
    monkeypatch.setattr(time, "monotonic", lambda: later)
    serving.hear({1})
    assert serving.named == {1}


def test_a_hint_that_names_nobody_asks_for_the_round():
    serving = Serving(queue("parcels"))
    serving.hear(())
    assert (serving.named, serving.whole, serving.hinted) == (set(), True, True)
