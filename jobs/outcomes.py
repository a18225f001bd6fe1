"""What a try came to. Steps return these; only the engine turns them into states.

An exchange (one HTTP request and its answer) goes into the attempt's row as it stands: whoever
makes one redacts its headers first.

A failure counts against its lane, whose breaker may open (jobs.breaker); one that is `healthy` says
nothing of it: no request was made, or the answer shows that all is well there. A `notice` is a word
("gone") that the queue's notices then tell (jobs.engine.notices).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request {method, url, headers, body}, and its response {status, headers, body} if any."""

    request: Mapping[str, Any]
    response: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Succeeded:
    """Done. `patch` names columns of the work to write with it (its model's `patchable`)."""

    exchange: Exchange | None = None
    patch: Mapping[str, Any] | None = None
    notice: str | None = None


@dataclass(frozen=True, slots=True)
class Retry:
    """It failed, and may succeed later. `after` is the least delay in seconds: a Retry-After."""

    error: str
    after: float | None = None
    exchange: Exchange | None = None
    healthy: bool = False
    notice: str | None = None


@dataclass(frozen=True, slots=True)
class Fail:
    """It failed, and would fail again: straight to the dead letters.

    `shuts`: so would all else in its lane, which is paused for as many seconds, until whoever hears
    the notice has done something about it. One is enough to say so: what was under way with it, and
    comes to the same when the lane is paused already, counts as Retry, and waits with the rest.
    """

    error: str
    exchange: Exchange | None = None
    healthy: bool = False
    notice: str | None = None
    shuts: float | None = None


@dataclass(frozen=True, slots=True)
class Snooze:
    """Not now: run again in `delay` seconds. Not an attempt."""

    delay: float
    reason: str
    notice: str | None = None


@dataclass(frozen=True, slots=True)
class Throttled:
    """Told to come later (HTTP 429): the whole lane waits `after` seconds, from one to a day.

    Not counted as an attempt, but for its row in the log. A work that is told so for longer than
    its policy's window has waited long enough: from then on it counts as Retry, and the lane waits
    all the same. The window begins with the first time, and anew when it is replayed or released.
    With `pace` False it has to wait for another reason than how fast it was sent to (credentials
    that are refused): nothing is learnt from it of the rate that the place bears.
    """

    after: float
    reason: str
    exchange: Exchange | None = None
    notice: str | None = None
    pace: bool = True


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """Nobody wants it done any more: it is cancelled, untried. Nothing is left that it made."""

    reason: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """The request went out and no answer came: done or not, nobody can tell."""

    error: str
    exchange: Exchange | None = None
    notice: str | None = None


Outcome = Succeeded | Retry | Fail | Snooze | Throttled | Withdrawn | Unknown
