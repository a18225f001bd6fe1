"""The rollup as the overview reads it: points of a range, and what lies in the queues now."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import orjson
from django.db import connections

from console.models import Hour, Minute
from console.rollup import DAY, HOUR, MINUTE, floor

OPERATOR = "operator"
# As text, and read here: a month is three thousand rows of seven values each.
_COLUMNS = """at, queue, coalesce(depth, 'null')::text, coalesce(oldest, 'null')::text, made,
  traced, untraced::text, ended::text, took::text, busiest::text"""
_JSON = frozenset({2, 3, 6, 7, 8, 9})  # Which of these.
_POINTS = "select {columns} from {table} where at >= %s and at <= %s order by at"
_LYING = "select {columns} from {table} where at = (select max(at) from {table})"


@dataclass(frozen=True, slots=True)
class Span:
    """A range that the page offers: how far back, of which table, and how wide a bar is."""

    name: str
    title: str
    back: timedelta
    table: type[Minute | Hour]
    width: timedelta


@dataclass(frozen=True, slots=True)
class Point:
    """One queue's row of the rollup."""

    at: datetime
    queue: str
    depth: dict[str, int] | None
    oldest: dict[str, int] | None
    made: int
    traced: int
    untraced: list[dict[str, str]]
    ended: dict[str, int]
    took: dict[str, int]
    busiest: dict[str, int]


@dataclass(frozen=True, slots=True)
class Told:
    """What the rollup says of a range, and of the last minute that it wrote."""

    span: Span
    moments: list[datetime]
    points: list[Point]
    as_of: datetime | None
    depth: dict[str, dict[str, int]] = field(default_factory=dict)  # Queue → state → works.
    oldest: dict[str, dict[str, int]] = field(default_factory=dict)  # Queue → state → seconds.
    by_queue: dict[str, list[list[Point]]] = field(default_factory=dict)  # As `each` gives them.

    def each(self, queue: str) -> list[list[Point]]:
        """A queue's points of each moment, in order: of several rows where a bar is wide."""
        return self.by_queue.get(queue) or [[] for _ in self.moments]


def spans() -> list[Span]:
    """The ranges, the first is what is shown unasked."""
    return [
        Span("1h", "1 hour", HOUR, Minute, MINUTE),
        Span("24h", "24 hours", DAY, Hour, HOUR),
        Span("7d", "7 days", 7 * DAY, Hour, 2 * HOUR),
        Span("30d", "30 days", 30 * DAY, Hour, 6 * HOUR),
    ]


def read(name: str, now: datetime) -> Told:
    """The range of that name, or the first, up to now. Two statements."""
    span = next((one for one in spans() if one.name == name), spans()[0])
    end = floor(now, span.width)
    # A minute that is not over has no row; the hour that is not over has.
    last = end - span.width if span.table is Minute else end
    moments = [last - n * span.width for n in range(span.back // span.width)][::-1]
    with connections[OPERATOR].cursor() as cursor:
        cursor.execute(_of(_POINTS, span.table), [moments[0], now])
        points = [_point(row) for row in cursor.fetchall()]
        cursor.execute(_of(_LYING, Minute))
        lying = [_point(row) for row in cursor.fetchall()]
    return Told(
        span=span,
        moments=moments,
        points=points,
        as_of=lying[0].at + MINUTE if lying else None,
        depth={point.queue: point.depth or {} for point in lying},
        oldest={point.queue: point.oldest or {} for point in lying},
        by_queue=_by_queue(points, moments, span.width),
    )


def _of(statement: str, table: type[Minute | Hour]) -> str:
    return statement.format(columns=_COLUMNS, table=table._meta.db_table)


def _point(row: Sequence[Any]) -> Point:
    return Point(*(orjson.loads(value) if at in _JSON else value for at, value in enumerate(row)))


def _by_queue(
    points: Iterable[Point], moments: Sequence[datetime], width: timedelta
) -> dict[str, list[list[Point]]]:
    found: dict[str, list[list[Point]]] = {}
    for point in points:
        mine = found.setdefault(point.queue, [[] for _ in moments])
        place = (point.at - moments[0]) // width
        if place < len(mine):
            mine[place].append(point)
    return found


def highest(points: Iterable[Point], column: str, states: Iterable[str]) -> float | None:
    """The most that lay in these states at once, or the oldest of it; None where nobody looked."""
    wanted = tuple(states)
    fold = max if column == "oldest" else sum
    seen = [
        fold(held.get(state, 0) for state in wanted)
        for point in points
        for held in [getattr(point, column)]
        if held is not None
    ]
    return max(seen, default=None)
