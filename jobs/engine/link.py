"""The engine's own connections, as the operator: apart from Django's, and hard to discourage."""

import asyncio
import random
import select
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import psycopg
import structlog
from psycopg import AsyncConnection
from psycopg.abc import PQGen
from psycopg.waiting import Ready, Wait

from tenants.postgres.connections import conninfo

log = structlog.get_logger(__name__)

T = TypeVar("T")
Opened = Callable[[AsyncConnection[Any]], Awaitable[None]]

# A connection that is lost, or closed under our hands; deadlocks and lock time-outs are among them.
LOST = (psycopg.OperationalError, psycopg.InterfaceError)
# A migration has made the connection's plans useless: "must not change result type".
OUTDATED = psycopg.errors.FeatureNotSupported
CONTENDED = (
    psycopg.errors.DeadlockDetected,
    psycopg.errors.SerializationFailure,
    psycopg.errors.LockNotAvailable,
    psycopg.errors.QueryCanceled,
)

# Seconds for which plans are kept: one that was made while a table was small may read all of it,
# and nobody tells when it has grown.
PLANS_LAST = 10.0
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 2.0  # Seconds between tries to reach the database.
SETTINGS = {
    # A process that is frozen in mid-transaction must not hold its locks, nor a statement the loop.
    "idle_in_transaction_session_timeout": "10s",
    "lock_timeout": "5s",
    "statement_timeout": "30s",
    "search_path": "public",
    # Claims are prepared, and planned for any values.
    "plan_cache_mode": "force_generic_plan",
    # Every statement of the engine has its index. States change faster than statistics, and the
    # planner that thinks a state empty would scan.
    "enable_seqscan": "off",
    "random_page_cost": "1.1",
    "jit": "off",
}


AT_ONCE = 16  # Reads of 16 KB in one turn of the loop.


class Connection(AsyncConnection[Any]):
    """Takes in all that has arrived, in one turn of the loop.

    libpq reads 16 KB at a time, and psycopg waits for the loop's turn after each. A claim of two
    hundred works is some 400 KB: in a busy drainer it waited longer than Postgres took.
    """

    async def wait(self, gen: PQGen[T], *args: Any, **kwargs: Any) -> T:
        return await super().wait(_at_once(gen, self.pgconn.socket), *args, **kwargs)


def _at_once(gen: PQGen[T], socket: int) -> PQGen[T]:
    """The same generator, which is told without a wait that there is more to read."""
    arrived = select.poll()
    arrived.register(socket, select.POLLIN)
    reads = AT_ONCE  # The first answer is waited for.
    try:
        wanted = next(gen)
        while True:
            if wanted == Wait.R and reads < AT_ONCE and arrived.poll(0):
                reads += 1
                wanted = gen.send(Ready.R)
            else:
                reads = 0
                wanted = gen.send((yield wanted))
    except StopIteration as end:
        result: T = end.value
        return result


def parameters(purpose: str) -> dict[str, Any]:
    """How to connect as the operator, for `purpose` (shown in pg_stat_activity)."""
    given = conninfo("operator")
    settings = " ".join(f"-c {name}={value}" for name, value in SETTINGS.items())
    given["options"] = f"{given.get('options') or ''} {settings}".strip()
    given["application_name"] = f"slipway drainer {purpose}"
    given["connect_timeout"] = 5
    # A machine that vanished is noticed in 15 s, and not in hours.
    given.update(
        keepalives_idle=5, keepalives_interval=5, keepalives_count=2, tcp_user_timeout=15000
    )
    # Only what asks for it is prepared; with None nothing would be.
    return {**given, "autocommit": True, "prepare_threshold": 2**31}


class Link:
    """One connection that comes back after a restart of the database.

    `run` takes a function of the connection and calls it until it gets through. It must be safe to
    repeat: a connection that is lost during COMMIT does not say whether it came to pass.
    """

    def __init__(self, purpose: str, *, opened: Opened | None = None) -> None:
        self.purpose = purpose
        self._opened = opened  # Awaited with each new connection, before anything else is.
        self.reconnected = False  # Set on every new connection; whoever cares takes it back.
        self._connection: AsyncConnection[Any] | None = None
        self._planned_at = 0.0

    async def run(self, work: Callable[[AsyncConnection[Any]], Awaitable[T]]) -> T:
        """Call `work` with the connection, again and again until no lost connection stops it."""
        pause = FIRST_PAUSE
        while True:
            try:
                return await work(await self._open())
            except (*LOST, OUTDATED) as error:
                await self._give_up(error)
            # Drainers that lost the same server do not come back in step.
            await asyncio.sleep(pause * (0.5 + random.random()))  # noqa: S311
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _open(self) -> AsyncConnection[Any]:
        if self._connection is None or self._connection.closed:
            self._connection = await Connection.connect(**parameters(self.purpose))
            self.reconnected = True
            if self._opened is not None:
                await self._look_first(self._opened)
        if time.monotonic() >= self._planned_at + PLANS_LAST:
            await self._connection.execute("discard plans")
            self._planned_at = time.monotonic()
        return self._connection

    async def _look_first(self, opened: Opened) -> None:
        assert self._connection is not None  # noqa: S101 - It was made a line before.
        try:
            await opened(self._connection)
        except BaseException:
            await self.close()  # It is not used before it was looked at.
            raise

    async def _give_up(self, error: psycopg.Error) -> None:
        if isinstance(error, CONTENDED) and self._connection and not self._connection.broken:
            return
        log.warning("database_lost", purpose=self.purpose, error=str(error).strip()[:200])
        await self.close()

    async def close(self) -> None:
        if self._connection is not None:
            await self._connection.close()
            self._connection = None
