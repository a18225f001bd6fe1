"""One try at one work: the step under its deadline, in its tenant's context, whatever it raises."""

import asyncio
import time

import structlog
from structlog.contextvars import bind_contextvars

from config.problems import is_moving
from jobs.engine import clean
from jobs.engine.calling import call
from jobs.engine.threads import StepDied
from jobs.outcomes import Outcome, Snooze, Succeeded, Unknown
from jobs.registry import Queue
from jobs.steps import Claim, Step
from tenants.context import tenant_context

log = structlog.get_logger(__name__)

MOVING_SECONDS = 1.0  # Until a write that was refused is tried again.
CANCEL_SECONDS = 1.0  # What an async step gets to clean up after its deadline.


async def attempt(claim: Claim, queue: Queue) -> Outcome:
    """Run the claim's step; always an outcome, never an exception.

    What broke off in the middle is Unknown: most queues try such work again, and those whose works
    must not happen twice do not.
    """
    step = queue.undo if claim.discarding else queue.step
    if step is None:
        return Succeeded()  # Nothing to undo.
    task = asyncio.create_task(_guarded(step, claim, queue))
    await asyncio.wait({task}, timeout=max(0.0, claim.deadline - time.monotonic()))
    if not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=CANCEL_SECONDS)
    if task.done() and not task.cancelled():
        return task.result()
    return Unknown(f"not done after {queue.deadline:g} s")


async def _guarded(step: Step, claim: Claim, queue: Queue) -> Outcome:
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
