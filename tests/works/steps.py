"""Steps that do as they are told: `act` is a word, perhaps with an argument ("sleep 2")."""

import asyncio
import os
import time
from collections.abc import Mapping
from typing import Any

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
from jobs.pacing import Declared
from jobs.retry import RetryPolicy
from jobs.steps import Claim
from tests.works.models import Trace

QUICK = RetryPolicy(attempts=3, base=0.01, cap=0.02)
PATIENT = RetryPolicy(attempts=50, base=0.05, cap=0.1)


class Untellable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no message")


RAISED = {
    "exception": lambda: ValueError("out of luck"),
    "exit": lambda: SystemExit(3),
    "interrupt": lambda: KeyboardInterrupt(),
    "base": lambda: BaseException("the very base"),
    "stop": lambda: StopIteration("enough"),
    "cancelled": lambda: asyncio.CancelledError(),
    "huge": lambda: ValueError("x" * 5_000_000),
    "nul": lambda: ValueError("a\x00b\ud800c"),
    "untellable": Untellable,
}


def trace(claim: Claim, what: str) -> None:
    Trace.objects.create(
        work_id=claim.id, lease=claim.lease, attempt=claim.attempt, pid=os.getpid(), what=what
    )


def _told(claim: Claim) -> tuple[str, str]:
    act = claim.data["args"]["act"] if "args" in claim.data else claim.data["act"]
    word, _, argument = act.partition(" ")
    return word, argument


def outcome(word: str, argument: str) -> Outcome:
    exchange = Exchange({"method": "POST", "url": "https://a.test/"}, {"status": 500, "body": "no"})
    match word:
        case "succeed" | "sleep" | "dawdle":
            return Succeeded()
        case "retry":
            return Retry(argument or "not yet", exchange=exchange)
        case "fail":
            return Fail(argument or "never", exchange=exchange)
        case "snooze":
            return Snooze(float(argument), "not now")
        case "unknown":
            return Unknown("no answer")
        case "throttle":
            return Throttled(float(argument), "not so fast", notice="slower")
        case "withdraw":
            return Withdrawn("nobody wants it")
        case "patch":
            return Succeeded(patch={"result": argument})
        case "raise":
            raise RAISED[argument]()
        case "nothing":
            return None
    raise AssertionError(word)


def act(claim: Claim) -> Outcome:
    """On a thread."""
    word, argument = _told(claim)
    trace(claim, "began")
    if word == "sleep" or (word == "dawdle" and claim.attempt == 1):
        time.sleep(float(argument))
    result = outcome(word, argument)
    trace(claim, "ended")
    return result


async def act_async(claim: Claim) -> Outcome:
    """On the loop."""
    word, argument = _told(claim)
    if word == "sleep":
        await asyncio.sleep(float(argument))
    elif word == "stubborn":
        while True:  # Will not be cancelled.
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                continue
    elif word == "block":
        time.sleep(float(argument))
        word = "succeed"
    return outcome(word, argument)


def pace_of(data: Mapping[str, Any]) -> Declared:
    return Declared(data["rate"], data["most"], data["mode"])


def hear(claim: Claim) -> Outcome:
    """A notice."""
    return Succeeded()


def undo(claim: Claim) -> Outcome:
    trace(claim, "undone")
    return Succeeded()


def undo_badly(claim: Claim) -> Outcome:
    return Retry("cannot be undone yet")
