"""From outcome to settlement: what a try's end means for the work. Randomness is passed in."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from jobs.models import Attempt, DeadLetter
from jobs.outcomes import Exchange, Fail, Outcome, Retry, Snooze, Succeeded, Unknown
from jobs.registry import Queue
from jobs.retry import Policy
from jobs.states import State
from jobs.steps import Claim

POISONOUS = 3  # Losses in a row.


@dataclass(frozen=True, slots=True)
class Settlement:
    """What to write about one claim. `delay` is in seconds from now, by the database's clock."""

    claim: Claim
    state: State
    delay: float | None = None
    error: str | None = None  # None leaves the last error standing.
    counted: bool = True  # False: it was no attempt, and the claim's count is taken back.
    lost: bool = False
    came: Attempt.Came | None = None  # None: no attempt row.
    duration_ms: int | None = None
    exchange: Exchange | None = None
    patch: dict[str, Any] | None = None
    dead: DeadLetter.Reason | None = None


def settle(
    claim: Claim, outcome: Outcome, *, queue: Queue, elapsed: float, random: Callable[[], float]
) -> Settlement:
    """What `outcome` means after `elapsed` seconds of trying."""
    judged = _judge(claim, outcome, queue, random, elapsed)
    return replace(judged, duration_ms=min(int(elapsed * 1000), 2**31 - 1))


def _judge(
    claim: Claim, outcome: Outcome, queue: Queue, random: Callable[[], float], elapsed: float
) -> Settlement:
    match outcome:
        case Succeeded():
            return Settlement(
                claim,
                State.DISCARDED if claim.discarding else State.SUCCEEDED,
                error="",
                came=Attempt.Came.SUCCEEDED,
                exchange=outcome.exchange,
                patch=dict(outcome.patch) if outcome.patch else None,
            )
        case Snooze():
            waiting = State.DISCARDING if claim.discarding else State.SCHEDULED
            delay = max(0.0, outcome.delay)
            return Settlement(claim, waiting, delay=delay, error=outcome.reason, counted=False)
        case Fail():
            return _dead(claim, outcome.error, outcome.exchange, DeadLetter.Reason.FAILED)
        case Unknown() if queue.model.never_twice and not claim.discarding:
            return Settlement(
                claim,
                State.UNKNOWN,
                error=outcome.error,
                came=Attempt.Came.UNKNOWN,
                exchange=outcome.exchange,
            )
        case Unknown():
            again = Retry(outcome.error, exchange=outcome.exchange)
            return _retry(claim, again, queue.policy(claim), random, elapsed)
        case Retry():
            return _retry(claim, outcome, queue.policy(claim), random, elapsed)
    return _dead(
        claim,
        f"the step returned {type(outcome).__name__}, not an outcome",
        None,
        DeadLetter.Reason.FAILED,
    )


def hand_back(claim: Claim) -> Settlement:
    """It was never started: as if it had not been claimed."""
    state = State.DISCARDING if claim.discarding else State.PENDING
    return Settlement(claim, state, counted=False)


def lose(claim: Claim, *, queue: Queue) -> Settlement:
    """Its drainer died in mid-step. The loss is recorded and takes none of the work's attempts."""
    error = f"lost: drainer {claim.drainer} died while it ran"
    if queue.model.never_twice and not claim.discarding:
        return Settlement(claim, State.UNKNOWN, error=error, lost=True, came=Attempt.Came.LOST)
    if claim.losses + 1 >= POISONOUS:
        poison = _dead(
            claim, f"{error}, the {POISONOUS}rd time in a row", None, DeadLetter.Reason.POISON
        )
        return replace(poison, lost=True, came=Attempt.Came.LOST)
    state = State.DISCARDING if claim.discarding else State.PENDING
    return Settlement(claim, state, delay=0.0, error=error, lost=True, came=Attempt.Came.LOST)


def unsettled(settlement: Settlement, error: str) -> Settlement:
    """What to write in place of a settlement whose data the database refused."""
    claim = settlement.claim
    if settlement.patch:
        return _dead(
            claim, f"its result could not be written: {error}", None, DeadLetter.Reason.FAILED
        )
    return replace(
        settlement, error=settlement.error and f"unwritable error: {error}", exchange=None
    )


def _retry(
    claim: Claim, outcome: Retry, policy: Policy, random: Callable[[], float], elapsed: float
) -> Settlement:
    # A replay grants a new budget on top of the attempts that were; backoff begins anew with it.
    nth = claim.attempt - (claim.max_attempts - policy.attempts)
    age = (claim.started_at - claim.created_at).total_seconds() + elapsed
    if not policy.allows(nth, age=age):
        return _dead(claim, outcome.error, outcome.exchange, DeadLetter.Reason.EXHAUSTED)
    return Settlement(
        claim,
        State.DISCARDING if claim.discarding else State.FAILED,
        delay=policy.delay(nth, random=random, retry_after=outcome.after),
        error=outcome.error,
        came=Attempt.Came.RETRY,
        exchange=outcome.exchange,
    )


def _dead(
    claim: Claim, error: str, exchange: Exchange | None, reason: DeadLetter.Reason
) -> Settlement:
    return Settlement(
        claim,
        State.DEAD_LETTER,
        error=error,
        came=Attempt.Came.FAILED,
        exchange=exchange,
        dead=DeadLetter.Reason.UNDO if claim.discarding else reason,
    )
