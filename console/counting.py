"""What the rollup counts, as SQL: each by an index, whatever lies in the queues.

Works are found by when they ended (`finished_at`), by when they were accepted (their id, where it
is time-ordered) and by state; each statement asks all queues at once.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.backends.utils import CursorWrapper

from config.ids import uuid7
from console.spread import BUCKET
from jobs.engine.sql import GOES_ON, HELD
from jobs.registry import Queue, queues
from jobs.states import State
from jobs.works import LISTED_SQL

OPEN = (
    State.PENDING,
    State.PROCESSING,
    State.SCHEDULED,
    State.FAILED,
    State.HELD,
    State.UNKNOWN,
    State.DISCARDING,
)
MOST = 100_000  # Works of one state that are counted one by one; of more the planner's estimate.
TOP = 10  # Tenants of a minute that are kept.
LOOKED = 1_000  # Works that wait, of which the one that waits longest is told.
WITHHELD = "withheld"  # Of those that are pending: nobody claims them, their tenant is suspended.
LISTED = 20  # Works that nobody accounts for, of one span.

_ENDED = """
select '{name}', date_trunc('minute', finished_at), state,
  case when state = 'succeeded' then {bucket} end, count(*)
from {table} where finished_at >= %(since)s and finished_at < %(until)s group by 2, 3, 4"""
_BUSIEST = """
select name, at, tenant_id, works from (
  select '{name}' as name, date_trunc('minute', finished_at) as at, tenant_id, count(*) as works,
    row_number() over (
      partition by date_trunc('minute', finished_at) order by count(*) desc, tenant_id) as place
  from {table} where finished_at >= %(since)s and finished_at < %(until)s
  group by date_trunc('minute', finished_at), tenant_id) ranked where place <= {top}"""
# A letter that was resolved meanwhile is in another index than those that are open.
_LETTERED = """
select queue, date_trunc('minute', created_at), count(*) from (
  select queue, created_at from jobs_deadletter where resolved_at is null
    and created_at >= %(since)s and created_at < %(until)s
  union all
  select queue, created_at from jobs_deadletter where resolved_at >= %(since)s
    and created_at >= %(since)s and created_at < %(until)s) l
group by 1, 2"""
_OPEN_LETTERS = """
select queue, count(*), extract(epoch from now() - min(created_at))::bigint
from (select queue, created_at from jobs_deadletter where resolved_at is null
  order by created_at limit {most}) l group by 1"""
# Nulls first, though there are none: the lists' indexes, newest first, are walked from their end.
_DEPTH = """
select '{name}', '{state}',
  (select count(*) from (
    select from {table} where state = '{state}' and {indexed} limit {most}) found),
  {age}"""
_SINCE_ACCEPTED = """
  (select extract(epoch from now() - created_at)::bigint from {table} where state = '{state}'
   and {indexed} order by {key} nulls first limit 1)"""
# Since when it could run: a retry that is due now was accepted long ago, and waits since now. The
# oldest that are nobody's who is suspended; of the first ones, since the lowest id need not be it.
_SINCE_DUE = """
  (select greatest(0, extract(epoch from now() - min(greatest(created_at, due_at))))::bigint
   from (select created_at, due_at from (
       select tenant_id, lane, created_at, due_at from {table} where state = '{state}'
       and {indexed} order by {key} nulls first limit {most}) oldest
     where {goes_on} (tenant_id not in (select t.id from tenants_tenant t where {held}))
     limit {looked}) waiting)"""
# What is due and was not promoted: by the promoter's index.
_SINCE_LATE = """
  (select extract(epoch from now() - min(due_at))::bigint from (
    select due_at from {table} where state = '{state}' and due_at <= now()
    order by due_at limit 1) late)"""
_WITHHELD = """
select '{name}', '{withheld}', least({most}, coalesce(sum(of.works), 0))::bigint, null::bigint
from tenants_tenant t, lateral (
  select count(*) as works from (
    select from {table} w where w.state = 'pending' and w.tenant_id = t.id {stays}
    limit {most}) w) of
where {held}"""
_MADE = """
select '{name}', c.at, n.made, n.traced, n.lost
from unnest(%(spans)s::timestamptz[], %(lows)s::{kind}[], %(highs)s::{kind}[]) c(at, low, high),
lateral (
  select count(*) as made, count(*) filter (where t.traced) as traced,
    (array_agg(w.id || ' ' || w.state) filter (where not t.traced))[1:{listed}] as lost
  from {table} w, lateral (select {traced} as traced) t
  where w.{key} >= c.low and w.{key} < c.high) n"""


@dataclass(frozen=True, slots=True)
class Made:
    """The works of one queue that were accepted in one minute, and who accounts for them."""

    queue: str
    at: datetime
    made: int
    traced: int
    lost: list[dict[str, str]]


def ended(cursor: CursorWrapper, since: datetime, until: datetime) -> list[tuple[Any, ...]]:
    """(queue, minute, final state, bucket of those that succeeded, works)."""
    lasted = "extract(epoch from finished_at - created_at) * 1000"
    return _of_all(cursor, _ENDED, _span(since, until), bucket=BUCKET.format(ms=lasted))


def busiest(cursor: CursorWrapper, since: datetime, until: datetime) -> list[tuple[Any, ...]]:
    """(queue, minute, tenant's number, works that ended), of each minute's busiest tenants."""
    return _of_all(cursor, _BUSIEST, _span(since, until), top=TOP)


def lettered(cursor: CursorWrapper, since: datetime, until: datetime) -> list[tuple[Any, ...]]:
    """(queue, minute, dead letters that came)."""
    cursor.execute(_LETTERED, _span(since, until))
    return list(cursor.fetchall())


def depths(cursor: CursorWrapper) -> list[tuple[str, str, int, int | None]]:
    """(queue, state, works that lie there now, seconds for which the oldest of them has waited).

    What is pending or to be tried again waits since it is due, all else since it was accepted.
    WITHHELD is no state: of those that are pending, the works of tenants that are suspended.
    """
    statements = [
        _DEPTH.format(
            name=q.name,
            state=state.value,
            table=q.table,
            most=MOST,
            indexed=LISTED_SQL,
            age=_age(q, state),
        )
        for q in served()
        for state in OPEN
        if state != State.UNKNOWN or q.model.never_twice
    ]
    statements += [_withheld(q) for q in served()]
    cursor.execute(" union all ".join(f"({statement})" for statement in statements))
    found = [(*row[:2], _more(cursor, *row[:3]), row[3]) for row in cursor.fetchall()]
    cursor.execute(_OPEN_LETTERS.format(most=MOST))
    return [*found, *((name, "dead_letter", many, age) for name, many, age in cursor.fetchall())]


def _age(served: Queue, state: State) -> str:
    statement = {
        State.PENDING: _SINCE_DUE,
        State.FAILED: _SINCE_LATE,
        State.SCHEDULED: _SINCE_LATE,
    }.get(state, _SINCE_ACCEPTED)
    goes_on = f"lane in ({_lanes_that_go_on()}) or" if served.name == "jobs" else ""
    return statement.format(
        table=served.table,
        state=state.value,
        indexed=LISTED_SQL,
        key=_key(served),
        most=MOST,
        looked=LOOKED,
        held=HELD,
        goes_on=goes_on,
    )


def _withheld(served: Queue) -> str:
    stays = f"and w.lane not in ({_lanes_that_go_on()})" if served.name == "jobs" else ""
    return _WITHHELD.format(
        name=served.name, withheld=WITHHELD, table=served.table, most=MOST, held=HELD, stays=stays
    )


def _lanes_that_go_on() -> str:
    return ", ".join(f"'{lane}'" for lane in GOES_ON)


def _more(cursor: CursorWrapper, name: str, state: str, many: int) -> int:
    """What was counted or, where that stopped, what the planner expects."""
    if many < MOST or state == WITHHELD:
        return many
    table = queues()[name].table
    cursor.execute(f"explain (format json) select from {table} where state = '{state}'")
    (answer,) = cursor.fetchone()
    plan = json.loads(answer) if isinstance(answer, str) else answer
    return max(many, int(plan[0]["Plan"]["Plan Rows"]))


def made(
    cursor: CursorWrapper,
    minutes: Sequence[datetime],
    width: Any,
    traced: Callable[[Queue], str],
) -> Iterator[Made]:
    """The works that were accepted in each of these minutes, as they stand now.

    `traced` says of a queue, in SQL over a work `w`, what is accounted for.
    """
    for by_id in (True, False):
        values: dict[str, list[Any]] = {"spans": list(minutes)}
        ends = [minute + width for minute in minutes]
        values["lows"] = [_low(at) for at in minutes] if by_id else list(minutes)
        values["highs"] = [_low(at) for at in ends] if by_id else ends
        asked = [_made_of(q, traced(q)) for q in served() if is_ordered(q) == by_id]
        if asked:
            cursor.execute(" union all ".join(asked), values)
            for name, at, many, sound, lost in cursor.fetchall():
                yield Made(name, at, many, sound, [_lost(each) for each in lost or ()])


def _made_of(served: Queue, traced: str) -> str:
    return _MADE.format(
        name=served.name,
        table=served.table,
        key=_key(served),
        kind="uuid" if is_ordered(served) else "timestamptz",
        listed=LISTED,
        traced=traced,
    )


def _of_all(
    cursor: CursorWrapper, statement: str, values: dict[str, Any], **more: Any
) -> list[tuple[Any, ...]]:
    asked = [statement.format(name=q.name, table=q.table, **more) for q in served()]
    cursor.execute(" union all ".join(f"({one})" for one in asked), values)
    return list(cursor.fetchall())


def served() -> list[Queue]:
    """The queues that are counted."""
    return list(queues().values())


def _key(served: Queue) -> str:
    return "id" if is_ordered(served) else "created_at"


def is_ordered(served: Queue) -> bool:
    """Whether its ids are ordered by time: a sign-up's must not be guessed, and is not."""
    return served.model._meta.get_field("id").default is uuid7


def _low(at: datetime) -> UUID:
    """The lowest UUID of version 7 that a moment has (RFC 9562: 48 bits of milliseconds)."""
    return UUID(int=int(at.timestamp() * 1000) << 80)


def _lost(said: str) -> dict[str, str]:
    work, _, state = said.partition(" ")
    return {"id": work, "state": state}


def _span(since: datetime, until: datetime) -> dict[str, datetime]:
    return {"since": since, "until": until}
