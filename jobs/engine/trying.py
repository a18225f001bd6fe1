"""One try at one work: the step under its deadline, in its tenant's context, whatever it raises."""

import asyncio
import time
from collections.abc import Callable

import structlog
from structlog.contextvars import bind_contextvars

from config.problems import is_moving
from jobs.engine import clean
from jobs.engine.calling import call
from jobs.engine.threads import StepDied
from jobs.outcomes import Outcome, Snooze, Succeeded, Unknown
from jobs.registry import Queue
from jobs.steps import Claim
from tenants.context import tenant_context

log = structlog.get_logger(__name__)

MOVING_SECONDS = 1.0  # Until a write that was refused is tried again.
CANCEL_SECONDS = 1.0  # What an async step gets to clean up after its deadline.


class Try:
    """One try under way, from its making on. On a loop only.

    `ended` is called once, with what the step came to and the seconds that it took. It is always an
    outcome, never an exception. What broke off in the middle is Unknown: most queues try such work
    again, and those whose works must not happen twice do not.
    """

    __slots__ = ("_began_at", "_ended", "_queue", "_task", "_timer")

    def __init__(self, claim: Claim, queue: Queue, ended: Callable[[Outcome, float], None]) -> None:
        loop = asyncio.get_running_loop()
        self._queue = queue
        self._ended: Callable[[Outcome, float], None] | None = ended
        self._began_at = time.monotonic()
        self._task = loop.create_task(_guarded(claim, queue))
        self._task.add_done_callback(self._done)
        left = max(0.0, claim.deadline - self._began_at)
        self._timer = loop.call_later(left, self._overdue)

    def _done(self, task: asyncio.Task[Outcome]) -> None:
        if task.cancelled():
            self._end(self._late())
        elif (error := task.exception()) is not None:
            self._end(_raised(error, self._queue))
        else:
            self._end(task.result())

    def _overdue(self) -> None:
        self._task.cancel()
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(CANCEL_SECONDS, self._end, self._late())

    def _late(self) -> Unknown:
        return Unknown(f"not done after {self._queue.deadline:g} s")

    def _end(self, outcome: Outcome) -> None:
        self._timer.cancel()
        ended, self._ended = self._ended, None
        if ended is not None:
            ended(outcome, time.monotonic() - self._began_at)


async def _guarded(claim: Claim, queue: Queue) -> Outcome:
    step = queue.undo if claim.discarding else queue.step
    if step is None:
        return Succeeded()  # Nothing to undo.
    # The task's own context ends with it: nothing has to be unbound.
    bind_contextvars(
        queue=claim.queue, tenant=claim.tenant_id, work=str(claim.id), attempt=claim.attempt
    )
    with tenant_context(claim.tenant):
        try:
            return await call(step, claim)
        except StepDied as died:
            return _raised(died.args[0], queue)
        except GeneratorExit:
            raise  # The loop is being torn down.
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise  # The deadline.
            return _raised(error, queue)
        except BaseException as error:  # A step may raise anything, SystemExit too.
            return _raised(error, queue)


def _raised(error: BaseException, queue: Queue) -> Unknown | Snooze:
    if is_moving(error) and not queue.model.never_twice:
        # What it wrote was rolled back. It is claimed anew, and finds the tenant's new home.
        return Snooze(MOVING_SECONDS, "its tenant is moving to another home")
    log.warning("step_raised", exc_info=error)
    return Unknown(clean.said(error))
