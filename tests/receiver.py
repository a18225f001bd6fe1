"""A receiver of webhooks that misbehaves on request, and remembers exactly what it was sent.

    python -m tests.receiver

It prints one line of JSON: its ports, and the certificate authority to trust. On `http`, `tls` and
the ports with bad certificates the path says what happens: /<token>/<behaviour>/<arguments…>
(tests/misbehaviour.py). Some things happen before anything can be read, so they have ports:

    reset               each connection is reset when a request has come, which is not read
    tls_reset           each connection is reset as soon as it is accepted
    deaf, tls_hang      takes connections in and never reads
    full                never accepts: its backlog is full

What came is asked at `control`, by token, and stays until it is forgotten or the process ends:

    GET /seen/<token>          every request, in the order in which they were read to their end
    GET /counts/<token>        how often each webhook-id came
    GET /total                 how many requests came in all
    GET /connections           how many connections each port accepted
    PUT /script/<token>        a list of behaviours for /<token>/scripted, one a request; the last
                               one stays
    DELETE /seen/<token>

It ends with its standard input.
"""

import asyncio
import contextlib
import itertools
import json
import socket
import struct
import sys
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path
from urllib.parse import unquote

import uvloop

from tests.certificates import Authority
from tests.misbehaviour import BEHAVIOURS, answer

# By token: (connection, seconds since 1970, head, body) of each request.
seen = defaultdict(list)
scripts = {}
accepted = Counter()
numbers = itertools.count(1)


class Connection(asyncio.Protocol):
    """One connection of a sender."""

    def __init__(self, port: str) -> None:
        self.port = port
        self.number = next(numbers)
        self.buffer = bytearray()
        self.alive = False
        self.trapped = False  # Closed when the next request has come.
        self.path = ""
        self.tasks = set()

    # What asyncio calls.

    def connection_made(self, transport) -> None:
        self.transport = transport
        self.alive = True
        self.lost = asyncio.Event()
        self.writable = asyncio.Event()
        self.writable.set()
        accepted[self.port] += 1

    def connection_lost(self, error) -> None:
        self.alive = False
        self.lost.set()
        self.writable.set()

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if self.buffer[0] == 0x16 and self.port == "http":  # Somebody begins to speak TLS.
            self.write(answer(400))
            self.close()
            return
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head = bytes(self.buffer[:end])
            size = end + 4 + length(head)
            if len(self.buffer) < size:
                return
            body = bytes(self.buffer[end + 4 : size])
            del self.buffer[:size]
            self.serve(head, body)

    # What behaviours do.

    def write(self, data: bytes) -> None:
        if self.alive:
            self.transport.write(data)

    async def drain(self) -> None:
        await asyncio.sleep(0)
        await self.writable.wait()

    def close(self) -> None:
        self.transport.close()

    def reset(self) -> None:
        reset(self.transport.get_extra_info("socket"))
        self.transport.abort()

    def serve(self, head: bytes, body: bytes) -> None:
        self.path = head.split(b" ", 2)[1].decode("latin-1")
        token, name, *arguments = map(unquote, self.path.partition("?")[0].split("/")[1:])
        seen[token].append((self.number, time.time(), head, body))
        if self.trapped:
            self.close()
            return
        if name == "scripted":
            script = scripts.get(token, ["ok"])
            step = script.pop(0) if len(script) > 1 else script[0]
            name, *arguments = map(unquote, step.split("/"))
        coroutine = BEHAVIOURS[name](self, *arguments)
        if coroutine is not None:
            task = asyncio.ensure_future(coroutine)
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)


def length(head: bytes) -> int:
    start = head.lower().find(b"\r\ncontent-length:")
    if start < 0:
        return 0
    return int(head[start + 17 :].split(b"\r\n", 1)[0])


def reset(sock) -> None:
    """Make closing send RST: nothing is lingered for."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


# ---- The control port ----


def request_as_json(connection: int, at: float, head: bytes, body: bytes) -> dict:
    first, *lines = head.decode("latin-1").split("\r\n")
    method, path, version = first.split(" ", 2)
    headers = {name.lower(): value.strip() for name, _, value in (x.partition(":") for x in lines)}
    return {
        "connection": connection,
        "at": at,
        "method": method,
        "path": path,
        "version": version,
        "headers": headers,
        "raw": [line.partition(":")[0] for line in lines],
        "body": body.decode("utf-8", "surrogateescape"),
    }


def webhook_id(head: bytes) -> str:
    start = head.lower().find(b"\r\nwebhook-id:")
    return head[start + 13 :].split(b"\r\n", 1)[0].strip().decode() if start >= 0 else ""


def answered(method: str, path: str, body: bytes):
    what, _, token = path.strip("/").partition("/")
    if what == "seen" and method == "DELETE":
        return len(seen.pop(token, []))
    if what == "seen":
        return [request_as_json(*request) for request in seen.get(token, [])]
    if what == "counts":
        return Counter(webhook_id(head) for _, _, head, _ in seen.get(token, []))
    if what == "total":
        return sum(map(len, seen.values()))
    if what == "connections":
        return accepted
    if what == "script" and method == "PUT":
        scripts[token] = json.loads(body)
        return scripts[token]
    return None


async def control(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            method, path, _ = head.decode("latin-1").split(" ", 2)
            body = await reader.readexactly(length(head))
            said = json.dumps(answered(method, path, body)).encode()
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(said), said))
            await writer.drain()
    writer.close()


# ---- Ports ----


def listening(backlog: int = 1024) -> socket.socket:
    sock = socket.create_server(("127.0.0.1", 0), backlog=backlog)
    sock.setblocking(False)
    return sock


async def resetting(sock: socket.socket, name: str) -> None:
    """Accept and reset, with nothing read."""
    loop = asyncio.get_running_loop()
    while True:
        connection, _ = await loop.sock_accept(sock)
        accepted[name] += 1
        reset(connection)
        if name == "reset":
            await arrived(connection)
        connection.close()


async def arrived(connection: socket.socket) -> None:
    """Wait until there is something to read, and leave it unread."""
    loop = asyncio.get_running_loop()
    event = asyncio.Event()
    connection.setblocking(False)
    loop.add_reader(connection, event.set)
    await event.wait()
    loop.remove_reader(connection)


def fill(sock: socket.socket) -> list[socket.socket]:
    """Connections that nobody accepts, until the backlog has no room: SYNs are dropped then."""
    held = []
    for _ in range(4):
        filler = socket.socket()
        filler.setblocking(False)
        filler.connect_ex(sock.getsockname())
        held.append(filler)
    return held


async def serve(directory: Path) -> None:
    loop = asyncio.get_running_loop()
    authority = Authority(directory)
    contexts = {
        "http": None,
        "tls": authority.context("tls"),
        "tls_self_signed": authority.context("tls_self_signed", self_signed=True),
        "tls_expired": authority.context("tls_expired", age=60),
        "tls_wrong_host": authority.context("tls_wrong_host", hosts=["elsewhere.example"]),
    }
    ports = {}
    kept = []
    for name, context in contexts.items():
        sock = listening()
        ports[name] = sock.getsockname()[1]
        kept.append(
            await loop.create_server(lambda name=name: Connection(name), sock=sock, ssl=context)
        )
    for name in ("reset", "tls_reset"):
        sock = listening()
        ports[name] = sock.getsockname()[1]
        kept.append(asyncio.ensure_future(resetting(sock, name)))
    sock = listening()  # The kernel takes connections in; nobody reads them.
    ports["deaf"] = ports["tls_hang"] = sock.getsockname()[1]
    kept.append(sock)
    sock = listening(backlog=0)
    ports["full"] = sock.getsockname()[1]
    kept += [sock, fill(sock)]
    server = await asyncio.start_server(control, "127.0.0.1", 0)
    ports["control"] = server.sockets[0].getsockname()[1]
    print(json.dumps({"ports": ports, "ca": str(authority.ca)}), flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="slipway-receiver-") as directory:
        uvloop.run(serve(Path(directory)))


if __name__ == "__main__":
    main()
