"""The doctor: looks at each part that Slipway stands on, and says what is wrong and what to do.

SLIPWAY["DOCTOR"] names the looks, each a function of no arguments that yields findings; the apps
have them in their `examining.py`. Each runs in a thread of its own with a deadline, so that a part
that hangs is told as such and keeps none of the others waiting.
"""

import queue
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import partial
from typing import Any

from django.conf import settings
from django.db import connections
from django.utils.module_loading import import_string

DEADLINE = 10.0  # Seconds for one look.


class Level(StrEnum):
    """How a part is."""

    OK = "ok"
    WARN = "warn"  # It works, and should be looked after.
    FAIL = "fail"  # It does not work.


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    level: Level
    said: str  # What is so.
    do: str = ""  # What to do about it; "" where nothing is.


Look = Callable[[], Iterable[Finding]]


def ok(said: str) -> Finding:
    """All is well."""
    return Finding(Level.OK, said)


def warn(said: str, do: str) -> Finding:
    """It works for now."""
    return Finding(Level.WARN, said, do)


def fail(said: str, do: str) -> Finding:
    """It does not work."""
    return Finding(Level.FAIL, said, do)


@dataclass(frozen=True, slots=True)
class Report:
    """What one look came to."""

    name: str
    findings: list[Finding]
    seconds: float

    @property
    def level(self) -> Level:
        """Its worst finding's."""
        return worst(finding.level for finding in self.findings)

    def as_json(self) -> dict[str, Any]:
        found = [asdict(finding) for finding in self.findings]
        return {
            "name": self.name,
            "level": self.level,
            "seconds": round(self.seconds, 3),
            "findings": found,
        }


def worst(levels: Iterable[Level]) -> Level:
    """The worst of them; OK of none."""
    return max(levels, key=list(Level).index, default=Level.OK)


def looks() -> dict[str, Look]:
    """All of them, by name, in the order in which they are told."""
    return {name: import_string(path) for name, path in settings.SLIPWAY["DOCTOR"].items()}


def examine(only: Collection[str] | None = None, *, deadline: float = DEADLINE) -> Iterator[Report]:
    """Look at everything, or at these alone, all at once; yields reports in the settings' order."""
    chosen = {name: look for name, look in looks().items() if only is None or name in only}
    begun = {name: _begin(look) for name, look in chosen.items()}
    until = time.monotonic() + deadline
    for name, answer in begun.items():
        try:
            findings, seconds = answer.get(timeout=max(0.01, until - time.monotonic()))
        except queue.Empty:
            said = f"It did not answer within {deadline:g} s: it hangs."
            findings, seconds = [fail(said, "See whether it can be reached at all.")], deadline
        yield Report(name, findings, seconds)


def _begin(look: Look) -> "queue.Queue[tuple[list[Finding], float]]":
    answer: queue.Queue[tuple[list[Finding], float]] = queue.Queue()
    # A daemon: one that hangs does not keep the doctor from leaving.
    threading.Thread(target=partial(_look, look, answer), daemon=True).start()
    return answer


def _look(look: Look, answer: "queue.Queue[tuple[list[Finding], float]]") -> None:
    began_at = time.monotonic()
    findings: list[Finding] = []
    try:
        findings.extend(look())
    except Exception as error:  # Whatever it is, it is what is wrong.
        said = f"{type(error).__name__}: {str(error).strip()[:300]}"
        findings.append(fail(said, "Put this right; what else this look sees is told after that."))
    finally:
        for connection in connections.all(initialized_only=True):
            connection.close()
    answer.put((findings, time.monotonic() - began_at))
