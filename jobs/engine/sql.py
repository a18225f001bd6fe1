"""The statements of the claim (jobs.engine.claim), and what goes into them for a queue.

All of it runs unprepared with literal limits: a generic plan scans (tests/jobs/test_plans.py).
"""

from jobs import columns
from jobs.registry import Queue

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
from taken left join tenants_tenant t on t.id = taken.tenant_id {carried}
"""


def pick(queue: Queue, *, tenants: int = TENANTS_LOOKED_AT) -> str:
    """PICK for a queue, with its literal limits."""
    return PICK.format(alive=ALIVE, table=queue.table, tenants=int(tenants), lanes=LANES_LOOKED_AT)


def quota(slots: int, lanes: int) -> int:
    """How many of `slots` one of `lanes` may have in one claim: its share, and at least one."""
    return max(1, -(-slots // max(1, lanes)))


def take(queue: Queue, *, slots: int, lanes: int) -> str:
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


def take_undo(queue: Queue, *, slots: int) -> str:
    """TAKE_UNDO for a queue, with its literal limit."""
    statement = TAKE_UNDO.format(alive=ALIVE, table=queue.table, slots=int(slots))
    return statement + _claimed(queue)


def _claimed(queue: Queue) -> str:
    return CLAIMED.format(
        columns=columns.selected(queue.model), carried=columns.joined(queue.model)
    )
