"""The claim: which works start next, and in whose hands.

One transaction of two statements. PICK looks for lanes with runnable work and locks their tenants
(advisory); TAKE, with a fresh snapshot, counts what is in progress and takes what the caps leave.
In one statement two claimers would both count before either takes, and overrun a cap.

Nobody owns a lane. The cost is that of the lanes looked at: a backlog costs nothing, and a tenant
with a thousand lanes gets no more turns than one with a single lane. A lane belongs to one tenant,
so the tenant's lock covers its lanes; it is the tenant's, because a tenant's cap spans its lanes.

The statements are in jobs.engine.sql.
"""

import random
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from psycopg import AsyncConnection

from jobs import columns
from jobs.engine import sql
from jobs.engine.rooms import Place, Rooms, Said, place_of
from jobs.engine.transaction import Transaction
from jobs.pacing import Learnt
from jobs.registry import Queue
from jobs.steps import Claim


@dataclass
class Cursor:
    """Where a drainer looks next in one queue: round the tenants, and round each one's lanes."""

    tenant: int = 0
    lanes: dict[int, str] = field(default_factory=dict)
    barren: bool = False  # The last look was cut short and found nothing: look at more at once.

    def reach(self, slots: int) -> tuple[int, int]:
        """How many tenants to look at, and how many lanes of each."""
        if not self.barren:
            return sql.tenants_for(slots), sql.LANES_LOOKED_AT
        if self.lanes:
            return sql.TENANTS_LOOKED_AT, sql.WIDE_LANES
        return sql.WIDE_TENANTS, sql.LANES_LOOKED_AT


class Looked(NamedTuple):
    """A lane that PICK came by; without a key, a tenant whose lanes are all behind its cursor."""

    tenant: int
    mine: bool  # False: another drainer claims for this tenant at the moment.
    key: str | None
    paused: float | None  # Seconds from now.
    rate: float | None
    tokens: float | None  # None without a rate.
    # In paced queues, where its next work goes, and what that place's row says.
    destination: str | None = None
    place_rate: float | None = None
    learnt_window: int | None = None
    learnt_rate: float | None = None

    @property
    def place(self) -> Place:
        return self.tenant, self.destination or ""

    @property
    def wait(self) -> float:
        """Seconds until it may be claimed from."""
        return max(self.paused or 0.0, self.wait_after(0))

    def wait_after(self, served: int) -> float:
        """Seconds until there is a token again, once so many are spent."""
        if self.rate is None or self.tokens is None:
            return 0.0
        return max(0.0, 1 - self.tokens + served) / max(self.rate, 1e-9)


@dataclass(frozen=True, slots=True)
class Taken:
    """What one claim came to.

    `exhausted`: everything runnable was looked at, and nothing that the caps allow is left.
    `ended`: the look came to the last tenant; the next one begins at the first again.
    `contended`: another drainer held a tenant's lock, which is worth another try in a moment.
    `after`: seconds until a lane that was looked at may be claimed from again: it is paused, or its
    rate is used up. None when there is no such lane.
    `took`: the seconds that it took.
    `waiting`: in a paced queue, the places where works would go, and that have no room just now.
    """

    claims: list[Claim]
    exhausted: bool
    ended: bool
    contended: bool
    after: float | None
    took: float
    waiting: frozenset[Place] = frozenset()


async def claim(
    connection: AsyncConnection[Any],
    queue: Queue,
    *,
    drainer: int,
    slots: int,
    cursor: Cursor,
    under_way: Mapping[str, int] | None = None,
    rooms: Rooms | None = None,
    named: Sequence[int] = (),
) -> Taken:
    """Take up to `slots` works, only as many as start at once. `connection` is in autocommit.

    Of the tenants that are `named`, if any are, with a cursor that stands at the beginning.
    `under_way` is how many works this drainer has in progress, by destination; `rooms` are those of
    a paced queue, without which only what its places' rows say is kept to.
    """
    clock, began_at, reach = time.monotonic(), cursor.tenant, cursor.reach(slots)
    async with Transaction(connection) as transaction:
        looked = await _pick(transaction, queue, drainer, cursor, reach, named)
        cut = _advance(cursor, looked, reach)
        free = [one for one in looked if one.mine and one.key and not one.wait]
        waiting: set[Place] = set()
        if rooms is not None:
            free, waiting = _with_room(free, rooms)
        rows = await _take(transaction, queue, free, drainer, slots, under_way, rooms)
    claims = [_claim(queue, row) for row in rows]
    served = Counter((claim.tenant_id, claim.lane) for claim in claims)
    ended, after = cursor.tenant == 0, _after(looked, served)
    cursor.barren = cut and not claims
    contended = not all(one.mine for one in looked)
    more = cut or contended or any(n >= sql.quota(slots, len(free)) for n in served.values())
    exhausted = began_at == 0 and not (more or _opens(claims, rooms))
    if len(claims) == slots:
        # Whoever was looked at and not served comes first the next time; behind the last, the first
        # does, since a look that finds nobody costs as much as the wait for it.
        last = max(claim.tenant_id for claim in claims)
        cursor.tenant = 0 if ended and last == looked[-1].tenant else last
        exhausted = ended = contended = False
    took = time.monotonic() - clock
    return Taken(claims, exhausted, ended, contended, after, took, frozenset(waiting))


async def claim_undo(
    connection: AsyncConnection[Any], queue: Queue, *, drainer: int, slots: int
) -> list[Claim]:
    """Take up to `slots` works that are to be undone."""
    values = {"drainer": drainer, "slots": slots}
    cursor = await connection.execute(sql.take_undo(queue), values, prepare=True)
    return [_claim(queue, row) for row in await cursor.fetchall()]


async def _pick(
    transaction: Transaction,
    queue: Queue,
    drainer: int,
    cursor: Cursor,
    reach: tuple[int, int],
    named: Sequence[int],
) -> list[Looked]:
    tenants, lanes = reach
    values: dict[str, Any] = {
        "drainer": drainer,
        "cursor_tenants": list(cursor.lanes),
        "cursor_lanes": list(cursor.lanes.values()),
    }
    values |= {"named": list(named)} if named else {"cursor": cursor.tenant}
    statement = sql.pick(queue, tenants=tenants, lanes=lanes, named=bool(named))
    return [Looked(*row) for row in await transaction.rows(statement, values)]


def _with_room(lanes: Sequence[Looked], rooms: Rooms) -> tuple[list[Looked], set[Place]]:
    """The lanes whose places have room, and the places that have none.

    In any order: where there is room for one, each lane has its chance.
    """
    for one in lanes:
        rooms.hear(one.place, Said(one.place_rate, Learnt(one.learnt_window, one.learnt_rate)))
    free = [one for one in lanes if rooms.room(one.place) > 0]
    random.shuffle(free)
    return free, {one.place for one in lanes} - {one.place for one in free}


def _opens(claims: Sequence[Claim], rooms: Rooms | None) -> bool:
    """Whether these go to a new place, where there may be room for more once it is known."""
    return rooms is not None and not all(place_of(one) in rooms.known for one in claims)


async def _take(
    transaction: Transaction,
    queue: Queue,
    lanes: Sequence[Looked],
    drainer: int,
    slots: int,
    under_way: Mapping[str, int] | None,
    rooms: Rooms | None,
) -> list[Any]:
    if not lanes:
        return []
    paced = any(one.rate is not None for one in lanes)
    values: dict[str, Any] = {
        "drainer": drainer,
        "slots": slots,
        "quota": sql.quota(slots, len(lanes)),
        "tenants": [one.tenant for one in lanes],
        "lanes": [one.key for one in lanes],
    }
    if queue.pace is None:
        away = under_way or {}
        values |= {"destinations": list(away), "under_way": list(away.values())}
    else:
        values |= _rooms(lanes, rooms, slots)
    return await transaction.rows(sql.take(queue, paced=paced), values, last=True)


def _rooms(lanes: Sequence[Looked], rooms: Rooms | None, slots: int) -> dict[str, Any]:
    """Where each lane leads, how many may start there now, and be under way from all drainers."""
    said = {
        one.place: (slots, None)
        if rooms is None
        else (rooms.room(one.place), rooms.most(one.place))
        for one in lanes
    }
    return {
        "destinations": [one.destination for one in lanes],
        "rooms": [said[one.place][0] for one in lanes],
        "mosts": [said[one.place][1] for one in lanes],
    }


def _advance(cursor: Cursor, looked: Sequence[Looked], reach: tuple[int, int]) -> bool:
    """Move past what was looked at; says whether the limits cut the look short."""
    tenants, most = reach
    lanes: dict[int, list[str]] = {}
    for one in looked:
        lanes.setdefault(one.tenant, []).append(one.key or "")
    contended = {one.tenant for one in looked if not one.mine}
    for tenant, keys in lanes.items():
        if tenant in contended:
            continue  # Its lanes were not served: the next look is at the same ones.
        if len(keys) == most:
            cursor.lanes[tenant] = max(keys)  # Lanes collate as "C", which is Python's order.
        else:
            cursor.lanes.pop(tenant, None)
    cursor.tenant = max(lanes) if len(lanes) == tenants else 0
    return cursor.tenant > 0 or bool(cursor.lanes)


def _after(looked: Sequence[Looked], served: Mapping[tuple[int, str], int]) -> float | None:
    """Seconds until the first lane opens of those that are shut, or were served all they may."""
    waits = []
    for one in looked:
        n = served.get((one.tenant, one.key or ""), 0)
        if one.key and (one.wait or (n and one.wait_after(n))):
            waits.append(one.wait or one.wait_after(n))
    return min(waits, default=None)


def _claim(queue: Queue, row: Sequence[Any]) -> Claim:
    (id_, tenant, schema, lane, lease, attempt, most, forgiven, losses, undo) = row[:10]
    (created, started, drainer, throttled_since, destination) = row[10:15]
    return Claim(
        queue=queue.name,
        id=id_,
        tenant_id=tenant,
        schema=schema,
        lane=lane,
        lease=lease,
        attempt=attempt,
        max_attempts=most,
        forgiven=forgiven,
        losses=losses,
        discarding=undo,
        created_at=created,
        started_at=started,
        drainer=drainer,
        deadline=time.monotonic() + queue.deadline,
        throttled_since=throttled_since,
        destination=destination,
        data=dict(zip(columns.names(queue.model), row[15:], strict=True)),
    )
