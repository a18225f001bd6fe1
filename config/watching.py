"""Watching rows for the stream process: one look at the database for all who watch."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import Context
from typing import Any, Generic, TypeVar

import psycopg
import structlog

LONGEST_LOOK = 10.0  # Seconds until a database that keeps silent counts as away.
AFTER_ERROR = 2.0  # Seconds before the next try when the database does not answer.

K = TypeVar("K")
R = TypeVar("R")

log = structlog.get_logger(__name__)


class Watched(Generic[R]):
    """Something that somebody watches, as it was at the last look."""

    def __init__(self) -> None:
        self.row: R | None = None
        self.watchers = 0
        self._looked = asyncio.Event()
        self._changed = asyncio.Event()

    async def first(self, *, timeout: float) -> R | None:
        """What it is, once it was looked at; None when there is none.

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

    def see(self, row: R | None) -> None:
        """Take in what a look found."""
        self._looked.set()
        if row != self.row:
            self.row = row
            self._changed.set()
            self._changed = asyncio.Event()


class Watcher(Generic[K, R]):
    """Looks while anybody watches, and not at all when nobody does.

    A subclass says how to connect, and what a look at some keys finds.
    """

    seconds = 0.4  # Between looks.

    def __init__(self) -> None:
        self._watched: dict[K, Watched[R]] = {}
        self._looking: asyncio.Task[None] | None = None

    async def connect(self) -> psycopg.AsyncConnection[Any]:
        raise NotImplementedError

    async def find(
        self, connection: psycopg.AsyncConnection[Any], keys: Sequence[K]
    ) -> Mapping[K, R]:
        """What stands there now; keys of nothing are left out."""
        raise NotImplementedError

    @contextmanager
    def watch(self, key: K) -> Iterator[Watched[R]]:
        """What `key` names, kept fresh inside the block."""
        watched = self._watched.setdefault(key, Watched())
        watched.watchers += 1
        if self._looking is None or self._looking.done():
            # In a context of its own: it looks for all, and logs for nobody's request.
            self._looking = asyncio.create_task(self._look_on(), context=Context())
        try:
            yield watched
        finally:
            watched.watchers -= 1
            if not watched.watchers:
                del self._watched[key]

    async def stop(self) -> None:
        """Look no more."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)

    async def _look_on(self) -> None:
        while self._watched:
            try:
                async with await self.connect() as connection:
                    while self._watched:
                        async with asyncio.timeout(LONGEST_LOOK):
                            await self._look(connection)
                        await asyncio.sleep(self.seconds)
            except (psycopg.Error, TimeoutError) as error:
                log.warning("stream_cannot_look", error=type(error).__name__)
                await asyncio.sleep(AFTER_ERROR)
            except Exception:
                # A bug in one look must not leave all who watch without another.
                log.exception("stream_look_broke")
                await asyncio.sleep(AFTER_ERROR)

    async def _look(self, connection: psycopg.AsyncConnection[Any]) -> None:
        keys = list(self._watched)
        rows = await self.find(connection, keys)
        for key in keys:
            if key in self._watched:
                self._watched[key].see(rows.get(key))
