"""The group commit: settlements gather for a moment, and are written together."""

import asyncio
import time
from collections.abc import Callable, Sequence

import structlog

from jobs.engine.link import Link
from jobs.engine.settle import Held, settle
from jobs.engine.verdict import Settlement
from jobs.engine.waiting import happens

log = structlog.get_logger(__name__)

GATHER = 0.05  # Seconds that a settlement waits for others at most.
MOST = 500  # Works in one transaction.


class Settler:
    """Writes settlements in groups: at once when idle, else every 50 ms or 500 works.

    `running` tells how many works are still being done: with no more of them than already wait,
    waiting longer gains nothing. `settled` is told of each group, and what of it was written: the
    rest was no longer ours, or cannot be written at all.
    """

    def __init__(
        self,
        *,
        running: Callable[[], int],
        settled: Callable[[Sequence[Settlement], set[Held]], None],
    ) -> None:
        self._running = running
        self._settled = settled
        self._link = Link("settle")
        self._waiting: list[Settlement] = []
        self._arrived = asyncio.Event()
        self._quiet = asyncio.Event()
        self._quiet.set()

    def put(self, settlement: Settlement) -> None:
        """Have it written soon."""
        self._waiting.append(settlement)
        self._quiet.clear()
        if len(self._waiting) == 1 or self._enough():
            self._arrived.set()

    async def flushed(self) -> None:
        """Wait until everything is written."""
        await self._quiet.wait()

    async def run(self) -> None:
        """Write, for ever. Never gives up a settlement: while the database is away they wait."""
        flushed_at = 0.0
        while True:
            if not self._waiting:
                self._arrived.clear()
                await self._arrived.wait()
            await self._gather(flushed_at + GATHER)
            batch, self._waiting = self._waiting[:MOST], self._waiting[MOST:]
            flushed_at = time.monotonic()
            await self._write(batch)
            if not self._waiting:
                self._quiet.set()

    async def _gather(self, until: float) -> None:
        while not self._enough() and (left := until - time.monotonic()) > 0:
            self._arrived.clear()
            await happens(self._arrived, within=left)

    def _enough(self) -> bool:
        return len(self._waiting) >= min(MOST, max(1, self._running()))

    async def _write(self, batch: Sequence[Settlement]) -> None:
        ours = await self._link.run(lambda connection: settle(connection, batch))
        for one in batch:
            if (one.claim.id, one.claim.lease) not in ours:
                log.warning("settlement_stale", queue=one.claim.queue, work=str(one.claim.id))
        self._settled(batch, ours)

    async def close(self) -> None:
        await self._link.close()
