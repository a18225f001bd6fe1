"""The look that a drainer takes each second: one statement for all queues.

It moves what is due to `pending` (the promoter), and tells which queues have something to claim,
and whether somebody's beat has stopped. While nothing is to be done it is all that runs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

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
exists (select 1 from {table} where state = 'discarding' and lease is null and due_at <= now())"""

DEAD = """
exists (select 1 from jobs_drainer where dead_at is not null
        or beat_at < clock_timestamp() - interval '{stale} seconds')"""


@dataclass(frozen=True, slots=True)
class Seen:
    """What there is to do."""

    runnable: Mapping[str, bool]  # By queue.
    undoable: Mapping[str, bool]
    more_due: bool  # More than one look promotes.
    dead: bool


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
    [(dead, *rest)] = await cursor.fetchall()
    by_queue = [rest[at : at + 3] for at in range(0, len(rest), 3)]
    names = [queue.name for queue in queues]
    return Seen(
        runnable={
            name: bool(promoted or pending)
            for name, (promoted, pending, _) in zip(names, by_queue, strict=True)
        },
        undoable={name: bool(undo) for name, (_, _, undo) in zip(names, by_queue, strict=True)},
        more_due=any(promoted == PROMOTED_AT_ONCE for promoted, _, _ in by_queue),
        dead=bool(dead),
    )
