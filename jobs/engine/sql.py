"""The statements of the claim (jobs.engine.claim), and what goes into them for a queue.

They are prepared, and planned for any values every few seconds (jobs.engine.link): planning took
most of the time of a small claim. So a queue has few of them, and what differs from claim to claim
is a parameter. tests/jobs/test_plans.py looks at the plans.
"""

from functools import lru_cache

from jobs import columns
from jobs.registry import Queue

TENANTS_LOOKED_AT = 64
LANES_LOOKED_AT = 8  # Of each tenant.
WIDE_TENANTS, WIDE_LANES = 512, 64  # The one or the other, after a look that found nothing.
NO_LIMIT = 2**31 - 1
LEARNT_SECONDS = 600  # For so long what was learnt of a place is where others begin.
PATIENCE = 30  # Seconds that a retry or a replay lets others' first tries go before it.

# Neither does a drainer that is dead claim anything, nor anyone while the gate is shut, or is not
# there: while a dump is being restored.
ALIVE = """
  select d.id from jobs_drainer d where d.id = %(drainer)s and d.dead_at is null
    and exists (select 1 from jobs_gate where id = 1 and held_since is null) for share of d
"""

# The drainer's row has the lease with the works that bear it: by that it is known whether the
# database still has what was claimed (jobs.engine.gate).
NOTED = """,
noted as (
  update jobs_drainer d set lease = newest.lease
  from (select max(lease) as lease from taken) newest
  where d.id = %(drainer)s and newest.lease is not null
)"""

# Whose work waits, however much there is: such a tenant is looked at, and none of its lanes is. The
# same words as in the index tenant_held, which holds these few alone.
HELD = "t.status = 'suspended' or t.status = 'closing' and t.closes_at is not null"
# Lanes of jobs that go on all the same: what the law asks for, and what was half done.
GOES_ON = ("erasures", "moves")
ON = """
    union all
    select l.key from unnest(array[{lanes}]) l(key) where tenant.held and exists (
      select from {table} w
      where w.state = 'pending' and w.tenant_id = tenant.id and w.lane = l.key)"""

# Whose work waits: round the tenants from a cursor, or of those that are named. Each of these is
# looked up: with EXISTS all that is pending was read, and hashed.
ROUND = """
  (select tenant_id from {table} where state = 'pending' and tenant_id > %(cursor)s
   order by tenant_id limit 1)
  union all
  (select (select w.tenant_id from {table} w where w.state = 'pending' and w.tenant_id > found.id
           order by w.tenant_id limit 1)
   from found where found.id is not null)"""
NAMED = """
  select n.id from unnest(%(named)s::bigint[]) n(id) cross join lateral (
    select from {table} w where w.state = 'pending' and w.tenant_id = n.id limit 1) w"""

PICK = """
with recursive alive as materialized ({alive}),
found(id) as ({found}
),
tenant as materialized (
  select id, exists (select from tenants_tenant t where t.id = found.id and ({held})) as held
  from found where id is not null and exists (select 1 from alive) limit {tenants}
),
looked as materialized (
  select tenant.id, lanes.key, control.* from tenant
  left join unnest(%(cursor_tenants)s::bigint[], %(cursor_lanes)s::text[]) seen(id, lane)
    on seen.id = tenant.id
  cross join lateral (
    with recursive l(key) as (
      (select lane::text from {table} where not tenant.held
       and state = 'pending' and tenant_id = tenant.id
       and lane > coalesce(seen.lane, '') order by lane limit 1)
      union all
      (select (select w.lane::text from {table} w where w.state = 'pending'
               and w.tenant_id = tenant.id and w.lane > l.key order by w.lane limit 1)
       from l where l.key is not null)
    ) (select key from l where key is not null limit {lanes}){on}) lanes
  left join lateral (
    select {paused} as paused, {rate} as rate, {tokens} as tokens
    from jobs_lane c where c.tenant_id = tenant.id and c.key = lanes.key limit 1) control on true
),{placed}
open as materialized (
  select id, pg_try_advisory_xact_lock(hashtextextended('{table}:' || id, 7)) as mine
  from (select distinct id from {looked} looked
        where paused is null and coalesce(tokens, 1) >= 1) claimable
)
select tenant.id, coalesce(open.mine, true), looked.key, looked.paused, looked.rate, looked.tokens
  {place}
from tenant left join {looked} looked on looked.id = tenant.id left join open on open.id = tenant.id
order by tenant.id, looked.key
"""

# Where the next work of each lane goes in a paced queue, and what that place's own row says: while
# it is paused, so is the lane.
PLACED = """
placed as materialized (
  select looked.id, looked.key, greatest(looked.paused, there.paused) as paused, looked.rate,
    looked.tokens, next.destination, there.rate as place_rate, there.learnt_window,
    there.learnt_rate
  from looked
  left join lateral (
    select p.{column} as destination from {table} p
    where p.state = 'pending' and p.tenant_id = looked.id and p.lane = looked.key
    order by p.priority, p.id limit 1) next on true
  left join lateral (
    select {paused} as paused, {rate} as rate,
      case when c.learnt_at > now() - interval '{learnt} seconds' then c.learnt_window end
        as learnt_window,
      case when c.learnt_at > now() - interval '{learnt} seconds' then c.learnt_rate end
        as learnt_rate
    from jobs_lane c where c.tenant_id = looked.id and c.key = next.destination limit 1) there
    on true
),"""
PLACE = ", looked.destination, looked.place_rate, looked.learnt_window, looked.learnt_rate"

# What a lane's own says and the operator says besides: the narrower holds (nulls say nothing).
PAUSED_UNTIL = "greatest(c.paused_until, c.operator_paused_until)"
PAUSED = f"""case when {PAUSED_UNTIL} > now()
      then extract(epoch from {PAUSED_UNTIL} - now())::float8 end"""
RATE = "least(c.rate, c.operator_rate)"
WINDOW = "least(c.window, c.operator_window)"
# What the bucket of a lane with a rate holds: a second's worth at most, but room for one.
TOKENS = f"""case when {RATE} is not null then
  least(greatest(1, {RATE}), coalesce(c.tokens + {RATE} * greatest(0,
    extract(epoch from clock_timestamp() - c.refilled_at)::float8), greatest(1, {RATE}))) end"""

# Only the lowest unfinished work of an ordered lane, and only when it may run now. It is locked by
# its key: said plainly, its state would let it be looked for among all that is pending, once for
# each lane, by a planner whose statistics say that nothing is.
ORDERED_HEAD = """
      union all
      select h.id, 0, h.priority, h.due_at, h.destination from (
        select w.id from {table} w
        where w.tenant_id = room.tenant_id and w.lane = room.lane and w.seq is not null
          and w.state not in ('succeeded', 'discarded', 'cancelled') and room.n > 0
        order by w.seq limit 1) head
      cross join lateral (
        select locked.id, locked.priority, locked.due_at, {destination} as destination
        from {table} locked where locked.id = head.id and locked.state || '' = 'pending'
        for update skip locked) h"""

# What this drainer has under way to the place where the lane's next work goes leaves so much.
DESTINATION_ROOM = """,
    {share} - coalesce((
      select away.n from unnest(%(destinations)s::text[], %(under_way)s::int[]) away(name, n)
      where away.name = (
        select p.{column} from {table} p
        where p.state = 'pending' and p.tenant_id = l.tenant_id and p.lane = l.lane
        order by p.priority, p.id limit 1)), 0)"""

# Of those who want to go to one place, each has the same chance: else the first always wins.
NTH_THERE = "row_number() over (partition by turn.destination order by urgency, nth, random())"
THERE = """left join unnest(%(destinations)s::text[], %(under_way)s::int[]) away(name, n)
    on away.name = destination where nth_there <= {share} - coalesce(away.n, 0)"""

LOOKED = """
  select * from unnest(%(tenants)s::bigint[], %(lanes)s::text[])
    with ordinality l(tenant_id, lane, place)"""

# A paced queue: each lane with the place where its next work goes. As many may start there as the
# drainer's own pace leaves, and the place's row and its owner allow all drainers together.
LOOKED_PLACED = """
  select * from unnest(%(tenants)s::bigint[], %(lanes)s::text[], %(destinations)s::text[],
    %(rooms)s::int[], %(mosts)s::int[]) with ordinality l(tenant_id, lane, there, room, most, place)
),
there as materialized (
  select given.tenant_id, given.there, least(given.room,
    case when control.paused_until > now() then 0
         when control.trips > 0 then 1 - busy.n
         else least(control.window, given.most) - busy.n end) as n
  from (select distinct tenant_id, there, room, most from looked) given
  left join lateral (
    select {paused_until} as paused_until, {window} as window, c.trips from jobs_lane c
    where c.tenant_id = given.tenant_id and c.key = given.there limit 1) control on true
  cross join lateral (
    select count(*) as n from {table} w
    where w.state = 'processing' and w.tenant_id = given.tenant_id and w.{column} = given.there
      and (control.trips > 0 or control.window is not null or given.most is not null)) busy"""
PLACE_ROOM = """,
    (select t.n from there t where t.tenant_id = l.tenant_id and t.there = l.there)"""
# One tenant's campaigns share its place's room in turn.
NTH_PLACED = """row_number() over (partition by turn.tenant_id, turn.destination
    order by urgency, nth)"""
PLACED_THERE = """join there t on t.tenant_id = allowed.tenant_id and t.there = allowed.destination
    where nth_there <= t.n"""

TAKE = """
with looked as ({looked}
),
room as materialized (
  select l.tenant_id, l.lane, l.place, control.tokens, control.at, least(%(quota)s::int,
    -- Paused since it was picked: a 429 that was settled between the two statements.
    case when control.paused_until > now() then 0
         when control.trips > 0 then 1 else coalesce(control.window, {lane_window}) end
    - (select count(*) from {table} w where w.state = 'processing'
       and w.tenant_id = l.tenant_id and w.lane = l.lane),
    floor(least(control.tokens, 1e6))::bigint{destination_room}) as n
  from looked l left join lateral (
    select {paused_until} as paused_until, {window} as window, c.trips,
      clock_timestamp() as at, {tokens} as tokens
    from jobs_lane c where c.tenant_id = l.tenant_id and c.key = l.lane limit 1) control on true
),
runnable as materialized (
  select room.tenant_id, room.place, work.id, work.nth, work.destination,
    -- First tries go before retries, and those before replays, of whichever tenant; for a while.
    case when work.due_at > now() - interval '{patience} seconds' then work.priority else 0 end
      as urgency
  from room cross join lateral (
    select * from (
      select p.id, row_number() over (order by p.priority, p.id) as nth, p.priority, p.due_at,
        p.destination
      from (
        select id, priority, due_at, {destination} as destination from {table}
        where state = 'pending' and tenant_id = room.tenant_id and lane = room.lane {unordered}
        order by priority, id limit greatest(0, room.n) for update skip locked) p
      {ordered_head}) found order by nth limit greatest(0, room.n)) work
),
busy as materialized (
  select t.id, (select count(*) from {table} w
                where w.state = 'processing' and w.tenant_id = t.id) as n
  from (select distinct tenant_id as id from runnable) t
),
turn as (
  select id, tenant_id, place, destination, urgency,
    row_number() over (partition by tenant_id order by urgency, nth, place) as nth from runnable
),
allowed as (
  select turn.*, {nth_there} as nth_there from turn join busy on busy.id = turn.tenant_id
  where turn.nth <= {tenant_window} - busy.n
),
chosen as materialized (
  select id from allowed {there} order by urgency, nth, place limit %(slots)s
),
taken as (
  update {table} w set state = 'processing', attempts = w.attempts + 1,
    lease = drawn.lease, drainer = %(drainer)s
  from chosen, (select nextval('jobs_lease_seq') as lease) drawn
  where w.id = chosen.id
  returning w.*
){noted}{spent}
"""

# Those who took pay; nobody else's row is written.
SPENT = """,
spent as (
  update jobs_lane c set tokens = room.tokens - used.n, refilled_at = room.at
  from (select tenant_id, lane, count(*) as n from taken
        group by tenant_id, lane order by tenant_id, lane) used
  join room on room.tenant_id = used.tenant_id and room.lane = used.lane
  where room.tokens is not null and c.tenant_id = used.tenant_id and c.key = used.lane
)"""

# Undoing is rare and has no lanes: what is due, oldest first.
TAKE_UNDO = """
with alive as materialized ({alive}),
chosen as materialized (
  select id from {table}
  where state = 'discarding' and lease is null and due_at <= now() and exists (select 1 from alive)
  order by due_at limit %(slots)s for update skip locked
),
taken as (
  update {table} w set attempts = w.attempts + 1, lease = drawn.lease, drainer = %(drainer)s
  from chosen, (select nextval('jobs_lease_seq') as lease) drawn
  where w.id = chosen.id
  returning w.*
){noted}
"""

CLAIMED = """
select taken.id, taken.tenant_id,
  case t.home when 'dedicated' then t.schema_name when 'pooled' then 'pool' else 'public' end,
  taken.lane, taken.lease, taken.attempts, taken.max_attempts, taken.forgiven, taken.losses,
  taken.state = 'discarding', taken.created_at, clock_timestamp(), taken.drainer,
  taken.throttled_since, {destination} {columns}
from taken left join tenants_tenant t on t.id = taken.tenant_id {carried}
"""


@lru_cache(maxsize=256)
def pick(
    queue: Queue,
    *,
    tenants: int = TENANTS_LOOKED_AT,
    lanes: int = LANES_LOOKED_AT,
    named: bool = False,
) -> str:
    """PICK for a queue, with its literal limits: a plan is made for what they bound.

    `named`: of tenants that the parameter of that name says, in place of `cursor`.
    """
    paced, column = queue.pace is not None, queue.model.destination
    placed = PLACED.format(
        table=queue.table, column=column, paused=PAUSED, rate=RATE, learnt=LEARNT_SECONDS
    )
    return PICK.format(
        alive=ALIVE,
        held=HELD,
        on=ON.format(table=queue.table, lanes=", ".join(f"'{lane}'" for lane in GOES_ON))
        if queue.name == "jobs"
        else "",
        found=(NAMED if named else ROUND).format(table=queue.table),
        table=queue.table,
        tenants=int(tenants),
        lanes=int(lanes),
        paused=PAUSED,
        rate=RATE,
        tokens=TOKENS,
        placed=placed if paced else "",
        looked="placed" if paced else "looked",
        place=PLACE if paced else "",
    )


def quota(slots: int, lanes: int) -> int:
    """How many of `slots` one of `lanes` may have in one claim: its share, and at least one."""
    return max(1, -(-slots // max(1, lanes)))


def tenants_for(slots: int) -> int:
    """How many tenants to look at for so many slots; always one of a few numbers."""
    return next((most for most in (8, 16, 32) if most >= 2 * slots), TENANTS_LOOKED_AT)


def take(queue: Queue, *, paced: bool) -> str:
    """TAKE for a queue; `paced`: some of the lanes have a rate."""
    return _taken(queue, paced) + _claimed(queue)


@lru_cache(maxsize=64)
def _taken(queue: Queue, paced: bool) -> str:
    ordered = queue.model.ordered
    known = queue.pace is not None or queue.destination_slots
    destination = f'"{queue.model.destination}"' if known else "null::text"
    return TAKE.format(
        table=queue.table,
        patience=PATIENCE,
        lane_window=NO_LIMIT if queue.lane_window is None else int(queue.lane_window),
        tenant_window=NO_LIMIT if queue.tenant_window is None else int(queue.tenant_window),
        paused_until=PAUSED_UNTIL,
        window=WINDOW,
        tokens=TOKENS if paced else "null::float8",
        noted=NOTED,
        spent=SPENT if paced else "",
        unordered="and seq is null" if ordered else "",
        ordered_head=ORDERED_HEAD.format(table=queue.table, destination=destination)
        if ordered
        else "",
        destination=destination,
        **_of_destinations(queue),
    )


def _of_destinations(queue: Queue) -> dict[str, str]:
    share, column = queue.destination_slots, queue.model.destination
    if queue.pace is not None:
        return {
            "looked": LOOKED_PLACED.format(
                table=queue.table, column=column, paused_until=PAUSED_UNTIL, window=WINDOW
            ),
            "destination_room": PLACE_ROOM,
            "nth_there": NTH_PLACED,
            "there": PLACED_THERE,
        }
    if share is None:
        return {"looked": LOOKED, "destination_room": "", "nth_there": "1", "there": ""}
    return {
        "looked": LOOKED,
        "destination_room": DESTINATION_ROOM.format(table=queue.table, column=column, share=share),
        "nth_there": NTH_THERE,
        "there": THERE.format(share=share),
    }


def take_undo(queue: Queue) -> str:
    """TAKE_UNDO for a queue."""
    statement = TAKE_UNDO.format(alive=ALIVE, table=queue.table, noted=NOTED)
    return statement + _claimed(queue)


def _claimed(queue: Queue) -> str:
    model = queue.model
    return CLAIMED.format(
        destination=columns.destination(model),
        columns=columns.selected(model),
        carried=columns.joined(model),
    )
