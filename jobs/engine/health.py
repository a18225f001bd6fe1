"""How lanes fare: what a settled batch says of them, written in its own transaction.

One statement for all lanes of a queue's batch, with the lanes locked in the order of their keys. A
lane that succeeds and is not known to fail costs an index look-up in it, and no write; what fails
counts, in the order in which it ended. The state is the row's alone: every drainer sees it with its
next claim, and no restart forgets it.

A breaker opens after so many failures in a row, and again when a try that was let through after the
pause fails. Tries that began before it opened say nothing new, and open nothing. A pause that
somebody else made (an operator, a Retry-After) is neither shortened nor lifted by the breaker.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from psycopg import AsyncConnection

from jobs.breaker import Breaker
from jobs.engine import clean
from jobs.engine.verdict import Settlement
from jobs.registry import Queue
from jobs.registry import queue as queue_named

WHY_LENGTH = 180  # Of paused_why's 200, which has "breaker: " in front.

# given: what the batch says; locked: the rows that it changes, as they are now; judged: counted;
# opening: until when, where the breaker opens; decided: until when nothing starts. A row that
# another transaction made meanwhile is neither locked nor made: the answer says that it was missed.
WATCH = """
with given as materialized (
  select * from json_to_recordset(%(given)s::json) g(tenant_id bigint, key text, healed boolean,
    failed int, begun_at timestamptz, error text, hold float8, why text, spread float8)
),
locked as materialized (
  select l.* from given g join jobs_lane l on l.tenant_id = g.tenant_id and l.key = g.key
  where g.failed > 0 or g.hold is not null or l.failing_since is not null
  order by l.tenant_id, l.key for update of l
),
judged as materialized (
  select g.*, l.id, l.failing_since, l.failed_at, l.opened_at, l.opened_until, l.paused_until,
    l.paused_why, coalesce(l.trips, 0) as tripped,
    case when g.healed then 0 else coalesce(l.trips, 0) end as trips,
    case when g.healed then 0 else coalesce(l.failures, 0) end + g.failed as failures,
    coalesce(l.paused_until > now(), false) as paused,
    coalesce(l.paused_until = l.opened_until, false) as by_breaker
  from given g left join locked l on l.tenant_id = g.tenant_id and l.key = g.key
  where l.id is not null or g.failed > 0 or g.hold is not null
),
opening as materialized (
  select j.*, case
      when j.failed = 0 then null
      when j.trips = 0 and j.failures < %(most)s::int then null
      when j.trips > 0 and (j.begun_at <= j.opened_at or j.paused and j.by_breaker) then null
      else now() + make_interval(secs => j.spread * pause.seconds) end as opens_until
  from judged j cross join lateral (
    select (%(pauses)s::float8[])[least(j.trips + 1, cardinality(%(pauses)s::float8[]))] as seconds
  ) pause
),
decided as materialized (
  select o.*, greatest(now() + make_interval(secs => o.hold), case
      when o.opens_until is not null and (o.by_breaker or not o.paused) then o.opens_until
      when o.healed and o.by_breaker then null
      else o.paused_until end) as until
  from opening o
),
next as materialized (
  select d.id, d.tenant_id, d.key, d.healed and d.tripped > 0 as recovered,
    d.opens_until is not null and d.trips = 0 as opened,
    d.failing_since as failed_before, d.error,
    d.failures, d.trips + (d.opens_until is not null)::int as trips,
    case when d.failures = 0 then null when d.healed then now()
         else coalesce(d.failing_since, now()) end as failing_since,
    case when d.failed > 0 then now() else d.failed_at end as failed_at,
    case when d.opens_until is not null then clock_timestamp()
         when d.healed then null else d.opened_at end as opened_at,
    case when d.opens_until is not null then d.opens_until
         when d.healed then null else d.opened_until end as opened_until,
    d.until as paused_until,
    case when d.until is null then ''
         when d.until = now() + make_interval(secs => d.hold) then d.why
         when d.until = d.opens_until then 'breaker: ' || d.error
         else d.paused_why end as paused_why
  from decided d
),
written as (
  update jobs_lane l set failures = n.failures, trips = n.trips, failing_since = n.failing_since,
    failed_at = n.failed_at, opened_at = n.opened_at, opened_until = n.opened_until,
    paused_until = n.paused_until, paused_why = n.paused_why
  from next n where l.id = n.id
),
made as (
  insert into jobs_lane (tenant_id, key, failures, trips, failing_since, failed_at, opened_at,
    opened_until, paused_until, paused_why)
  select tenant_id, key, failures, trips, failing_since, failed_at, opened_at,
    opened_until, paused_until, paused_why
  from next where id is null order by tenant_id, key
  on conflict (tenant_id, key) do nothing
  returning tenant_id, key
)
select n.tenant_id, n.key, n.id is null and made.key is null, n.opened, n.recovered,
  case when n.recovered and not n.opened then n.failed_before else n.failing_since end, n.error
from next n left join made on made.tenant_id = n.tenant_id and made.key = n.key
"""

# Paused by somebody, and not by the breaker.
SHUT = """
select l.tenant_id, l.key from json_to_recordset(%s::json) g(tenant_id bigint, key text)
join jobs_lane l on l.tenant_id = g.tenant_id and l.key = g.key
where l.paused_until > now() and l.paused_until is distinct from l.opened_until
"""

Lane = tuple[int, str]  # Its tenant's id and its key.


@dataclass(slots=True)
class Heard:
    """What a batch says of one lane: whether anything succeeded, and what failed after that."""

    healed: bool = False
    failed: int = 0
    begun_at: datetime | None = None  # When the last to begin of these began.
    error: str = ""
    hold: float | None = None  # Seconds to leave it alone, as it asked itself.
    why: str = ""


@dataclass(frozen=True, slots=True)
class Change:
    """What became of a lane that fails, failed, or is paused."""

    opened: bool  # The breaker, which was closed.
    recovered: bool  # The breaker had opened, and a work succeeded.
    failing_since: datetime | None  # Recovered: until now.
    error: str


async def watch(
    connection: AsyncConnection[Any], queue: Queue, settled: Sequence[Settlement]
) -> dict[Lane, Change]:
    """Write what works that are now settled say of their lanes; how those fare that do not do well.

    `settled` is of one queue, in the order of its ends, and already written in this transaction:
    lanes are locked after works, everywhere.
    """
    said = heard(settled, counting=queue.breaker is not None)
    changes: dict[Lane, Change] = {}
    while said:
        rows = await _write(connection, said, queue.breaker)
        said = {row[:2]: said[row[:2]] for row in rows if row[2]}  # Missed.
        changes |= {row[:2]: Change(*row[3:]) for row in rows if not row[2]}
    return changes


async def spare(
    connection: AsyncConnection[Any], batch: Sequence[Settlement]
) -> Sequence[Settlement]:
    """Of those that are dead since nothing of their lane can be done, leave one a lane dead.

    The others take their `otherwise`. Two batches that are settled in the same moment may leave
    one each: nothing is locked for this.
    """
    lanes = {lane_of(one) for one in batch if one.otherwise is not None}
    if not lanes:
        return batch
    given = orjson.dumps([{"tenant_id": tenant, "key": key} for tenant, key in lanes]).decode()
    cursor = await connection.execute(SHUT, [given], prepare=False)
    shut: set[Lane] = {(tenant, key) for tenant, key in await cursor.fetchall()}
    left: list[Settlement] = []
    for one in batch:
        left.append(one.otherwise if one.otherwise and lane_of(one) in shut else one)
        if one.otherwise is not None:
            shut.add(lane_of(one))
    return left


def lane_of(one: Settlement) -> Lane:
    """The lane that a settlement says something of: in a paced queue, the place it went to."""
    claim = one.claim
    paced = claim.destination is not None and queue_named(claim.queue).pace is not None
    return claim.tenant_id, str(claim.destination) if paced else claim.lane


def heard(settled: Sequence[Settlement], *, counting: bool) -> dict[Lane, Heard]:
    """What a batch says, by lane; without `counting`, only which lanes asked to be left alone."""
    said: dict[Lane, Heard] = {}
    for one in settled:
        well = one.well if counting else None
        if one.pause is None and well is None:
            continue
        lane = said.setdefault(lane_of(one), Heard())
        if one.pause is not None:
            lane.hold = max(lane.hold or 0.0, one.pause)
            lane.why = one.error or ""
        if well is None:
            continue
        if well:
            lane.healed, lane.failed, lane.begun_at, lane.error = True, 0, None, ""
        else:
            lane.failed += 1
            lane.begun_at = max(lane.begun_at or one.claim.started_at, one.claim.started_at)
            lane.error = one.error or ""
    return said


async def _write(
    connection: AsyncConnection[Any], said: dict[Lane, Heard], breaker: Breaker | None
) -> list[Any]:
    values = {
        "given": orjson.dumps([_row(lane, one, breaker) for lane, one in said.items()]).decode(),
        "most": breaker.failures if breaker else None,
        "pauses": list(breaker.pauses) if breaker else [],
    }
    cursor = await connection.execute(WATCH, values, prepare=False)
    return list(await cursor.fetchall())


def _row(lane: Lane, one: Heard, breaker: Breaker | None) -> dict[str, Any]:
    return {
        "tenant_id": lane[0],
        "key": lane[1],
        "healed": one.healed,
        "failed": one.failed,
        "begun_at": one.begun_at,
        "error": clean.text(one.error, WHY_LENGTH),
        "hold": one.hold,
        "why": clean.text(one.why, WHY_LENGTH),
        "spread": 1 + (breaker.jitter * random.random() if breaker else 0),  # noqa: S311
    }
