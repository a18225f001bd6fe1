"""Outcomes that make no sense, or too much of it: they end their own work, and no other."""

import threading
from datetime import UTC, date, datetime, timedelta

import pytest

from jobs.engine import clean, link
from jobs.models import Attempt
from jobs.outcomes import Exchange, Fail, Retry, Snooze, Succeeded, Unknown
from tests.jobs.conftest import attempts_of, drain, fresh, letter_of
from tests.works.models import Parcel

HELD = {"pending", "processing"}


def do(engine, outcome, *, neighbours=3, **changes):
    """Have a drainer do one work that ends so, among others that succeed: the one, the others."""
    (odd, *others) = works = [engine.add()[0] for _ in range(1 + neighbours)]

    def step(claim):
        return outcome if claim.id == odd.pk else Succeeded()

    died = drain(lambda *_: not HELD & states(works), name="parcels", step=step, **changes)
    assert died == []
    assert states(others) == {"succeeded"}
    assert all(len(attempts_of(other)) == 1 for other in others)
    return fresh(odd)


def states(works):
    rows = Parcel.objects.using("operator").filter(pk__in=[work.pk for work in works])
    return set(rows.values_list("state", flat=True))


class Untellable:
    def __str__(self):
        raise RuntimeError("no words")


@pytest.mark.parametrize(
    "outcome",
    [
        Snooze(None, "not now"),
        Snooze("soon", "not now"),
        Snooze(float("nan"), "not now"),
        Snooze(10**400, "not now"),
        Retry("not yet", after="5"),
        Retry(Untellable()),
        Fail("never", exchange="POST https://a.test/"),
        Succeeded(patch={"result": object()}),
        Succeeded(patch=5),
        Succeeded(patch={"result": "x" * 2_000_000}),
    ],
    ids=[
        *("no-delay", "a-word-for-a-delay", "nan-seconds", "more-seconds-than-floats-hold"),
        *("a-text-for-after", "an-error-that-cannot-be-read", "no-exchange"),
        *("an-object-in-a-patch", "no-patch", "a-patch-of-megabytes"),
    ],
)
def test_an_outcome_that_cannot_be_settled_fails_its_own_work_and_no_other(engine, outcome):
    work = do(engine, outcome)
    assert (work.state, work.losses, work.lease) == ("dead_letter", 0, None)
    assert attempts_of(work) == [(1, "failed")]
    assert letter_of(work).error.startswith("the step's outcome cannot be settled: ")


@pytest.mark.parametrize(
    ("outcome", "state"),
    [
        (Fail(None), "dead_letter"),
        (Retry(None), "failed"),
        (Unknown(None), "failed"),
        (Snooze(60, None), "scheduled"),
    ],
)
def test_an_error_that_was_left_out_is_a_text(engine, outcome, state):
    (work,) = engine.add(last_error="an older one")
    (claim,) = engine.claim(drainer=engine.drainer())
    assert engine.settle((claim, outcome)) == 1
    assert (fresh(work).state, fresh(work).last_error) == (state, "the step did not say why")


def test_a_failure_without_a_word_is_settled_by_the_drainer(engine):
    work = do(engine, Fail(None))
    assert work.state == "dead_letter"
    assert letter_of(work).error == "the step did not say why"


def test_dates_and_ids_in_a_patch_are_written_as_text(engine):
    work = do(engine, Succeeded(patch={"result": date(2026, 1, 2)}))
    assert (work.state, work.result) == ("succeeded", "2026-01-02")


def test_a_snooze_without_end_waits_for_a_century(engine):
    work = do(engine, Snooze(float("inf"), "never again"))
    assert work.state == "scheduled"
    assert work.due_at > datetime.now(UTC) + timedelta(days=30_000)


def test_an_exchange_too_long_to_keep_is_left_out_and_the_work_moves_on(engine):
    many = {f"part {n}": "x" * clean.BODY_LENGTH for n in range(10)}
    work = do(engine, Succeeded(exchange=Exchange({"method": "POST"}, many)))
    assert work.state == "succeeded"
    attempt = Attempt.objects.using("operator").get(work_id=work.pk)
    assert attempt.request == {"method": "POST"}
    assert list(attempt.response) == ["left_out"]


@pytest.fixture
def choosy(superuser):
    """A table that finds some results too much, and ponders over others."""
    superuser.execute(
        """
        create function public.choose() returns trigger language plpgsql as $$
        begin
          if new.result = 'too much' then
            raise exception 'that is too much' using errcode = 'program_limit_exceeded';
          elsif new.result = 'too slow' then
            perform pg_sleep(60);
          end if;
          return new;
        end $$
        """
    )
    superuser.execute(
        "create trigger choose before update on works_parcel"
        " for each row execute function public.choose()"
    )
    yield
    superuser.execute("drop trigger choose on works_parcel")
    superuser.execute("drop function public.choose()")


@pytest.mark.parametrize("result", ["too much", "too slow"])
def test_what_one_work_makes_of_its_batch_holds_up_no_other(engine, choosy, monkeypatch, result):
    monkeypatch.setitem(link.SETTINGS, "statement_timeout", "300ms")
    work = do(engine, Succeeded(patch={"result": result}), neighbours=6)
    assert work.state == "dead_letter"
    assert letter_of(work).error.startswith("its result could not be written: ")


def test_a_mass_discard_that_hangs_leaves_the_slots_to_what_is_to_be_done(engine):
    given_up = [engine.add(state="discarding", attempts=1, max_attempts=4)[0] for _ in range(20)]
    let_go, new, hanging, most = threading.Event(), [], [], []

    def hang(claim):
        hanging.append(claim)
        most.append(len(hanging))
        let_go.wait(20)
        hanging.remove(claim)
        return Succeeded()

    def all_done(*_):
        if hanging and not new:
            new.extend(engine.add()[0] for _ in range(8))
        if not new or states(new) != {"succeeded"}:
            return False
        let_go.set()
        return states(given_up) == {"discarded"}

    drain(all_done, name="parcels", step=lambda claim: Succeeded(), undo=hang, deadline=30.0)
    assert max(most) == 2  # A quarter of eight slots.
