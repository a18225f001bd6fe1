"""From outcome to settlement: what a try's end means for the work. Randomness is passed in.

Whatever a step returns becomes a settlement here, encoded and ready to be written: an outcome that
cannot be settled is a failure of its own work, and never of the batch that it is written with.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import date, time
from decimal import Decimal
from typing import Any
from uuid import UUID

import structlog

from jobs.engine import clean
from jobs.models import Attempt, DeadLetter
from jobs.outcomes import (
    Exchange,
    Fail,
    Outcome,
    Retry,
    Snooze,
    Succeeded,
    Throttled,
    Unknown,
    Withdrawn,
)
from jobs.registry import Queue
from jobs.retry import LONGEST_RETRY_AFTER, Policy
from jobs.states import State
from jobs.steps import Claim

log = structlog.get_logger(__name__)

POISONOUS = 3  # Losses in a row.
PATCH_LENGTH = 1024 * 1024  # Bytes of JSON; 500 patches must fit into one statement.
LONGEST_DELAY = 3e9  # Seconds: a century, which Postgres can still add to now().
LEAST_PAUSE = 1.0  # Seconds.
NOTICE_LENGTH = 40
MOST_ATTEMPTS = 32_767  # What the columns hold.


@dataclass(slots=True)  # A frozen one costs four times as much to make, and each work makes one.
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
    request: bytes | None = None  # JSON, as are the next two.
    response: bytes | None = None
    patch: bytes | None = None
    dead: DeadLetter.Reason | None = None
    well: bool | None = None  # What it says of its lane; None: nothing.
    pause: float | None = None  # Seconds in which nothing of its lane is to start.
    notice: str | None = None  # What its queue's notices are to tell, besides a death.
    most: int | None = None  # The attempts that its policy allows in all, where that has changed.
    otherwise: "Settlement | None" = None  # What to write where its lane was shut by another.

    @property
    def quiet(self) -> bool:
        """Whether nobody is told: what tells of one notice must not beget the next."""
        return bool(self.claim.data.get("quiet"))


def settle(
    claim: Claim, outcome: Outcome, *, queue: Queue, elapsed: float, random: Callable[[], float]
) -> Settlement:
    """What `outcome` means after `elapsed` seconds of trying. Always a settlement."""
    try:
        judged = _judge(claim, outcome, queue, random, elapsed)
    except Exception as error:  # A step may return anything, whatever its types say.
        log.exception("outcome_unsettled", queue=claim.queue, work=str(claim.id))
        why = f"the step's outcome cannot be settled: {clean.said(error)}"
        judged = _unwritten(claim, why, queue)
    judged.duration_ms = min(int(elapsed * 1000), 2**31 - 1)
    if judged.otherwise is not None:
        judged.otherwise.duration_ms = judged.duration_ms
    return judged


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
                patch=_patch(outcome.patch) if outcome.patch else None,
                **_exchange(outcome.exchange),
                **_told(claim, outcome, well=True),
            )
        case Snooze():
            waiting = State.DISCARDING if claim.discarding else State.SCHEDULED
            delay, reason = _seconds(outcome.delay), _text(outcome.reason)
            told = _word(outcome.notice)
            return Settlement(claim, waiting, delay=delay, error=reason, counted=False, notice=told)
        case Withdrawn() if not claim.discarding:  # What is being undone is given up already.
            return Settlement(claim, State.CANCELLED, error=_text(outcome.reason), counted=False)
        case Throttled():
            return _throttled(claim, outcome, queue.policy(claim), random, elapsed)
        case Fail():
            return _failed(claim, outcome, queue.policy(claim), random, elapsed)
        case Unknown() if queue.model.never_twice and not claim.discarding:
            return Settlement(
                claim,
                State.UNKNOWN,
                delay=0.0,  # Its due_at tells since when.
                error=_text(outcome.error),
                came=Attempt.Came.UNKNOWN,
                well=False,
                notice=_word(outcome.notice),
                **_exchange(outcome.exchange),
            )
        case Unknown():
            again = Retry(outcome.error, exchange=outcome.exchange)
            return _retry(claim, again, queue.policy(claim), random, elapsed)
        case Retry():
            return _retry(claim, outcome, queue.policy(claim), random, elapsed)
    return _unwritten(claim, f"the step returned {type(outcome).__name__}, not an outcome", queue)


def hand_back(claim: Claim) -> Settlement:
    """It was never started: as if it had not been claimed."""
    state = State.DISCARDING if claim.discarding else State.PENDING
    return Settlement(claim, state, counted=False)


def lose(claim: Claim, *, queue: Queue, error: str | None = None) -> Settlement:
    """It was begun, and nobody knows how it ended: as a rule since its drainer died in mid-step.

    The loss is recorded and takes none of the work's attempts.
    """
    error = error or f"lost: drainer {claim.drainer} died while it ran"
    if queue.model.never_twice and not claim.discarding:
        came = Attempt.Came.LOST
        return Settlement(claim, State.UNKNOWN, delay=0.0, error=error, lost=True, came=came)
    if claim.losses + 1 >= POISONOUS:
        poison = _dead(
            claim, f"{error}, the {POISONOUS}rd time in a row", None, DeadLetter.Reason.POISON
        )
        return replace(poison, lost=True, came=Attempt.Came.LOST)
    state = State.DISCARDING if claim.discarding else State.PENDING
    return Settlement(claim, state, delay=0.0, error=error, lost=True, came=Attempt.Came.LOST)


def unsettled(settlement: Settlement, error: str, *, queue: Queue) -> Settlement:
    """What to write in place of a settlement whose data the database refused."""
    if settlement.patch:
        why = f"its result could not be written: {error}"
        return _unwritten(settlement.claim, why, queue)
    return replace(
        settlement,
        error=settlement.error and f"unwritable error: {error}",
        request=None,
        response=None,
        well=None,
        pause=None,
        notice=None,
    )


def _unwritten(claim: Claim, error: str, queue: Queue) -> Settlement:
    """It came to its end, and what it came to cannot be kept.

    What must not happen twice has perhaps been done: it is not dead, or a replay would do it again.
    """
    if queue.model.never_twice and not claim.discarding:
        came = Attempt.Came.UNKNOWN
        return Settlement(claim, State.UNKNOWN, delay=0.0, error=f"lost: {_text(error)}", came=came)
    return _dead(claim, error, None, DeadLetter.Reason.FAILED)


def _retry(
    claim: Claim, outcome: Retry, policy: Policy, random: Callable[[], float], elapsed: float
) -> Settlement:
    # The policy in force counts, which may have changed since the work was made; a replay forgives
    # the attempts that were, so that budget and backoff begin anew with it.
    nth = claim.attempt - claim.forgiven
    age = _age(claim, elapsed)
    told = _told(claim, outcome, well=False) | {"most": _most(claim, policy)}
    if not policy.allows(nth, age=age):
        dead = _dead(claim, outcome.error, outcome.exchange, DeadLetter.Reason.EXHAUSTED)
        return replace(dead, **told)
    return Settlement(
        claim,
        State.DISCARDING if claim.discarding else State.FAILED,
        delay=_seconds(policy.delay(nth, random=random, retry_after=outcome.after)),
        error=_text(outcome.error),
        came=Attempt.Came.RETRY,
        **_exchange(outcome.exchange),
        **told,
    )


def _failed(
    claim: Claim, outcome: Fail, policy: Policy, random: Callable[[], float], elapsed: float
) -> Settlement:
    dead = _dead(claim, outcome.error, outcome.exchange, DeadLetter.Reason.FAILED)
    dead = replace(dead, **_told(claim, outcome, well=False))
    if outcome.shuts is None or claim.discarding:
        return dead
    again = Retry(outcome.error, None, outcome.exchange, outcome.healthy, outcome.notice)
    otherwise = _retry(claim, again, policy, random, elapsed)
    return replace(dead, pause=max(_seconds(outcome.shuts), LEAST_PAUSE), otherwise=otherwise)


def _throttled(
    claim: Claim, outcome: Throttled, policy: Policy, random: Callable[[], float], elapsed: float
) -> Settlement:
    """The lane waits, whatever becomes of the work: as a rule it stays where it was, untried."""
    after = min(max(_seconds(outcome.after), LEAST_PAUSE), LONGEST_RETRY_AFTER)
    pause = None if claim.discarding else after  # Undoing has no lanes.
    if policy.window is not None and _throttled_for(claim, elapsed) >= policy.window:
        last = Retry(outcome.reason, after, outcome.exchange, True, outcome.notice)
        return replace(_retry(claim, last, policy, random, elapsed), pause=pause)
    return Settlement(
        claim,
        State.DISCARDING if claim.discarding else State.PENDING,
        delay=after if claim.discarding else None,
        error=_text(outcome.reason),
        counted=False,
        came=Attempt.Came.THROTTLED,
        pause=pause,
        notice=_word(outcome.notice),
        **_exchange(outcome.exchange),
    )


def _dead(
    claim: Claim, error: str, exchange: Exchange | None, reason: DeadLetter.Reason
) -> Settlement:
    return Settlement(
        claim,
        State.DEAD_LETTER,
        error=_text(error),
        came=Attempt.Came.FAILED,
        dead=DeadLetter.Reason.UNDO if claim.discarding else reason,
        **_exchange(exchange),
    )


def _told(claim: Claim, outcome: Succeeded | Retry | Fail, *, well: bool) -> dict[str, Any]:
    """The settlement's fields for what is heard of the lane, and by whom else."""
    silent = claim.discarding or (not isinstance(outcome, Succeeded) and outcome.healthy)
    return {"well": None if silent else well, "notice": _word(outcome.notice)}


def _word(notice: str | None) -> str | None:
    return None if notice is None else clean.text(notice, NOTICE_LENGTH)


def _most(claim: Claim, policy: Policy) -> int | None:
    """What to show as its most attempts; None when that is shown already."""
    most = min(max(claim.forgiven + policy.attempts, claim.attempt), MOST_ATTEMPTS)
    return None if most == claim.max_attempts else most


def _age(claim: Claim, elapsed: float) -> float:
    """Seconds from the work's making to the end of this try."""
    return (claim.started_at - claim.created_at).total_seconds() + elapsed


def _throttled_for(claim: Claim, elapsed: float) -> float:
    """Seconds from its first 429 to the end of this try. What it waited before says nothing."""
    if claim.throttled_since is None:
        return 0.0
    return (claim.started_at - claim.throttled_since).total_seconds() + elapsed


def _text(error: object) -> str:
    """Never None, which would leave the last error standing, and never empty."""
    said = "" if error is None else clean.text(error, clean.ATTEMPT_ERROR_LENGTH)
    return said or "the step did not say why"


def _seconds(delay: float) -> float:
    """A delay that can be written. Raises ValueError for what is no number."""
    seconds = float(delay)
    if seconds != seconds:
        raise ValueError("a delay of NaN seconds")
    return min(max(0.0, seconds), LONGEST_DELAY)


def _exchange(exchange: Exchange | None) -> dict[str, Any]:
    """The settlement's columns for what was asked and answered."""
    if exchange is None:
        return {}
    answered = exchange.response is not None
    return {
        "request": clean.document(exchange.request),
        "response": clean.document(exchange.response) if answered else None,
    }


def _patch(patch: Mapping[str, Any]) -> bytes:
    # Python's own encoder takes what orjson refuses; then the database refuses it, alone.
    encoded = json.dumps(dict(patch), default=_plain).encode()
    if len(encoded) > PATCH_LENGTH:
        raise ValueError(f"a patch of {len(encoded)} bytes")
    return encoded


def _plain(value: object) -> str:
    """What a column takes as text."""
    if isinstance(value, UUID | Decimal):
        return str(value)
    if isinstance(value, date | time):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} cannot be written in a patch")
