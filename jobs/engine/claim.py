"""The claim: which works start next, and in whose hands.

One transaction of two statements. PICK looks for lanes with runnable work and locks their tenants
(advisory); TAKE, with a fresh snapshot, counts what is in progress and takes what the caps leave.
In one statement two claimers would both count before either takes, and overrun a cap.

Nobody owns a lane. The cost is that of the lanes looked at: a backlog costs nothing, and a tenant
with a thousand lanes gets no more turns than one with a single lane. A lane belongs to one tenant,
so the tenant's lock covers its lanes; it is the tenant's, because a tenant's cap spans its lanes.

All of it runs unprepared with literal limits: a generic plan scans (tests/jobs/test_plans.py).
"""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from psycopg import AsyncConnection

from jobs.registry import Queue
from jobs.steps import Claim

TENANTS_LOOKED_AT = 64
LANES_LOOKED_AT = 8  # Of each tenant.
NO_LIMIT = 2**31 - 1

ALIVE = """
  select id from jobs_drainer where id = %(drainer)s and dead_at is null for share
"""

PICK = """
with recursive alive as materialized ({alive}),
found(id) as (
  (select tenant_id from {table} where state = 'pending' and tenant_id > %(cursor)s
   order by tenant_id limit 1)
  union all
  (select (select w.tenant_id from {table} w where w.state = 'pending' and w.tenant_id > found.id
           order by w.tenant_id limit 1)
   from found where found.id is not null)
),
tenant as materialized (
  select id, pg_try_advisory_xact_lock(hashtextextended('{table}:' || id, 7)) as mine
  from found where id is not null and exists (select 1 from alive) limit {tenants}
),
looked as materialized (
  select tenant.id, lanes.key from tenant
  left join unnest(%(cursor_tenants)s::bigint[], %(cursor_lanes)s::text[]) seen(id, lane)
    on seen.id = tenant.id
  cross join lateral (
    with recursive l(key) as (
      (select lane::text from {table} where state = 'pending' and tenant_id = tenant.id
       and lane > coalesce(seen.lane, '') order by lane limit 1)
      union all
      (select (select w.lane::text from {table} w where w.state = 'pending'
               and w.tenant_id = tenant.id and w.lane > l.key order by w.lane limit 1)
       from l where l.key is not null)
    ) select key from l where key is not null limit {lanes}) lanes
  where tenant.mine
)
select tenant.id, tenant.mine, looked.key,
  coalesce((select paused_until > now() from jobs_lane
    where jobs_lane.tenant_id = tenant.id and jobs_lane.key = looked.key), false)
from tenant left join looked on looked.id = tenant.id
"""

# Only the lowest unfinished work of an ordered lane, and only when it may run now.
ORDERED_HEAD = """
  union all
  select h.id, 0 from (
    select locked.id from {table} locked join (
      select w.id from {table} w
      where w.tenant_id = room.tenant_id and w.lane = room.lane and w.seq is not null
        and w.state not in ('succeeded', 'discarded', 'cancelled')
      order by w.seq limit 1) head on head.id = locked.id
    where locked.state = 'pending' and room.n > 0 for update of locked skip locked) h
"""

TAKE = """
with looked as (
  select * from unnest(%(tenants)s::bigint[], %(lanes)s::text[])
    with ordinality l(tenant_id, lane, place)
),
room as materialized (
  select l.tenant_id, l.lane, l.place, least({quota}, coalesce(control.window, {lane_window})
    - (select count(*) from {table} w where w.state = 'processing'
       and w.tenant_id = l.tenant_id and w.lane = l.lane)) as n
  from looked l left join jobs_lane control
    on control.tenant_id = l.tenant_id and control.key = l.lane
),
busy as materialized (
  select t.id, (select count(*) from {table} w
                where w.state = 'processing' and w.tenant_id = t.id) as n
  from (select distinct tenant_id as id from looked) t
),
runnable as materialized (
  select room.tenant_id, room.place, work.id, work.nth from room cross join lateral (
    select p.id, row_number() over (order by p.priority, p.id) as nth from (
      select id, priority from {table}
      where state = 'pending' and tenant_id = room.tenant_id and lane = room.lane {unordered}
      order by priority, id limit greatest(0, room.n) for update skip locked) p
    {ordered_head}) work
),
turn as (
  select id, tenant_id, place,
    row_number() over (partition by tenant_id order by nth, place) as nth from runnable
),
chosen as materialized (
  select turn.id from turn join busy on busy.id = turn.tenant_id
  where turn.nth <= {tenant_window} - busy.n order by turn.nth, turn.place limit {slots}
),
taken as (
  update {table} w set state = 'processing', attempts = w.attempts + 1,
    lease = drawn.lease, drainer = %(drainer)s
  from chosen, (select nextval('jobs_lease_seq') as lease) drawn
  where w.id = chosen.id
  returning w.*
)
"""

# Undoing is rare and has no lanes: what is due, oldest first.
TAKE_UNDO = """
with alive as materialized ({alive}),
chosen as materialized (
  select id from {table}
  where state = 'discarding' and lease is null and due_at <= now() and exists (select 1 from alive)
  order by due_at limit {slots} for update skip locked
),
taken as (
  update {table} w set attempts = w.attempts + 1, lease = drawn.lease, drainer = %(drainer)s
  from chosen, (select nextval('jobs_lease_seq') as lease) drawn
  where w.id = chosen.id
  returning w.*
)
"""

CLAIMED = """
select taken.id, taken.tenant_id,
  case t.home when 'dedicated' then t.schema_name when 'pooled' then 'pool' else 'public' end,
  taken.lane, taken.lease, taken.attempts, taken.max_attempts, taken.losses,
  taken.state = 'discarding', taken.created_at, clock_timestamp(), taken.drainer {columns}
from taken left join tenants_tenant t on t.id = taken.tenant_id
"""


@dataclass
class Cursor:
    """Where a drainer looks next in one queue: round the tenants, and round each one's lanes."""

    tenant: int = 0
    lanes: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Taken:
    """What one claim came to.

    `exhausted`: everything runnable was looked at, and nothing that the caps allow is left.
    `ended`: the look came to the last tenant; the next one begins at the first again.
    `contended`: another drainer held a tenant's lock, which is worth another try in a moment.
    """

    claims: list[Claim]
    exhausted: bool
    ended: bool
    contended: bool


async def claim(
    connection: AsyncConnection[Any], queue: Queue, *, drainer: int, slots: int, cursor: Cursor
) -> Taken:
    """Take up to `slots` works, only as many as start at once. `connection` is in autocommit."""
    began_at = cursor.tenant
    most = min(TENANTS_LOOKED_AT, max(8, 2 * slots))
    async with connection.transaction():
        looked = await _pick(connection, queue, drainer, cursor, most)
        cut = _advance(cursor, looked, most)
        free = [(tenant, lane) for tenant, mine, lane, paused in looked if lane and not paused]
        rows = await _take(connection, queue, free, drainer=drainer, slots=slots) if free else []
    claims = [_claim(queue, row) for row in rows]
    ended = cursor.tenant == 0
    if len(claims) == slots:
        # Whoever was looked at and not served comes first the next time.
        cursor.tenant = max(claim.tenant_id for claim in claims)
        return Taken(claims, exhausted=False, ended=False, contended=False)
    contended = any(not mine for _, mine, _, _ in looked)
    served = Counter(claim.lane for claim in claims)
    more = cut or contended or any(n >= quota(slots, len(free)) for n in served.values())
    return Taken(claims, exhausted=began_at == 0 and not more, ended=ended, contended=contended)


async def claim_undo(
    connection: AsyncConnection[Any], queue: Queue, *, drainer: int, slots: int
) -> list[Claim]:
    """Take up to `slots` works that are to be undone."""
    statement = TAKE_UNDO.format(alive=ALIVE, table=queue.table, slots=int(slots))
    rows = await _rows(connection, statement + _claimed(queue), {"drainer": drainer})
    return [_claim(queue, row) for row in rows]


async def _pick(
    connection: AsyncConnection[Any], queue: Queue, drainer: int, cursor: Cursor, most: int
) -> list[Any]:
    return await _rows(
        connection,
        pick_statement(queue, tenants=most),
        {
            "drainer": drainer,
            "cursor": cursor.tenant,
            "cursor_tenants": list(cursor.lanes),
            "cursor_lanes": list(cursor.lanes.values()),
        },
    )


def pick_statement(queue: Queue, *, tenants: int = TENANTS_LOOKED_AT) -> str:
    """PICK for a queue, with its literal limits."""
    return PICK.format(alive=ALIVE, table=queue.table, tenants=int(tenants), lanes=LANES_LOOKED_AT)


def quota(slots: int, lanes: int) -> int:
    """How many of `slots` one of `lanes` may have in one claim: its share, and at least one."""
    return max(1, -(-slots // max(1, lanes)))


async def _take(
    connection: AsyncConnection[Any],
    queue: Queue,
    lanes: Sequence[tuple[int, str]],
    *,
    drainer: int,
    slots: int,
) -> list[Any]:
    return await _rows(
        connection,
        take_statement(queue, slots=slots, lanes=len(lanes)),
        {"drainer": drainer, "tenants": [t for t, _ in lanes], "lanes": [key for _, key in lanes]},
    )


def take_statement(queue: Queue, *, slots: int, lanes: int) -> str:
    """TAKE for a queue, with its literal limits."""
    ordered = queue.model.ordered
    return TAKE.format(
        table=queue.table,
        quota=quota(slots, lanes),
        slots=int(slots),
        lane_window=NO_LIMIT if queue.lane_window is None else int(queue.lane_window),
        tenant_window=NO_LIMIT if queue.tenant_window is None else int(queue.tenant_window),
        unordered="and seq is null" if ordered else "",
        ordered_head=ORDERED_HEAD.format(table=queue.table) if ordered else "",
    ) + _claimed(queue)


def _claimed(queue: Queue) -> str:
    return CLAIMED.format(columns="".join(f', taken."{name}"' for name in queue.model.claimed))


async def _rows(
    connection: AsyncConnection[Any], statement: str, values: dict[str, Any]
) -> list[Any]:
    cursor = await connection.execute(statement, values, prepare=False)
    return list(await cursor.fetchall())


def _advance(cursor: Cursor, looked: Sequence[Any], most: int) -> bool:
    """Move past what was looked at; says whether the limits cut the look short."""
    lanes: dict[int, list[str]] = {}
    for tenant, _, lane, _ in looked:
        lanes.setdefault(tenant, []).append(lane or "")
    for tenant, keys in lanes.items():
        if len(keys) == LANES_LOOKED_AT:
            cursor.lanes[tenant] = max(keys)  # Lanes collate as "C", which is Python's order.
        else:
            cursor.lanes.pop(tenant, None)
    cursor.tenant = max(lanes) if len(lanes) == most else 0
    return cursor.tenant > 0 or bool(cursor.lanes)


def _claim(queue: Queue, row: Sequence[Any]) -> Claim:
    (id_, tenant, schema, lane, lease, attempt, most, losses, undo, created, started, drainer) = (
        row[:12]
    )
    return Claim(
        queue=queue.name,
        id=id_,
        tenant_id=tenant,
        schema=schema,
        lane=lane,
        lease=lease,
        attempt=attempt,
        max_attempts=most,
        losses=losses,
        discarding=undo,
        created_at=created,
        started_at=started,
        drainer=drainer,
        deadline=time.monotonic() + queue.deadline,
        data=dict(zip(queue.model.claimed, row[12:], strict=True)),
    )
