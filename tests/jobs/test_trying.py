"""One try: the step under its deadline, whatever it does."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from jobs.engine.threads import Threads
from jobs.engine.trying import CANCEL_SECONDS, Try
from jobs.outcomes import Succeeded, Unknown
from jobs.registry import queue
from jobs.steps import Claim
from tenants.context import current_tenant


def attempt(step, *, deadline=5.0, **columns):
    import time

    now = datetime.now(UTC)
    claim = Claim(
        queue="parcels",
        id=uuid4(),
        tenant_id=7,
        schema="pool",
        lane="lane:7",
        lease=1,
        attempt=1,
        max_attempts=3,
        forgiven=0,
        losses=0,
        discarding=False,
        created_at=now,
        started_at=now,
        drainer=1,
        deadline=time.monotonic() + deadline,
    )
    served = replace(queue("parcels"), step=step, undo=None, deadline=deadline)
    threads = Threads()

    async def run():
        threads.use()
        ended = asyncio.get_running_loop().create_future()
        Try(replace(claim, **columns), served, lambda *came: ended.set_result(came))
        outcome, elapsed = await ended
        assert 0 <= elapsed < deadline + CANCEL_SECONDS + 5
        return outcome

    return asyncio.run(run()), threads


def test_a_step_runs_in_its_tenants_context_on_a_thread_and_on_the_loop():
    seen = []

    def step(claim):
        seen.append(current_tenant())
        return Succeeded()

    async def step_async(claim):
        return step(claim)

    for each in (step, step_async):
        assert attempt(each)[0] == Succeeded()
    assert seen == [(7, "pool"), (7, "pool")]
    assert current_tenant() is None


def test_an_async_step_past_its_deadline_is_cancelled():
    async def step(claim):
        await asyncio.sleep(60)

    assert attempt(step, deadline=0.05)[0] == Unknown("not done after 0.05 s")


def test_a_step_that_finishes_while_it_is_being_cancelled_has_finished():
    async def step(claim):
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            return Succeeded()

    assert attempt(step, deadline=0.05)[0] == Succeeded()


def test_an_async_step_that_cannot_be_cancelled_is_left_behind():
    async def step(claim):
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                if not stubborn.pop():
                    raise

    stubborn = [False, True]  # The deadline's cancellation is ignored, the end of the loop's not.
    assert attempt(step, deadline=0.05)[0] == Unknown("not done after 0.05 s")
    assert stubborn == []


def test_a_thread_past_its_deadline_is_written_off_until_it_comes_back():
    import threading

    let_go = threading.Event()

    def step(claim):
        let_go.wait(10)
        return Succeeded()

    outcome, threads = attempt(step, deadline=0.05)
    assert outcome == Unknown("not done after 0.05 s")
    assert threads.written_off == 1
    let_go.set()


@pytest.mark.parametrize(
    "raised",
    [
        *(ValueError, SystemExit, KeyboardInterrupt),
        *(BaseException, asyncio.CancelledError, GeneratorExit),
    ],
)
def test_whatever_a_step_raises_is_an_outcome(raised):
    def step(claim):
        raise raised("why")

    async def step_async(claim):
        raise raised("why")

    for each in (step, step_async):
        assert attempt(each)[0] == Unknown(f"{raised.__name__}: why")


def test_a_queue_without_an_undo_step_has_nothing_to_undo():
    def step(claim):
        raise AssertionError

    assert attempt(step, discarding=True)[0] == Succeeded()
