"""The load: sign-ups over kept-alive connections, from one uvloop in this process.

Raw sockets and ready-made bytes: little CPU a request, so that the load does not take from the two
cores what the server could use.
"""

import asyncio
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from uuid import uuid4

import uvloop

from benchmarks.table import percentile

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


@dataclass
class Load:
    """What came back: latencies in seconds, statuses, and how long it took."""

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)

    @property
    def rate(self) -> float:
        return len(self.latencies) / self.seconds

    def p(self, q: float) -> float:
        return percentile(self.latencies, q)

    def refuse_unless(self, status: int) -> "Load":
        """A server that answers something else is fast at the wrong thing."""
        if set(self.statuses) != {status}:
            raise RuntimeError(f"Expected {status} only, got {dict(self.statuses)}.")
        return self


def sign_ups(key: str, *, path: str = "/v1/onboard") -> Iterator[bytes]:
    """Sign-ups with an idempotency key, no two alike."""
    run = uuid4().hex[:6]
    for n in count():
        body = (
            f'{{"email":"u{n}.{run}@example.com","tenant_name":"Acme {n} {run}","plan":"free"}}'
        ).encode()
        head = (
            f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\n"
            f"Content-Type: application/json\r\nIdempotency-Key: {uuid4()}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        yield head.encode() + body


def closed(port: int, requests: Iterator[bytes], *, connections: int, seconds: float) -> Load:
    """Each connection sends its next request when it has its answer."""
    return uvloop.run(_closed(port, requests, connections, seconds))


def paced(port: int, requests: Iterator[bytes], *, rate: float, seconds: float) -> Load:
    """`rate` requests a second, whatever the server does; latency counts from when each was due."""
    return uvloop.run(_paced(port, requests, rate, seconds))


class _Connection(asyncio.Protocol):
    """One kept-alive connection with one request in flight."""

    def __init__(self, answered: "Callable[[_Connection, int], None]") -> None:
        self._answered = answered
        self._buffer = b""
        self.began = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]

    def ask(self, request: bytes, *, due: float | None = None) -> None:
        self.began = due if due is not None else time.perf_counter()
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head = self._buffer.find(b"\r\n\r\n")
        if head < 0:
            return
        length = _LENGTH.search(self._buffer, 0, head + 2)
        if len(self._buffer) < head + 4 + int(length[1] if length else 0):
            return
        status = int(self._buffer[9:12])
        self._buffer = b""
        self._answered(self, status)


async def _connect(port: int, answered: Callable[[_Connection, int], None]) -> _Connection:
    loop = asyncio.get_running_loop()
    _, protocol = await loop.create_connection(lambda: _Connection(answered), "127.0.0.1", port)
    return protocol


async def _closed(port: int, requests: Iterator[bytes], connections: int, seconds: float) -> Load:
    load, end, idle = Load(), 0.0, asyncio.Semaphore(0)

    def answered(connection: _Connection, status: int) -> None:
        now = time.perf_counter()
        load.latencies.append(now - connection.began)
        load.statuses[status] += 1
        if now < end:
            connection.ask(next(requests))
        else:
            idle.release()

    clients = [await _connect(port, answered) for _ in range(connections)]
    began = time.perf_counter()
    end = began + seconds
    for client in clients:
        client.ask(next(requests))
    for _ in clients:
        await asyncio.wait_for(idle.acquire(), seconds + 60)
    load.seconds = time.perf_counter() - began
    for client in clients:
        client.transport.close()
    return load


async def _paced(port: int, requests: Iterator[bytes], rate: float, seconds: float) -> Load:
    load, free, due_total = Load(), [], int(rate * seconds)
    done = asyncio.Event()

    def answered(connection: _Connection, status: int) -> None:
        load.latencies.append(time.perf_counter() - connection.began)
        load.statuses[status] += 1
        free.append(connection)
        if len(load.latencies) == due_total:
            done.set()

    began = time.perf_counter()
    for n in range(due_total):
        due = began + n / rate
        if (wait := due - time.perf_counter()) > 0:
            await asyncio.sleep(wait)
        connection = free.pop() if free else await _connect(port, answered)
        connection.ask(next(requests), due=due)
    await asyncio.wait_for(done.wait(), 60)
    load.seconds = time.perf_counter() - began
    for connection in free:
        connection.transport.close()
    return load
