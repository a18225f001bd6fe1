"""The places that a paced queue's works go to, as one drainer knows them (jobs.pacing).

Each drainer learns by itself, as senders do in a network. A declared rate is divided by the number
of drainers; how many works may be under way at once is counted by the claim, over all of them. What
was learnt is left in the place's lane row, for operators and for whoever begins there next.
"""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import orjson
import structlog
from psycopg import AsyncConnection

from jobs.engine.link import Link
from jobs.outcomes import Outcome, Retry, Snooze, Throttled, Unknown, Withdrawn
from jobs.pacing import Control, Declared, Learnt, Sign, control
from jobs.registry import Queue
from jobs.steps import Claim

log = structlog.get_logger(__name__)

Place = tuple[int, str]  # A tenant's id and the destination of its works.

UNKNOWN = 1  # How many works go to a place of which nothing is known yet: the first one tells.
IDLE = 600.0  # Seconds after which a place is forgotten.
CHANGED = 0.05  # Of a rate: smaller changes are not worth a write.

LEARN = """
insert into jobs_lane (tenant_id, key, learnt_window, learnt_rate, learnt_at)
select tenant_id, key, "window", rate, now() from json_to_recordset(%s::json)
  g(tenant_id bigint, key text, "window" int, rate float8) order by tenant_id, key
on conflict (tenant_id, key) do update set learnt_window = excluded.learnt_window,
  learnt_rate = excluded.learnt_rate, learnt_at = excluded.learnt_at
"""


@dataclass(slots=True)
class Said:
    """What a place's lane row says of it."""

    rate: float | None = None
    learnt: Learnt = field(default_factory=Learnt)


@dataclass(slots=True)
class Known:
    """A place that works went to."""

    control: Control
    declared: Declared  # As its works say, before its row's word.
    used_at: float
    left: Learnt = field(default_factory=Learnt)  # What was written of it the last time.


@dataclass
class Rooms:
    """The places of one queue. `drainers` is how many share what is declared."""

    queue: Queue
    drainers: int = 1
    known: dict[Place, Known] = field(default_factory=dict)
    said: dict[Place, Said] = field(default_factory=dict)  # Of places that were looked at.

    def hear(self, place: Place, said: Said) -> None:
        """Heed what a place's lane row says."""
        before, self.said[place] = self.said.get(place), said
        if (known := self.known.get(place)) and (before is None or before.rate != said.rate):
            self._declare(place, known)

    def share(self, drainers: int) -> None:
        """Divide what is declared by so many."""
        if drainers != self.drainers:
            self.drainers = drainers
            for place, known in self.known.items():
                self._declare(place, known)

    def room(self, place: Place) -> int:
        """How many works may start there now."""
        known = self.known.get(place)
        if known is None:
            return UNKNOWN
        return int(min(known.control.room(time.monotonic()), self.queue.slots))

    def most(self, place: Place) -> int | None:
        """How many may be under way there, from all drainers; None for no bound."""
        known = self.known.get(place)
        return None if known is None else known.declared.max_in_flight

    def wait(self, places: Iterable[Place]) -> float | None:
        """Seconds until works may start at one of these; None: not before one has ended."""
        now = time.monotonic()
        known = [self.known[place] for place in places if place in self.known]
        waits = [one.control.wait(now) for one in known]
        return min((wait for wait in waits if wait is not None), default=None)

    def begin(self, claim: Claim) -> None:
        """Count a work that starts."""
        place, now = place_of(claim), time.monotonic()
        if place is None:
            return
        declared, known = self._declared(claim), self.known.get(place)
        if known is None or known.declared.mode != declared.mode:
            known = self.known[place] = self._meet(place, declared, known, now)
        elif known.declared != declared:
            known.declared = declared
            self._declare(place, known)
        known.used_at = now
        known.control.began(now, 1)

    def end(self, claim: Claim, outcome: Outcome, elapsed: float) -> None:
        """Learn from what a try came to."""
        place = place_of(claim)
        known = None if place is None else self.known.get(place)
        if known is None:
            return
        now = time.monotonic()
        if isinstance(outcome, Throttled):
            known.control.throttled(now, _seconds(outcome.after), pace=outcome.pace)
        else:
            known.control.ended(now, elapsed, sign(outcome))

    def changes(self) -> list[dict[str, Any]]:
        """What was learnt since it was asked for the last time: rows of LEARN."""
        self._forget(time.monotonic() - IDLE)
        rows = []
        for (tenant_id, key), known in self.known.items():
            learnt = known.control.learnt(self.drainers)
            if _differ(learnt, known.left):
                known.left = learnt
                of = {"tenant_id": tenant_id, "key": key}
                rows.append(of | {"window": learnt.window, "rate": learnt.rate})
        return rows

    def _declared(self, claim: Claim) -> Declared:
        try:
            declared: Declared = self.queue.pace(claim.data)  # type: ignore[misc]
        except Exception:
            log.exception("pace_unknown", queue=claim.queue, work=str(claim.id))
            return Declared()
        return declared

    def _meet(self, place: Place, declared: Declared, before: Known | None, now: float) -> Known:
        said = self.said.get(place, Said())
        one = control(
            _least(declared, said.rate),
            now=now,
            initial=self.queue.initial_window,
            drainers=self.drainers,
            learnt=said.learnt,
        )
        if before is not None:
            one.in_flight = before.control.in_flight
        return Known(one, declared, now)

    def _declare(self, place: Place, known: Known) -> None:
        rate = self.said.get(place, Said()).rate
        known.control.declare(_least(known.declared, rate), self.drainers)

    def _forget(self, before: float) -> None:
        idle = [
            place
            for place, known in self.known.items()
            if known.used_at < before and not known.control.in_flight
        ]
        for place in idle:
            del self.known[place]
        if idle or len(self.said) > 10 * len(self.known) + 1000:
            self.said = {place: said for place, said in self.said.items() if place in self.known}


def place_of(claim: Claim) -> Place | None:
    """Where a work goes; None where it goes nowhere: it is undone, or does not say."""
    if claim.discarding or claim.destination is None:
        return None
    return claim.tenant_id, claim.destination


def sign(outcome: Outcome) -> Sign:
    """What an outcome says about the place."""
    match outcome:
        case Snooze() | Withdrawn():
            return Sign.NOTHING
        case Unknown():
            return Sign.LOST
        case Retry() if not outcome.healthy:
            return Sign.LOST
        case Retry() if outcome.exchange is None:
            return Sign.NOTHING
    return Sign.ANSWERED


async def tend(rooms: Rooms, link: Link, *, drainers: int) -> None:
    """Keep to our share of what is declared, and leave what was learnt."""
    rooms.share(max(1, drainers))
    if rows := rooms.changes():
        await link.run(lambda connection: learn(connection, rows))


async def learn(connection: AsyncConnection[Any], rows: Sequence[dict[str, Any]]) -> None:
    """Leave what was learnt of places in their lane rows."""
    await connection.execute(LEARN, [orjson.dumps(rows).decode()], prepare=False)


def _least(declared: Declared, rate: float | None) -> Declared:
    if rate is None:
        return declared
    return replace(declared, rate=rate if declared.rate is None else min(declared.rate, rate))


def _differ(one: Learnt, other: Learnt) -> bool:
    if one.window != other.window or (one.rate is None) != (other.rate is None):
        return True
    return one.rate is not None and abs(one.rate - (other.rate or 0.0)) > CHANGED * one.rate


def _seconds(after: object) -> float:
    """A step may return anything; what cannot be settled is said elsewhere."""
    try:
        return max(0.0, float(after))  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return 0.0
