"""The look that a drainer takes each second: one statement for all queues.

It moves what is due to `pending` (the promoter), and tells which queues have something to claim,
and whether somebody's beat has stopped. While nothing is to be done it is all that runs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection

from jobs.registry import Queue

PROMOTED_AT_ONCE = 1000
STALE_SECONDS = 15  # A drainer that has not beaten for this long, by the database's clock, is dead.

PROMOTE = """
promoted_{n} as (
  update {table} w set state = 'pending' from (
    select id from {table} where state in ('scheduled', 'failed') and due_at <= now()
    order by due_at limit {most} for update skip locked) due
  where w.id = due.id returning 1
)"""

SEEN = """
(select count(*) from promoted_{n}),
exists (select 1 from {table} where state = 'pending'),
exists (select 1 from {table} where state = 'discarding' and lease is null and due_at <= now()),
(select id from {table} order by id desc limit 1)"""

DEAD = """
exists (select 1 from jobs_drainer where dead_at is not null
        or beat_at < clock_timestamp() - interval '{stale} seconds'),
(select count(*) from jobs_drainer where dead_at is null
 and beat_at >= clock_timestamp() - interval '{stale} seconds'),
not exists (select 1 from jobs_gate where id = 1 and held_since is null),
(select greatest(coalesce(max(lease), 0), (select g.lease from jobs_gate g where g.id = 1))
 from jobs_drainer)"""


@dataclass(frozen=True, slots=True)
class Seen:
    """What there is to do."""

    runnable: Mapping[str, bool]  # By queue, as the next three.
    undoable: Mapping[str, bool]
    promoted: Mapping[str, int]
    newest: Mapping[str, UUID | None]  # The work that was made last, going by its id.
    more_due: bool  # More than one look promotes.
    dead: bool
    drainers: int  # That live.
    held: bool  # The gate is shut: nothing can be claimed.
    lease: int  # The highest that the database knows of.


def look_statement(queues: Sequence[Queue]) -> str:
    """The whole look, for these queues."""
    promote = ",".join(
        PROMOTE.format(n=n, table=queue.table, most=PROMOTED_AT_ONCE)
        for n, queue in enumerate(queues)
    )
    seen = ",".join(SEEN.format(n=n, table=queue.table) for n, queue in enumerate(queues))
    dead = DEAD.format(stale=STALE_SECONDS)
    return f"with {promote} select {dead}, {seen}"


async def look(connection: AsyncConnection[Any], queues: Sequence[Queue]) -> Seen:
    """Promote and look. `connection` is in autocommit."""
    cursor = await connection.execute(look_statement(queues), prepare=False)
    [(dead, drainers, held, lease, *rest)] = await cursor.fetchall()
    answers = [rest[at : at + 4] for at in range(0, len(rest), 4)]
    by_queue = dict(zip((queue.name for queue in queues), answers, strict=True))
    return Seen(
        runnable={name: bool(row[0] or row[1]) for name, row in by_queue.items()},
        undoable={name: bool(row[2]) for name, row in by_queue.items()},
        promoted={name: row[0] for name, row in by_queue.items()},
        newest={name: row[3] for name, row in by_queue.items()},
        more_due=any(row[0] == PROMOTED_AT_ONCE for row in by_queue.values()),
        dead=bool(dead),
        drainers=int(drainers),
        held=bool(held),
        lease=int(lease),
    )
