"""Watching sign-ups for the stream process: one look at the database for all who watch.

The look is slipway.onboarding_by_request for each watched id, in one statement, as the app role and
for no tenant: what nobody may see cannot be streamed by mistake.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import Context
from typing import Any
from uuid import UUID

import psycopg
import structlog

from onboarding.status import COLUMNS, SignUpRow, read_row
from tenants.postgres.connections import conninfo

LOOK_SECONDS = 0.4
LONGEST_LOOK = 10.0  # Seconds until a database that keeps silent counts as away.
AFTER_ERROR = 2.0  # Seconds before the next try when the database does not answer.

_LOOK = f"""
select {", ".join("s." + name.strip() for name in COLUMNS.split(","))}
from unnest(%s::uuid[]) wanted cross join lateral slipway.onboarding_by_request(wanted) s
"""  # noqa: S608 - constants.

log = structlog.get_logger(__name__)


class Watched:
    """One sign-up that somebody watches, as it was at the last look."""

    def __init__(self) -> None:
        self.row: SignUpRow | None = None
        self.watchers = 0
        self._looked = asyncio.Event()
        self._changed = asyncio.Event()

    async def first(self, *, timeout: float) -> SignUpRow | None:
        """The sign-up, once it was looked at; None when there is none.

        Raises TimeoutError after `timeout` seconds without a look.
        """
        await asyncio.wait_for(self._looked.wait(), timeout)
        return self.row

    async def change(self, *, timeout: float) -> bool:
        """Whether it changed within `timeout` seconds."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), timeout)
            return True
        return False

    def see(self, row: SignUpRow | None) -> None:
        """Take in what a look found."""
        changed = row != self.row
        self.row = row
        self._looked.set()
        if changed:
            self._changed.set()
            self._changed = asyncio.Event()


class Watcher:
    """Looks while anybody watches, and not at all when nobody does."""

    def __init__(self) -> None:
        self._watched: dict[UUID, Watched] = {}
        self._looking: asyncio.Task[None] | None = None

    @contextmanager
    def watch(self, request_id: UUID) -> Iterator[Watched]:
        """The sign-up, kept fresh inside the block."""
        watched = self._watched.setdefault(request_id, Watched())
        watched.watchers += 1
        if self._looking is None or self._looking.done():
            # In a context of its own: it looks for all, and logs for nobody's request.
            self._looking = asyncio.create_task(self._look_on(), context=Context())
        try:
            yield watched
        finally:
            watched.watchers -= 1
            if not watched.watchers:
                del self._watched[request_id]

    async def stop(self) -> None:
        """Look no more."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)

    async def _look_on(self) -> None:
        while self._watched:
            try:
                async with await _connect() as connection:
                    while self._watched:
                        async with asyncio.timeout(LONGEST_LOOK):
                            await self._look(connection)
                        await asyncio.sleep(LOOK_SECONDS)
            except (psycopg.Error, TimeoutError) as error:
                log.warning("stream_cannot_look", error=type(error).__name__)
                await asyncio.sleep(AFTER_ERROR)
            except Exception:
                # A bug in one look must not leave all who watch without another.
                log.exception("stream_look_broke")
                await asyncio.sleep(AFTER_ERROR)

    async def _look(self, connection: psycopg.AsyncConnection[Any]) -> None:
        ids = list(self._watched)
        cursor = await connection.execute(_LOOK, [ids])
        rows = {row[0]: read_row(row) async for row in cursor}
        for request_id in ids:
            if request_id in self._watched:
                self._watched[request_id].see(rows.get(request_id))


async def _connect() -> psycopg.AsyncConnection[Any]:
    return await psycopg.AsyncConnection.connect(**conninfo("default"), autocommit=True)
