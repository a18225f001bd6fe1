"""Shutting a lane, and opening it: its works are held, and released. Nothing is lost between.

Each function goes chunk by chunk, and each chunk is a guarded UPDATE: what runs meanwhile is left
alone. In the caller's transaction all chunks are one; outside of any, each stands for itself.
"""

from typing import Any
from uuid import UUID

import orjson
from django.db import connections, transaction

from config.ids import uuid7
from jobs import tallying
from jobs.registry import queue as queue_named
from jobs.resolving import CHUNK
from jobs.services import OPERATOR, wake_after_commit

# Each sort by an index of its own: what may run, and what waits for its time. Materialised: a
# nested loop would look for the limited rows again and again, past those that it has just moved.
HOLD = """
with waiting as materialized (
  select id, state from {table} where id in (
      (select id from {table} where tenant_id = %(tenant)s and lane = %(lane)s
         and state = 'pending' limit {most})
      union all
      (select id from {table} where tenant_id = %(tenant)s and lane = %(lane)s
         and state in ('scheduled', 'failed') limit {most}))
    and state in ('pending', 'scheduled', 'failed')
  order by id limit {most} for update
)
update {table} w set state = 'held' from waiting where w.id = waiting.id
returning w.id, waiting.state, 'held'
"""

RELEASE = """
with held as materialized (
  select id from {table} where tenant_id = %(tenant)s and lane = %(lane)s and state = 'held'
    and id > %(above)s
  order by id limit {most} for update
)
update {table} w set state = 'pending', due_at = now(), throttled_since = null
from held where w.id = held.id
returning w.id, 'held', 'pending'
"""

# The newest `keep` stay. Those below them are dead, each with its letter and its audit entry.
OVERFLOW = """
with surplus as materialized (
  select id from {table} where tenant_id = %(tenant)s and lane = %(lane)s and state = 'held'
    and id <= (select id from {table}
               where tenant_id = %(tenant)s and lane = %(lane)s and state = 'held'
               order by id desc offset {keep} limit 1)
  order by id limit {most} for update
),
dead as (
  update {table} w set state = 'dead_letter', last_error = %(error)s
  from surplus where w.id = surplus.id returning w.id
),
numbered as (
  select id, row_number() over (order by id) as n from dead
),
given as materialized (
  select numbered.id, fresh.letter, fresh.entry from numbered
  join json_to_recordset(%(fresh)s::json) fresh(n int, letter uuid, entry uuid) using (n)
),
letter as (
  insert into jobs_deadletter (id, tenant_id, queue, work_id, reason, error)
  select letter, %(tenant)s, %(queue)s, id, 'overflow', %(error)s from given
),
entry as (
  insert into tenants_auditentry
    (id, at, tenant_id, actor, action, target, reason, before, after, request_id)
  select entry, now(), %(tenant)s, 'system:engine', 'work.dead_lettered', %(queue)s || ':' || id,
    'overflow', '{{"state": "held"}}', '{{"state": "dead_letter"}}', '' from given
)
select id, 'held', 'dead_letter' from given
"""
_NIL = UUID(int=0)
_OVERFLOWN = "its lane was shut, and held more than it keeps"


def hold(
    *, queue: str, tenant_id: int, lane: str, most: int | None = None, using: str = OPERATOR
) -> int:
    """Let what waits in a lane, or `most` of it, wait until it is released; says how many."""
    return _chunks(HOLD, queue, tenant_id, lane, most=most, using=using)


def release(
    *,
    queue: str,
    tenant_id: int,
    lane: str,
    most: int | None = None,
    above: UUID | None = None,
    using: str = OPERATOR,
) -> int:
    """Let what a lane holds, or the oldest `most` of it, run; says how many works that were.

    Of them, only those whose ids are higher than `above`.
    """
    released = _chunks(RELEASE, queue, tenant_id, lane, most=most, above=above, using=using)
    if released:
        wake_after_commit(queue, using=using)
    return released


def overflow(*, queue: str, tenant_id: int, lane: str, keep: int, most: int | None = None) -> int:
    """Send what a lane holds beyond the newest `keep` to the dead letters; says how many.

    Of these, the oldest `most`.
    """
    return _chunks(OVERFLOW, queue, tenant_id, lane, keep=keep, most=most, using=OPERATOR)


def _chunks(
    statement: str,
    queue: str,
    tenant_id: int,
    lane: str,
    *,
    using: str,
    most: int | None = None,
    keep: int = 0,
    above: UUID | None = None,
) -> int:
    of = queue_named(queue)
    size = CHUNK if most is None else min(CHUNK, most)
    sql = statement.format(table=of.table, most=int(size), keep=int(keep))
    values: dict[str, Any] = {
        "tenant": tenant_id,
        "lane": lane,
        "queue": queue,
        "above": above or _NIL,
    }
    moved = 0
    while True:
        if statement is OVERFLOW:
            values |= {"error": _OVERFLOWN, "fresh": _fresh_ids()}
        with transaction.atomic(using=using), connections[using].cursor() as cursor:
            cursor.execute(sql, values)
            moves = cursor.fetchall()
            tallying.tally(of, moves, using)
        count = len(moves)
        moved += count
        if count < size or (most is not None and moved >= most):
            return moved


def _fresh_ids() -> str:
    rows = [{"n": n, "letter": uuid7(), "entry": uuid7()} for n in range(1, CHUNK + 1)]
    return orjson.dumps(rows).decode()
