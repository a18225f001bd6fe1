"""The rollup as the overview reads it: points of a range, and what lies in the queues now."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import orjson
from django.db import connections
from django.db.backends.utils import CursorWrapper

from console.losses import LOST
from console.models import Hour, Minute
from console.rollup import DAY, HOUR, MINUTE, floor
from console.spread import add_up

OPERATOR = "operator"
# As text, and read here: a month is three thousand rows of seven values each.
_COLUMNS = """at, queue, coalesce(depth, 'null')::text, coalesce(oldest, 'null')::text, made,
  traced, untraced::text, ended::text, took::text, busiest::text"""
_JSON = frozenset({2, 3, 6, 7, 8, 9})  # Which of these.
_POINTS = "select {columns} from {table} where at >= %s and at <= %s order by at"
# A range whose bars are of several hours: each bar's rows as one. Flows are added up, of what lay
# there the highest stays; whose works ended is told of the range as a whole, in one row of its own.
_FOLDED = """
with points as materialized (
  select date_bin(%s::interval, at, %s) as at, queue, nullif(depth, 'null') as depth,
    nullif(oldest, 'null') as oldest, made, traced, untraced, ended, took,
    busiest
  from {table} where at >= %s and at <= %s
), counted as (
  select at, queue, 'depth' as what, name, max(many::bigint) as many
  from points, jsonb_each_text(depth) each(name, many) group by 1, 2, 4
  union all
  select at, queue, 'oldest', name, max(many::bigint)
  from points, jsonb_each_text(oldest) each(name, many) group by 1, 2, 4
  union all
  select at, queue, 'ended', name, sum(many::bigint)
  from points, jsonb_each_text(ended) each(name, many) group by 1, 2, 4
  union all
  select at, queue, 'took', name, sum(many::bigint)
  from points, jsonb_each_text(took) each(name, many) where queue = any(%s) group by 1, 2, 4
), told as (
  select at, queue, jsonb_object_agg(what, said) as said from (
    select at, queue, what, jsonb_object_agg(name, many) as said from counted group by 1, 2, 3
  ) whats group by 1, 2
), summed as (
  select at, queue, sum(made)::bigint as made, sum(traced)::bigint as traced,
    count(depth) > 0 as seen, jsonb_agg(untraced) filter (where untraced <> '[]') as untraced
  from points group by 1, 2
)
select s.at, s.queue, s.made, s.traced, s.seen, coalesce(s.untraced, '[]')::text,
  coalesce(t.said, '{{}}')::text
from summed s left join told t using (at, queue)
union all
select null, '', 0, 0, false, '[]', coalesce(jsonb_object_agg(name, many), '{{}}')::text from (
  select name, sum(many::bigint) as many
  from points, jsonb_each_text(busiest) each(name, many) group by 1) busiest
order by 1 nulls last
"""
TIMED = ("onboarding", "deliveries", "messages")  # Queues of which it is shown how long they take.
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
    busiest: dict[str, int] = field(default_factory=dict)  # Tenant's number → works that ended.
    lost: int = 0  # Works that nobody accounts for, and no point counts: they are too old.
    strays: list[tuple[str, dict[str, str]]] = field(default_factory=list)  # Some of all such.

    @property
    def ended(self) -> str:
        """The range in which works ended that are counted here, as lists are asked for it."""
        if self.as_of is None:
            return ""
        return f"{self.moments[0]:%Y-%m-%dT%H:%M:%SZ}..{self.as_of:%Y-%m-%dT%H:%M:%SZ}"

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
        points, busiest = _points(cursor, span, moments[0], now)
        cursor.execute(_of(_LYING, Minute))
        lying = [_point(row) for row in cursor.fetchall()]
    strays = [(point.queue, one) for point in lying for one in point.untraced if "since" in one]
    known = {one["id"] for point in points for one in point.untraced if "since" not in one}
    return Told(
        span=span,
        moments=moments,
        points=points,
        as_of=lying[0].at + MINUTE if lying else None,
        depth={point.queue: point.depth or {} for point in lying},
        oldest={point.queue: point.oldest or {} for point in lying},
        by_queue=_by_queue(points, moments, span.width),
        busiest=busiest,
        lost=sum((point.depth or {}).get(LOST, 0) for point in lying)
        - sum(one["id"] in known for _, one in strays),
        strays=strays,
    )


def _points(
    cursor: CursorWrapper, span: Span, begin: datetime, now: datetime
) -> tuple[list[Point], dict[str, int]]:
    """A range's points, and how many works of which tenant ended in it."""
    if span.width == (MINUTE if span.table is Minute else HOUR):
        cursor.execute(_of(_POINTS, span.table), [begin, now])
        points = [_point(row) for row in cursor.fetchall()]
        for point in points:
            point.untraced[:] = [one for one in point.untraced if "since" not in one]
        return points, add_up(point.busiest for point in points)
    statement = _FOLDED.format(table=span.table._meta.db_table)
    cursor.execute(statement, [str(span.width), begin, begin, now, list(TIMED)])
    *rows, last = cursor.fetchall()
    return [_folded(row) for row in rows], orjson.loads(last[-1])


def _folded(row: Sequence[Any]) -> Point:
    at, queue, made, traced, seen, untraced, said = row
    told = orjson.loads(said)
    return Point(
        at=at,
        queue=queue,
        depth=told.get("depth", {}) if seen else None,
        oldest=told.get("oldest", {}) if seen else None,
        made=made,
        traced=traced,
        untraced=[one for some in orjson.loads(untraced) for one in some],
        ended=told.get("ended", {}),
        took=told.get("took", {}),
        busiest={},  # Of the range as a whole.
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
