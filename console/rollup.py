"""Numbers of each minute and hour, for the overview: counted once, by indexes, and added up.

`roll_up` runs each minute (beat, or `manage.py rollup`). It may run twice at once, again, or after
a pause: a minute's row is written over with the same, and up to a day is made good. The last minute
is counted twice, since transactions under way at its end were not seen the first time.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import connections, transaction
from django.db.backends.utils import CursorWrapper
from django.utils import timezone

from console import counting, losses
from console.losses import Deleted
from console.spread import add_up
from jobs.registry import queues

OPERATOR = "operator"
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
BACK = DAY  # How far a pause is made good.
AT_FIRST = HOUR  # What a new installation looks back.
UNSOUND = 60  # Minutes with works that nobody accounts for, which are looked at again each time.
_LOCK = 0x51_1F_0A_11  # Of pg_advisory_xact_lock: one rollup at a time.

# A work that is gone was made all the same: `made` never falls, unless a service deleted works
# since. What was missed before that stays missed.
_MADE = """case when %(may_be_gone)s
    then greatest(%(made)s, least(t.made, %(made)s + t.made - t.traced))
    else greatest(%(made)s, t.made) end"""
_WRITE = """
insert into {table}
  (at, queue, depth, oldest, made, traced, untraced, ended, took, busiest)
values (%(at)s, %(queue)s, %(depth)s, %(oldest)s, %(made)s, %(traced)s, %(untraced)s, %(ended)s,
  %(took)s, %(busiest)s)
on conflict (at, queue) do update set
  depth = coalesce(excluded.depth, t.depth), oldest = coalesce(excluded.oldest, t.oldest),
  made = {made}, traced = excluded.traced,
  untraced = excluded.untraced, ended = excluded.ended, took = excluded.took,
  busiest = excluded.busiest
""".replace("{table}", "{table} as t").replace("{made}", _MADE)
_LOOKED_AGAIN = """
update console_minute t set made = {made}, traced = %(traced)s, untraced = %(untraced)s
where at = %(at)s and queue = %(queue)s
  and (made <> %(made)s or traced <> %(traced)s or untraced <> %(untraced)s::jsonb)
""".replace("{made}", _MADE)
_UNSOUND = """
select distinct at from console_minute where at >= %s and traced < made order by at desc limit %s
"""
_WRITTEN = "select distinct at from console_minute where at >= %s and at < %s"
_MINUTES = """
select queue, depth, oldest, made, traced, untraced, ended, took, busiest
from console_minute where at >= %s and at < %s order by at
"""
_PRUNE = "delete from {table} where at < %s"


@dataclass(slots=True)
class Row:
    """One queue in one span."""

    at: datetime
    queue: str
    depth: dict[str, int] | None = None
    oldest: dict[str, int] | None = None
    made: int = 0
    traced: int = 0
    untraced: list[dict[str, str]] = field(default_factory=list)
    ended: dict[str, int] = field(default_factory=dict)
    took: dict[str, int] = field(default_factory=dict)
    busiest: dict[str, int] = field(default_factory=dict)
    may_be_gone: bool = False  # Rows of it: a service deleted works since.

    def values(self) -> dict[str, Any]:
        """For the statements above."""
        return {
            name: json.dumps(value) if isinstance(value, dict | list) else value
            for name in Row.__slots__
            for value in [getattr(self, name)]
        }


@dataclass(frozen=True, slots=True)
class Rolled:
    """What one run did."""

    minutes: int = 0
    looked_again: int = 0
    hours: int = 0
    pruned: int = 0
    busy: bool = False  # Another run was at it, so this one left it alone.


def roll_up(*, now: datetime | None = None) -> Rolled:
    """Write the minutes that are over, the hours they belong to, and drop what is too old."""
    until = floor(now or timezone.now(), MINUTE)
    with transaction.atomic(using=OPERATOR), connections[OPERATOR].cursor() as cursor:
        cursor.execute("select pg_try_advisory_xact_lock(%s)", [_LOCK])
        if not cursor.fetchone()[0]:
            return Rolled(busy=True)
        minutes = _due(cursor, until)
        deleted = losses.deleted(cursor, until)
        rows = _counted(cursor, minutes)
        forgotten = _forgotten(cursor, rows, minutes)
        _write(cursor, "console_minute", rows, deleted)
        again = _look_again(cursor, minutes, forgotten, deleted)
        hours = {floor(minute, HOUR) for minute in [*minutes, *again]}
        for hour in sorted(hours):
            _write(cursor, "console_hour", _together(cursor, hour), deleted)
        return Rolled(len(minutes), len(again), len(hours), _prune(cursor, until))


def due(*, now: datetime | None = None) -> int:
    """How many minutes a run would write."""
    with connections[OPERATOR].cursor() as cursor:
        return len(_due(cursor, floor(now or timezone.now(), MINUTE)))


def floor(moment: datetime, span: timedelta) -> datetime:
    """The beginning of the minute, hour or other part of a day that a moment is in."""
    day = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    return day + (moment - day) // span * span


def _due(cursor: CursorWrapper, until: datetime) -> list[datetime]:
    """The minutes to write, from the last that was written on."""
    cursor.execute("select max(at) from console_minute where at < %s", [until])
    (last,) = cursor.fetchone()
    first = max(last, until - BACK) if last else until - AT_FIRST
    return [first + n * MINUTE for n in range((until - first) // MINUTE)]


def _counted(cursor: CursorWrapper, minutes: list[datetime]) -> list[Row]:
    """What happened in these minutes; and at the end of the last, what lies there."""
    if not minutes:
        return []
    rows = {(name, at): Row(at, name) for at in minutes for name in queues()}
    _count_flows(cursor, rows, minutes)
    for made in counting.made(cursor, minutes, MINUTE, losses.traced):
        row = rows[made.queue, made.at]
        row.made, row.traced, row.untraced = made.made, made.traced, made.lost
    lying: dict[str, dict[str, tuple[int, int]]] = {name: {} for name in queues()}
    for name, state, works, age in counting.depths(cursor):
        if works and name in lying:  # A queue that is no more leaves its letters.
            lying[name][state] = (works, age or 0)
    for name, states in lying.items():
        last = rows[name, minutes[-1]]
        last.depth = {state: works for state, (works, _) in states.items()}
        last.oldest = {state: age for state, (_, age) in states.items()}
    return list(rows.values())


def _count_flows(
    cursor: CursorWrapper, rows: Mapping[tuple[str, datetime], Row], minutes: list[datetime]
) -> None:
    since, until = minutes[0], minutes[-1] + MINUTE
    for name, at, state, bucket, works in counting.ended(cursor, since, until):
        row = rows[name, at]
        row.ended[state] = row.ended.get(state, 0) + works
        if bucket is not None:
            row.took[str(bucket)] = works
    for name, at, letters in counting.lettered(cursor, since, until):
        if (name, at) in rows:
            rows[name, at].ended["dead_letter"] = letters
    for name, at, tenant, works in counting.busiest(cursor, since, until):
        rows[name, at].busiest[str(tenant)] = works


def _forgotten(cursor: CursorWrapper, rows: list[Row], written: list[datetime]) -> set[datetime]:
    """Ask after what is open, however old; the minutes of it that are to be looked at again.

    What was accepted in a minute that is looked at no more is counted on top, in the last row.
    """
    if not written:
        return set()
    found = losses.strays(cursor, deep=bool(_hours_ended(written)))
    young = {floor(stray.at, MINUTE) for stray in found if stray.at >= written[-1] - DAY}
    if young:
        cursor.execute(_WRITTEN, [min(young), max(young) + MINUTE])
        young &= {at for (at,) in cursor.fetchall()}
    last = {row.queue: row for row in rows if row.at == written[-1]}
    for stray in found:
        if floor(stray.at, MINUTE) not in young | set(written):
            row = last[stray.queue]
            row.depth = {
                **(row.depth or {}),
                losses.LOST: (row.depth or {}).get(losses.LOST, 0) + 1,
            }
            if len(row.untraced) < counting.LISTED:
                row.untraced = [*row.untraced, stray.told]
    return young


def _hours_ended(written: list[datetime]) -> set[datetime]:
    return {floor(at, HOUR) for at in written if at + MINUTE == floor(at + MINUTE, HOUR)}


def _look_again(
    cursor: CursorWrapper, written: list[datetime], forgotten: set[datetime], deleted: Deleted
) -> list[datetime]:
    """Ask after works that were accepted before: lost ones may be found, and others be lost.

    At an hour's end after all of that hour, and of the same hour a day ago; each time after those
    that nobody accounted for.
    """
    if not written:
        return []
    cursor.execute(_UNSOUND, [written[-1] - DAY, UNSOUND])
    again = forgotten | {at for (at,) in cursor.fetchall()}
    for hour in _hours_ended(written):
        for begin in (hour, hour - DAY + HOUR):
            cursor.execute(_WRITTEN, [begin, begin + HOUR])
            again |= {at for (at,) in cursor.fetchall()}
    again -= set(written)
    found = counting.made(cursor, sorted(again), MINUTE, losses.traced) if again else ()
    rows = [Row(m.at, m.queue, None, None, m.made, m.traced, m.lost) for m in found]
    _put(cursor, _LOOKED_AGAIN, rows, deleted)
    return sorted(again)


def _together(cursor: CursorWrapper, hour: datetime) -> Iterable[Row]:
    """The rows of one hour: flows are added up, of what lay there the highest stays."""
    cursor.execute(_MINUTES, [hour, hour + HOUR])
    rows = {name: Row(hour, name) for name in queues()}
    for name, depth, oldest, made, traced, untraced, ended, took, busiest in cursor.fetchall():
        row = rows.setdefault(name, Row(hour, name))
        row.depth = _highest(row.depth, _read(depth))
        row.oldest = _highest(row.oldest, _read(oldest))
        row.made, row.traced = row.made + made, row.traced + traced
        mine = [one for one in _read(untraced) if "since" not in one]
        row.untraced = [*row.untraced, *mine][: counting.LISTED]
        row.ended = add_up([row.ended, _read(ended)])
        row.took = add_up([row.took, _read(took)])
        row.busiest = add_up([row.busiest, _read(busiest)])
    for row in rows.values():
        top = sorted(row.busiest.items(), key=lambda each: -each[1])[: 2 * counting.TOP]
        row.busiest = dict(top)
    return rows.values()


def _highest(
    one: Mapping[str, int] | None, other: Mapping[str, int] | None
) -> dict[str, int] | None:
    if one is None or other is None:
        return dict(one or other or {}) if (one or other) is not None else None
    return {name: max(one.get(name, 0), other.get(name, 0)) for name in {*one, *other}}


def _read(value: Any) -> Any:
    """JSON as the cursor gives it: text, by Django's choice, or read already."""
    return json.loads(value) if isinstance(value, str) else value


def _write(cursor: CursorWrapper, table: str, rows: Iterable[Row], deleted: Deleted) -> None:
    _put(cursor, _WRITE.format(table=table), rows, deleted)


def _put(cursor: CursorWrapper, statement: str, rows: Iterable[Row], deleted: Deleted) -> None:
    some = list(rows)
    for row in some:
        row.may_be_gone = deleted.may_be_gone(row.queue, row.at)
    cursor.executemany(statement, [row.values() for row in some])


def _prune(cursor: CursorWrapper, until: datetime) -> int:
    gone = 0
    for table, name in (("console_minute", "minutes"), ("console_hour", "hours")):
        keep = timedelta(days=settings.SLIPWAY["RETENTION"][name])
        cursor.execute(_PRUNE.format(table=table), [until - keep])
        gone += cursor.rowcount
    return gone
