"""Hints: "there is work in this queue", by Redis pub/sub.

A hint may say whose work it is, and may be lost: it only shortens the wait for the next look.
Sending one costs the request an entry in a set; a thread publishes, coalescing what comes in
meanwhile.
"""

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, cast

import redis
import redis.asyncio
import structlog
from django.conf import settings

from config.redis import client

log = structlog.get_logger(__name__)

CHANNEL = "slipway:hints"
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0  # Seconds between tries to reach Redis.
QUIET = 15.0  # Seconds without a hint before the listener asks whether Redis is there.
GAP = 0.005  # Seconds between two publications of one process.
PAUSE = 1.0  # Seconds in which nothing is tried after a failure.
MOST_NAMED = 16  # Tenants in one hint: of more, it says that they may be anybody's works.


class Hint(NamedTuple):
    """There is work in a queue; of these tenants, or of anybody when there are none."""

    queue: str
    tenants: frozenset[int] = frozenset()

    def written(self) -> str:
        """As it is published: the queue's name, and the tenants' numbers behind it."""
        return " ".join([self.queue, *map(str, sorted(self.tenants))])

    @classmethod
    def read(cls, written: str) -> "Hint":
        """Whatever was published; what makes no sense names a queue that there is not."""
        name, *numbers = written.split(" ")
        known = all(number.isdecimal() and number.isascii() for number in numbers)
        return cls(name, frozenset(map(int, numbers))) if known else cls(written)


class Sender:
    """Publishes the hints of one process from a daemon thread."""

    def __init__(self) -> None:
        self._told: set[tuple[str, int | None]] = set()
        self._wake = threading.Event()
        threading.Thread(target=self._run, name="hints", daemon=True).start()

    def send(self, name: str, tenant_id: int | None = None) -> None:
        """Returns at once, whatever Redis does."""
        self._told.add((name, tenant_id))
        self._wake.set()

    def _run(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            told, self._told = self._told, set()
            try:
                for hint in gathered(list(told)):
                    client().publish(CHANNEL, hint.written())
            except (redis.RedisError, OSError) as error:
                log.info("hints_lost", error=str(error)[:200])
                time.sleep(PAUSE)
            time.sleep(GAP)


def gathered(told: Iterable[tuple[str, int | None]]) -> list[Hint]:
    """One hint for each queue."""
    tenants: dict[str, set[int | None]] = {}
    for name, tenant_id in told:
        tenants.setdefault(name, set()).add(tenant_id)
    return [
        Hint(name)
        if None in whose or len(whose) > MOST_NAMED
        else Hint(name, frozenset(cast("set[int]", whose)))
        for name, whose in tenants.items()
    ]


_sender: tuple[int, Sender] | None = None
_lock = threading.Lock()


def send(name: str, tenant_id: int | None = None) -> None:
    """Tell the drainers that a queue has work; they look by themselves within a second anyway.

    With a tenant they look at that one alone, which costs the same whatever else waits.
    """
    global _sender
    if settings.BROKER == "none":
        return
    pid = os.getpid()
    with _lock:
        if _sender is None or _sender[0] != pid:  # A fork has no threads.
            _sender = (pid, Sender())
    _sender[1].send(name, tenant_id)


async def listen(heard: Callable[[Hint], None]) -> None:
    """Call `heard` for each hint, for ever; Redis may come and go."""
    if settings.BROKER == "none":
        return
    pause = FIRST_PAUSE
    while not _is_cancelled():
        connection = redis.asyncio.Redis.from_url(settings.REDIS_URL, socket_connect_timeout=2.0)
        try:
            async with connection.pubsub() as channel:
                await channel.subscribe(CHANNEL)
                pause = FIRST_PAUSE
                await _hear(channel, heard)
        except Exception as error:  # Whatever it is, a drainer does without hints.
            log.info("hints_away", error=f"{type(error).__name__}: {error}"[:200])
        finally:
            with contextlib.suppress(Exception):
                await connection.aclose()
        await asyncio.sleep(pause)
        pause = min(pause * 2, LONGEST_PAUSE)


async def _hear(channel: Any, heard: Callable[[Hint], None]) -> None:
    silent = 0
    # A server that vanished without a word does not answer the ping.
    while silent < 2 and not _is_cancelled():
        message = await channel.get_message(timeout=QUIET)
        if message is None:
            silent += 1
            await channel.ping()
        else:
            silent = 0
            if message["type"] == "message":
                heard(Hint.read(message["data"].decode("utf-8", "replace")))


def _is_cancelled() -> bool:
    """Whether this task was told to end. A cancellation that comes while it connects is swallowed.

    redis-py takes it for a failure to connect, and connects again.
    """
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
