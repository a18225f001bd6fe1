"""Rescue: works of the dead, closed once, and done by others."""

import threading

import pytest

from jobs.engine import drainer
from jobs.models import Drainer
from jobs.outcomes import Retry, Succeeded
from tests.jobs.conftest import Engine, attempts_of, drain, fresh, letter_of
from tests.works.models import Telegram


def lose(engine, work):
    """One drainer claims the work and dies of it."""
    me = engine.drainer()
    claims = engine.claim(drainer=me)
    assert [claim.id for claim in claims] == [work.pk]
    engine.silence(me)
    return engine.rescue()


def test_a_silent_drainers_work_may_run_again_and_its_loss_costs_no_attempt(engine):
    (work,) = engine.add(max_attempts=3)
    assert lose(engine, work) == 1
    work = fresh(work)
    assert (work.state, work.lease, work.drainer, work.losses) == ("pending", None, None, 1)
    assert (work.attempts, work.max_attempts) == (1, 4)
    assert attempts_of(work) == [(1, "lost")]


def test_a_drainer_that_beats_is_left_alone(engine):
    (work,) = engine.add()
    me = engine.drainer(silent=14)
    engine.claim(drainer=me)
    assert engine.rescue() == 0
    assert fresh(work).state == "processing"


def test_three_losses_in_a_row_are_poison(engine):
    (work,) = engine.add()
    for _ in range(3):
        lose(engine, work)
    assert fresh(work).state == "dead_letter"
    assert letter_of(work).reason == "poison"
    assert attempts_of(work) == [(1, "lost"), (2, "lost"), (3, "lost")]


def test_losses_that_are_not_in_a_row_are_not_poison(engine):
    (work,) = engine.add(max_attempts=20)
    for _ in range(3):
        lose(engine, work)
        if fresh(work).losses == 2:
            (claim,) = engine.claim(drainer=engine.drainer())
            engine.settle((claim, Retry("not yet")))
            engine.look()
    assert fresh(work).state == "pending"


def test_what_must_not_happen_twice_becomes_unknown(engine):
    (telegram,) = engine.add(Telegram)
    me = engine.drainer()
    engine.claim("telegrams", drainer=me)
    engine.silence(me)
    engine.rescue()
    assert fresh(telegram).state == "unknown"


def refuse(superuser, when):
    """Let the telegrams' table refuse certain updates."""
    superuser.execute(
        "create function public.refuse() returns trigger language plpgsql as $$ begin"
        " raise exception 'not here' using errcode = 'check_violation'; end $$"
    )
    superuser.execute(
        f"create trigger refuse before update on works_telegram for each row when ({when})"
        " execute function public.refuse()"
    )


@pytest.fixture
def yielding(superuser):
    yield superuser
    superuser.execute("drop trigger if exists refuse on works_telegram")
    superuser.execute("drop function if exists public.refuse()")


def test_what_was_begun_and_cannot_be_settled_is_unknown_where_it_must_not_happen_twice(
    engine, yielding, monkeypatch
):
    monkeypatch.setattr(drainer, "SWEEP", 0.1)
    refuse(yielding, "new.state in ('succeeded', 'failed', 'dead_letter', 'pending')")
    (telegram,) = engine.add(Telegram)
    begun = []

    async def step(claim):
        begun.append(claim.id)
        return Succeeded()

    died = drain(lambda *_: fresh(telegram).state == "unknown", step=step)
    assert (died, begun) == ([], [telegram.pk])
    assert attempts_of(telegram) == [(1, "lost")]
    assert fresh(telegram).last_error == drainer.UNWRITTEN


def test_what_was_never_begun_goes_back_though_it_must_not_happen_twice(engine, monkeypatch):
    monkeypatch.setattr(drainer, "SWEEP", 0.1)
    (telegram,) = engine.add(Telegram, state="scheduled", due_at="2100-01-01T00:00Z")

    def claim_unheard(loop):
        """As if the answer to the drainer's claim had been lost."""
        waits = {"pk": telegram.pk, "state": "scheduled"} if loop.id else {"pk": None}
        Telegram.objects.using("operator").filter(**waits).update(
            state="processing", attempts=1, lease=2**40, drainer=loop.id
        )

    drain(lambda *_: fresh(telegram).state == "succeeded", meanwhile=claim_unheard)
    assert attempts_of(telegram) == [(1, "succeeded")]


def test_undoing_that_was_lost_is_undone_again(engine):
    (work,) = engine.add(state="discarding")
    me = engine.drainer()
    (claim,) = engine.claim_undo(drainer=me)
    assert claim.discarding
    engine.silence(me)
    assert engine.rescue() == 1
    assert fresh(work).state == "discarding"
    (again,) = engine.claim_undo(drainer=engine.drainer())
    engine.settle((again, Succeeded()))
    assert fresh(work).state == "discarded"


def test_the_dead_are_forgotten_once_nothing_names_them(engine):
    engine.add()
    me = engine.drainer()
    engine.claim(drainer=me)
    engine.silence(me)
    engine.rescue()
    assert not Drainer.objects.using("operator").filter(pk=me).exists()


def test_several_rescuers_at_once_close_each_work_once(engine):
    works = [engine.add()[0] for _ in range(40)]
    for _ in range(8):
        me = engine.drainer()
        engine.claim(drainer=me)
        engine.silence(me)
    closed = []

    def rescue() -> None:
        mine = Engine()
        closed.append(mine.rescue())
        mine.close()

    threads = [threading.Thread(target=rescue) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    held = [work for work in works if attempts_of(work)]
    assert sum(closed) == len(held) == 40
    assert all(attempts_of(work) == [(1, "lost")] for work in works)
