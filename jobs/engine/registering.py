"""A drainer's row: made when it comes, and marked dead by itself when it goes."""

import asyncio
import os
import socket
from collections.abc import Sequence
from typing import Any

import structlog
from psycopg import AsyncConnection

from jobs.engine import rescue
from jobs.engine.link import Link
from jobs.registry import Queue

log = structlog.get_logger(__name__)

LEAVE = 10.0  # Seconds to say goodbye to the database at the end.

_REGISTER = """
with me as (
  insert into jobs_drainer (host, pid, slots, busy) values (%s, %s, %s, 0) returning id
)
select me.id, coalesce((select max(id) from tenants_tenant), 0) from me
"""


async def register(link: Link, *, slots: int) -> tuple[int, int]:
    """Make a drainer's row: its id, and the last tenant's."""

    async def insert(connection: AsyncConnection[Any]) -> tuple[int, int]:
        cursor = await connection.execute(_REGISTER, [socket.gethostname(), os.getpid(), slots])
        row = await cursor.fetchone()
        assert row is not None  # noqa: S101 - INSERT … RETURNING of one row.
        return row[0], row[1]

    return await link.run(insert)


async def leave(link: Link, *, drainer: int, served: Sequence[Queue]) -> None:
    """Say that a drainer is gone, so that nobody waits 15 s for what it still holds."""

    async def mark(connection: AsyncConnection[Any]) -> None:
        await connection.execute(
            "update jobs_drainer set dead_at = clock_timestamp() where id = %s", [drainer]
        )
        await rescue.forget_dead(connection, served)

    try:
        await asyncio.wait_for(link.run(mark), LEAVE)
    except TimeoutError:
        log.warning("drainer_left_silently", drainer=drainer)
