"""Rescue: what a dead drainer held is closed as lost, and may be done by others."""

from collections.abc import Sequence
from typing import Any

import structlog
from psycopg import AsyncConnection

from jobs import columns
from jobs.engine.look import STALE_SECONDS
from jobs.engine.settle import settle
from jobs.engine.verdict import lose
from jobs.registry import Queue
from jobs.steps import Claim

log = structlog.get_logger(__name__)

BATCH = 500

# A drainer in mid-claim holds its row FOR SHARE: it is declared dead the next time round.
DECLARE = """
update jobs_drainer set dead_at = clock_timestamp() where id in (
  select id from jobs_drainer
  where dead_at is null and beat_at < clock_timestamp() - interval '{stale} seconds'
  for update skip locked)
returning id, host, pid
"""

HELD = """
select taken.id, taken.tenant_id, taken.lane, taken.lease, taken.attempts, taken.max_attempts,
  taken.forgiven, taken.losses, taken.state = 'discarding', taken.created_at,
  greatest(d.beat_at, now() - interval '1 day'), taken.drainer, {destination} {columns}
from jobs_drainer d join {table} taken on taken.drainer = d.id {carried}
where {which} limit {most}
"""


async def declare_dead(connection: AsyncConnection[Any]) -> list[int]:
    """Mark drainers whose beat has stopped; committed on its own, so that they claim no more."""
    cursor = await connection.execute(DECLARE.format(stale=STALE_SECONDS))
    dead = await cursor.fetchall()
    for id_, host, pid in dead:
        log.warning("drainer_dead", drainer=id_, host=host, pid=pid)
    return [id_ for id_, _, _ in dead]


async def close_lost(connection: AsyncConnection[Any], queues: Sequence[Queue]) -> int:
    """Close the works of all dead drainers, and forget drainers that no work names.

    Anyone may call it, at the same time as others: the lease lets one of them close each work.
    """
    closed = 0
    for queue in queues:
        while claims := await held(connection, queue, "d.dead_at is not null"):
            lost = await settle(connection, [lose(claim, queue=queue) for claim in claims])
            closed += len(lost)
            if len(claims) < BATCH:
                break
    if closed:
        log.warning("works_rescued", count=closed)
    await forget_dead(connection, queues)
    return closed


async def forget_dead(connection: AsyncConnection[Any], queues: Sequence[Queue]) -> None:
    """Delete the rows of dead drainers that hold nothing any more."""
    unnamed = " and ".join(
        f"not exists (select 1 from {queue.table} where drainer = d.id)"  # noqa: S608
        for queue in queues
    )
    statement = f"delete from jobs_drainer d where dead_at is not null and {unnamed}"  # noqa: S608
    await connection.execute(statement)


async def held(connection: AsyncConnection[Any], queue: Queue, which: str) -> list[Claim]:
    """The works that certain drainers hold; `which` is a condition on jobs_drainer d."""
    cursor = await connection.execute(held_statement(queue, which), prepare=False)
    return [_claim(queue, row) for row in await cursor.fetchall()]


def held_statement(queue: Queue, which: str) -> str:
    """HELD for a queue."""
    # Of what a claim carries nobody needs anything here, but whether notices are due.
    quiet = "quiet" in queue.model.carried
    return HELD.format(
        table=queue.table,
        which=which,
        most=BATCH,
        destination=columns.destination(queue.model),
        columns="".join(f', taken."{name}"' for name in queue.model.claimed)
        + (', carried."quiet"' if quiet else ""),
        carried=columns.joined(queue.model) if quiet else "",
    )


def _claim(queue: Queue, row: Sequence[Any]) -> Claim:
    (id_, tenant, lane, lease, attempt, most, forgiven, losses, undo) = row[:9]
    (created, beat, drainer, destination) = row[9:13]
    return Claim(
        queue=queue.name,
        id=id_,
        tenant_id=tenant,
        schema="public",  # Nothing runs under this claim.
        lane=lane,
        lease=lease,
        attempt=attempt,
        max_attempts=most,
        forgiven=forgiven,
        losses=losses,
        discarding=undo,
        created_at=created,
        started_at=beat,  # The last that is known of its drainer, but on a day with a partition.
        drainer=drainer,
        deadline=0.0,
        destination=destination,
        # And whether it is quiet, if it says so.
        data=dict(zip((*queue.model.claimed, "quiet"), row[13:], strict=False)),
    )
