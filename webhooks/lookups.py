"""Names to addresses: once for each connection, on threads of its own, and checked.

getaddrinfo blocks, and a customer's name servers can make it block for half a minute. So it has a
bounded number of threads; names that were slow lately share a few of them, so that they keep no
other name waiting; and no lookup is waited for longer than LONGEST.
"""

import asyncio
import queue
import socket
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

from aiohttp.abc import AbstractResolver, ResolveResult

from webhooks.addresses import Policy, policy
from webhooks.answers import CallFailed, Kind

LONGEST = 5.0  # Seconds that one lookup is waited for.
SLOW_FOR = 300.0  # Seconds for which a name that took longer counts as slow.
THREADS = 16
SLOW_THREADS = 4
_SLOW_NAMES_MOST = 10_000

Found = Sequence[tuple[Any, ...]]  # As socket.getaddrinfo returns it.
Lookup = Callable[[str, int], Found]  # Blocks. Raises OSError.


def getaddrinfo(host: str, port: int) -> Found:
    """The system's lookup, of stream sockets."""
    # A name with a dot is complete: no search domain of ours is put behind it.
    absolute = f"{host}." if "." in host and not policy().opens(host, port) else host
    return socket.getaddrinfo(absolute, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)


def checked(host: str, port: int, found: Found, rules: Policy) -> list[tuple[int, str]]:
    """The (family, address) pairs that a lookup found, if all of them may be connected to.

    One forbidden address refuses the name. To pick the others out would make it work now and then,
    and a name with both kinds is either a mistake, which its owner has to see, or a trial of ours.
    Raises CallFailed.
    """
    opened = rules.opens(host, port)
    addresses = list(dict.fromkeys((int(entry[0]), str(entry[4][0])) for entry in found))
    for _, address in addresses:
        if not rules.allows(address, opened=opened):
            raise CallFailed(
                Kind.BLOCKED, f"{host} leads to {address}, which is not a public address."
            )
    if not addresses:
        raise CallFailed(Kind.DNS, f"{host} has no address.")
    return addresses


class Lookups:
    """Lookups on threads; names that were slow lately wait for each other and for nobody else."""

    def __init__(self, lookup: Lookup = getaddrinfo) -> None:
        self._lookup = lookup
        self._quick = _Threads(THREADS)
        self._slow = _Threads(SLOW_THREADS)
        self._slow_until: dict[str, float] = {}

    async def ask(self, host: str, port: int) -> Found:
        """Raises OSError when nothing was found, and TimeoutError."""
        try:
            async with asyncio.timeout(LONGEST):
                return await asyncio.wrap_future(self._submit(host, port))
        except TimeoutError:
            self._remember_slow(host)
            raise

    def wait(self, host: str, port: int, seconds: float) -> Found:
        """The same for a thread, which waits. Raises OSError, TimeoutError."""
        future = self._submit(host, port)
        try:
            return future.result(min(seconds, LONGEST))
        except TimeoutError:
            future.cancel()
            self._remember_slow(host)
            raise

    def close(self) -> None:
        """Let the threads go; one that hangs goes when its lookup ends."""
        self._quick.close()
        self._slow.close()

    def _submit(self, host: str, port: int) -> "Future[Found]":
        slow = self._slow_until.get(host, 0.0) > time.monotonic()
        return (self._slow if slow else self._quick).submit(self._lookup, host, port)

    def _remember_slow(self, host: str) -> None:
        self._slow_until.pop(host, None)
        self._slow_until[host] = time.monotonic() + SLOW_FOR
        if len(self._slow_until) > _SLOW_NAMES_MOST:
            self._slow_until.pop(next(iter(self._slow_until)), None)


class Resolver(AbstractResolver):
    """What aiohttp asks before it connects to a name."""

    def __init__(self, lookup: Lookup = getaddrinfo) -> None:
        self._lookups = Lookups(lookup)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Raises OSError when nothing was found, TimeoutError, CallFailed."""
        found = await self._lookups.ask(host, port)
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=family_found,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST,
            )
            for family_found, address in checked(host, port, found, policy())
        ]

    async def close(self) -> None:
        """Let the threads go."""
        self._lookups.close()


class _Threads:
    """A few daemon threads, made when needed: a hanging lookup must not keep the process from
    ending, as concurrent.futures' threads would."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._made = 0
        self._waiting: queue.SimpleQueue[tuple[Future[Found], Lookup, str, int] | None] = (
            queue.SimpleQueue()
        )
        self._idle = threading.Semaphore(0)

    def submit(self, lookup: Lookup, host: str, port: int) -> "Future[Found]":
        future: Future[Found] = Future()
        self._waiting.put((future, lookup, host, port))
        if not self._idle.acquire(blocking=False) and self._made < self._most:
            self._made += 1
            threading.Thread(target=self._run, name="lookup", daemon=True).start()
        return future

    def close(self) -> None:
        for _ in range(self._made):
            self._waiting.put(None)

    def _run(self) -> None:
        while (given := self._waiting.get()) is not None:
            future, lookup, host, port = given
            if future.set_running_or_notify_cancel():  # Not given up while it waited.
                try:
                    future.set_result(lookup(host, port))
                except BaseException as error:  # Whatever it raises is the asker's to see.
                    future.set_exception(error)
            del given, future
            self._idle.release()
