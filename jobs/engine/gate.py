"""The gate: after the database went back in time, nothing is claimed until somebody has said so.

What a restored database holds is the past. Messages that it shows as waiting were perhaps sent
since, and would be sent again. So with each new connection, and before anything is done with it, a
drainer looks whether the database still knows what was claimed (docs/decisions/0024):

- a lease is remembered, by this process or by Redis, that is higher than any it knows of; or
- it is not the cluster, or not the database, that it says it is: it was dumped and restored.

Then the gate's row says `held_since`. Each claim asks for that in a look that it takes anyway, so
that all drainers stop at once. `manage.py restored` opens it (jobs.restoring).
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple
from uuid import UUID

import psycopg
import structlog
from psycopg import AsyncConnection

from jobs.engine.memory import Memory

log = structlog.get_logger(__name__)

# Its first user names the database and the place where it was found.
NAMED = "update jobs_gate set lineage = gen_random_uuid() where id = 1 and lineage is null"
LINEAGE = "select lineage from jobs_gate where id = 1"
# A database is "<cluster>:<number>". Not everybody may ask for the cluster, and some cannot be told
# (it is read from a file): then it is unknown, and the database's number alone says where it lies.
CLUSTER = """
select case when has_function_privilege('pg_catalog.pg_control_system()', 'execute')
  then (select system_identifier::text from pg_control_system()) else '' end
"""
STANDS = """
select held_since is not null, server,
  (select oid::text from pg_database where datname = current_database()),
  greatest(lease, coalesce((select max(d.lease) from jobs_drainer d), 0))
from jobs_gate where id = 1
"""
FOUND = "update jobs_gate set server = %s where id = 1 and server = %s"
ROOM = 1_000  # Numbers left out where some that were given may be forgotten.
# Requests are served meanwhile: who signs up is to draw no number of a tenant that is forgotten,
# whose files there are still.
SHUT = """
with shut as (
  update jobs_gate set held_since = clock_timestamp(), held_why = %(why)s,
    remembered = %(remembered)s
  where id = 1 and held_since is null returning id
), beyond as (
  select max(nextval('public.tenants_tenant_id_seq')) as number
  from shut cross join generate_series(1, %(room)s)
)
insert into tenants_auditentry (id, at, actor, action, target, reason, request_id)
select gen_random_uuid(), now(), %(actor)s, 'gate.held', 'gate:drainers', %(why)s, ''
from shut cross join beyond where beyond.number is not null
"""
ENGINE = "system:engine"
BEHIND = "the database knows leases up to {known}, and {remembered} is remembered"
ELSEWHERE = "the database was {before}, and is {now}: it was dumped and restored"


class Standing(NamedTuple):
    """How the gate was found, or left."""

    held: bool
    went_back: bool


async def look(connection: AsyncConnection[Any], memory: Memory) -> Standing:
    """Look whether the database went back in time, and shut the gate if so."""
    memory.lineage = await _lineage(connection)
    if memory.lineage is None:  # It is being restored at this moment.
        return Standing(held=True, went_back=False)
    # Before the database is asked: what was committed since, it knows.
    remembered = await asyncio.to_thread(memory.recall)
    cursor = await connection.execute(STANDS)
    [(held, before, number, known)] = await cursor.fetchall()
    now = f"{await _cluster(connection)}:{number}"
    elsewhere = lies_elsewhere(before, now)
    if before in ("", f":{number}") and not elsewhere:
        await connection.execute(FOUND, [now, before])
    if remembered > known:
        why = BEHIND.format(known=known, remembered=remembered)
    elif elsewhere:
        why = ELSEWHERE.format(before=before, now=now)
    else:
        return Standing(held, False)
    await shut(connection, why=why, remembered=remembered)
    return Standing(True, True)


def lies_elsewhere(before: str, now: str) -> bool:
    """Whether these are two databases. What is not known of one of them makes no difference."""
    if not before:
        return False
    (cluster, _, number), (cluster_now, _, number_now) = before.partition(":"), now.partition(":")
    return number != number_now or ("" not in (cluster, cluster_now) and cluster != cluster_now)


async def _cluster(connection: AsyncConnection[Any]) -> str:
    try:
        [(cluster,)] = await (await connection.execute(CLUSTER)).fetchall()
    except psycopg.Error as error:
        if connection.closed:
            raise
        log.warning("cluster_unknown", error=str(error)[:200])
        return ""
    return str(cluster)


async def shut(
    connection: AsyncConnection[Any], *, why: str, remembered: int, actor: str = ENGINE
) -> None:
    """Let nobody claim anything until it is opened."""
    log.critical("gate_held", why=why)
    values = {"why": why[:300], "remembered": remembered, "actor": actor, "room": ROOM}
    await connection.execute(SHUT, values)


async def _lineage(connection: AsyncConnection[Any]) -> UUID | None:
    """The database's name, given by its first drainer; None while there is no gate."""
    await connection.execute(NAMED)
    row = await (await connection.execute(LINEAGE)).fetchone()
    return None if row is None else UUID(str(row[0]))


class Keeper:
    """One drainer's part: it looks with each connection, and remembers what it claimed."""

    RECENT = 50_000  # Leases: those of the last seconds at the least, which a standby may lack.

    def __init__(self, on_death: Callable[[str], None]) -> None:
        self.memory = Memory()
        self.held = False  # At the last look.
        self._on_death = on_death
        self._went_back = False
        self._received: dict[int, None] = {}  # The leases of the last claims, oldest first.

    async def opened(self, connection: AsyncConnection[Any]) -> None:
        """Look at a new connection."""
        standing = await look(connection, self.memory)
        self.held = standing.held
        self._went_back = self._went_back or standing.went_back

    def enter(self) -> None:
        """Begin under an id that the database has just given: what is known here is of no past."""
        self._went_back = False

    def heed(self) -> None:
        """Die with what is known of a time that the database has not seen, the own id included."""
        if self._went_back:
            self._on_death("the database went back in time")

    async def saw(self, connection: AsyncConnection[Any], *, held: bool, lease: int) -> None:
        """Heed what the look of each second tells: behind a proxy no connection is new."""
        if held != self.held:
            log.warning("gate_held" if held else "gate_opened")
            self.held = held
        if lease < self.memory.own and not held:
            why = BEHIND.format(known=lease, remembered=self.memory.own)
            await shut(connection, why=why, remembered=self.memory.own)
            self.held = self._went_back = True
        self.heed()

    def received(self, leases: Iterable[int]) -> None:
        """These were claimed, and the claim's answer came."""
        self._received |= (received := dict.fromkeys(leases))
        self.memory.note(max(received, default=0))
        while len(self._received) > self.RECENT:
            del self._received[next(iter(self._received))]

    def has_received(self, lease: int) -> bool:
        """Whether works were claimed under this lease, of which somebody here knew."""
        return lease in self._received
