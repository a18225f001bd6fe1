"""Calling a step: on the loop when it is async, on a thread otherwise."""

import inspect
from typing import cast

from jobs.engine import threads
from jobs.outcomes import Outcome
from jobs.steps import Claim, Step


async def call(step: Step, claim: Claim) -> Outcome:
    """The outcome of `step`. Raises what it raises; on a thread, as threads.StepDied."""
    if inspect.iscoroutinefunction(step):
        return cast("Outcome", await step(claim))
    return cast("Outcome", await threads.current().run(step, claim))
