"""A receiver of webhooks that costs next to nothing: what is measured is who sends them.

`python -m benchmarks.listening PORT` serves 127.0.0.1 to 127.0.0.9 at that port, until it is ended:

    POST /<seconds>/<name>   is answered with 200 after so many seconds
    POST /never/<name>       is not answered
    GET /-/count             how many requests came
    GET /-/arrivals          when each webhook-id came first: {id: seconds since 1970}
    GET /-/forget            forgets what came
"""

import asyncio
import json
import re
import sys
import time
from typing import Any
from urllib.request import urlopen

import uvloop

ADDRESSES = [f"127.0.0.{number}" for number in range(1, 10)]
OK = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\nok"
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_ID = re.compile(rb"\r\nwebhook-id: *([^\r]+)", re.IGNORECASE)


class Arrivals:
    """What came, and when."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        self.count = 0
        self.first: dict[str, float] = {}

    def add(self, head: bytes) -> None:
        self.count += 1
        found = _ID.search(head)
        if found is not None:
            self.first.setdefault(found[1].decode(), time.time())

    def answer(self, path: bytes) -> bytes:
        what = path.rpartition(b"/")[2]
        if what == b"forget":
            self.forget()
        if what == b"arrivals":
            return json.dumps(self.first).encode()
        return b"%d" % self.count


class Connection(asyncio.Protocol):
    """One connection of a sender, which has one request under way at a time."""

    def __init__(self, arrivals: Arrivals) -> None:
        self._arrivals = arrivals
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer = self._buffer + data if self._buffer else data
        end = buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        length = _LENGTH.search(buffer, 0, end + 2)
        if len(buffer) < end + 4 + int(length[1] if length else 0):
            return
        self._buffer = b""
        self._serve(buffer[: end + 2])

    def _serve(self, head: bytes) -> None:
        method, path, _ = head.split(b" ", 2)
        if method == b"GET":
            said = self._arrivals.answer(path)
            self._write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(said), said))
            return
        self._arrivals.add(head)
        delay = path.split(b"/", 2)[1]
        if delay == b"0":
            self._write(OK)
        elif delay != b"never":
            asyncio.get_running_loop().call_later(float(delay), self._write, OK)

    def _write(self, data: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(data)


async def serve(port: int) -> None:
    arrivals, loop = Arrivals(), asyncio.get_running_loop()
    for address in ADDRESSES:
        await loop.create_server(lambda: Connection(arrivals), address, port, backlog=4096)
    await asyncio.Event().wait()


def ask(port: int, what: str) -> Any:
    """What a running receiver says of `what`: count, arrivals, forget."""
    with urlopen(f"http://127.0.0.1:{port}/-/{what}", timeout=30) as answer:
        return json.loads(answer.read())


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
