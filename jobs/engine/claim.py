"""The claim: which works start next, and in whose hands.

One transaction of two statements. PICK looks for lanes with runnable work and locks their tenants
(advisory); TAKE, with a fresh snapshot, counts what is in progress and takes what the caps leave.
In one statement two claimers would both count before either takes, and overrun a cap.

Nobody owns a lane. The cost is that of the lanes looked at: a backlog costs nothing, and a tenant
with a thousand lanes gets no more turns than one with a single lane. A lane belongs to one tenant,
so the tenant's lock covers its lanes; it is the tenant's, because a tenant's cap spans its lanes.

The statements are in jobs.engine.sql.
"""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from psycopg import AsyncConnection

from jobs import columns
from jobs.engine import sql
from jobs.registry import Queue
from jobs.steps import Claim


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
    most = min(sql.TENANTS_LOOKED_AT, max(8, 2 * slots))
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
    more = cut or contended or any(n >= sql.quota(slots, len(free)) for n in served.values())
    return Taken(claims, exhausted=began_at == 0 and not more, ended=ended, contended=contended)


async def claim_undo(
    connection: AsyncConnection[Any], queue: Queue, *, drainer: int, slots: int
) -> list[Claim]:
    """Take up to `slots` works that are to be undone."""
    rows = await _rows(connection, sql.take_undo(queue, slots=slots), {"drainer": drainer})
    return [_claim(queue, row) for row in rows]


async def _pick(
    connection: AsyncConnection[Any], queue: Queue, drainer: int, cursor: Cursor, most: int
) -> list[Any]:
    return await _rows(
        connection,
        sql.pick(queue, tenants=most),
        {
            "drainer": drainer,
            "cursor": cursor.tenant,
            "cursor_tenants": list(cursor.lanes),
            "cursor_lanes": list(cursor.lanes.values()),
        },
    )


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
        sql.take(queue, slots=slots, lanes=len(lanes)),
        {"drainer": drainer, "tenants": [t for t, _ in lanes], "lanes": [key for _, key in lanes]},
    )


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
        if len(keys) == sql.LANES_LOOKED_AT:
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
        data=dict(zip(columns.names(queue.model), row[12:], strict=True)),
    )
