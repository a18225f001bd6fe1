"""What a try came to. Steps return these; only the engine turns them into states.

An exchange (one HTTP request and its answer) goes into the attempt's row as it stands: whoever
makes one redacts its headers first.
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


@dataclass(frozen=True, slots=True)
class Retry:
    """It failed, and may succeed later. `after` is the least delay in seconds: a Retry-After."""

    error: str
    after: float | None = None
    exchange: Exchange | None = None


@dataclass(frozen=True, slots=True)
class Fail:
    """It failed, and would fail again: straight to the dead letters."""

    error: str
    exchange: Exchange | None = None


@dataclass(frozen=True, slots=True)
class Snooze:
    """Not now: run again in `delay` seconds. Not an attempt."""

    delay: float
    reason: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """The request went out and no answer came: done or not, nobody can tell."""

    error: str
    exchange: Exchange | None = None


Outcome = Succeeded | Retry | Fail | Snooze | Unknown
