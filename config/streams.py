"""The `stream` process: Server-Sent Events, each kind by the app whose matter it is.

An ASGI application (config/asgi.py). SLIPWAY["STREAMS"] names what it serves: whatever of them has
the asked path tells it, until its end or until the client has left. How many are open at once is
bounded, by client and in all.
"""

import asyncio
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any, Protocol, TypeVar

import orjson
import structlog
from django.conf import settings
from django.http import HttpRequest
from django.utils.module_loading import import_string

from config.logs import adopt_request_id
from config.problems import CONTENT_TYPE, NotFoundProblem, Problem, problem_of
from config.proxies import client_address
from config.watching import Watched

LONGEST = 600.0  # Seconds that one stream stays open; the browser comes back by itself.
PER_CLIENT = 5
IN_ALL = 1000  # A process.
QUIET = 15.0  # Seconds after which a comment says that the line is up: proxies hang up on silence.
RETRY_MS = 2000
FIRST_LOOK = 5.0  # Seconds that a client waits for the first word.

HEADERS = (
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
    # Any page of the platform's or the tenant's may listen: what it must show is no cookie.
    (b"access-control-allow-origin", b"*"),
)

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]

R = TypeVar("R")

log = structlog.get_logger(__name__)


class TooManyStreams(Problem):
    """Too many event streams are open."""

    status = 429
    code = "too_many_streams"


class Stream(Protocol):
    """A kind of stream."""

    path: re.Pattern[str]  # Its group is what the stream is about.

    async def tell(self, about: str, scope: Scope, answer: "Answer") -> None:
        """Answer, until the end. Cancelled when the client leaves. Raises Problems."""

    async def stop(self) -> None:
        """The process ends."""


class Streams:
    """The streams that are open in this process, counted by client."""

    def __init__(self) -> None:
        self._open: Counter[str] = Counter()

    @contextmanager
    def one(self, client: str) -> Iterator[None]:
        """Raises TooManyStreams."""
        if self._open[client] >= PER_CLIENT or self._open.total() >= IN_ALL:
            raise TooManyStreams(headers={"Retry-After": "10"})
        self._open[client] += 1
        try:
            yield
        finally:
            self._open[client] -= 1
            if not self._open[client]:
                del self._open[client]


streams = Streams()


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """The ASGI application."""
    if scope["type"] == "lifespan":
        await _lifespan(receive, send)
    elif scope["type"] == "http":
        answer = Answer(send, trace_id=adopt_request_id(header(scope, b"x-request-id")))
        try:
            await _serve(scope, receive, answer)
        except Exception as error:
            problem = problem_of(error)
            if problem is None:
                log.exception("stream_broke", error=type(error).__name__)
            if not answer.has_begun:
                await answer.send_problem(problem or Problem())


class Answer:
    """What one request is answered; each answer bears the request's id."""

    def __init__(self, send: Send, *, trace_id: str) -> None:
        self._send = send
        self._trace_id = trace_id
        self.has_begun = False

    async def begin(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        self.has_begun = True
        named = [*headers, (b"x-request-id", self._trace_id.encode())]
        await self._send({"type": "http.response.start", "status": status, "headers": named})

    async def send(self, body: bytes, *, more: bool) -> None:
        await self._send({"type": "http.response.body", "body": body, "more_body": more})

    async def send_whole(
        self, status: int, body: bytes, kind: bytes, headers: Iterable[tuple[bytes, bytes]] = ()
    ) -> None:
        await self.begin(status, [(b"content-type", kind), *HEADERS, *headers])
        await self.send(body, more=False)

    async def send_problem(self, problem: Problem) -> None:
        headers = [(name.lower().encode(), text.encode()) for name, text in problem.headers.items()]
        body = orjson.dumps(problem.body(self._trace_id))
        await self.send_whole(problem.status, body, CONTENT_TYPE.encode(), headers)

    async def send_events(self, events: AsyncIterator[bytes]) -> None:
        """All of them, each as it comes."""
        await self.begin(200, [(b"content-type", b"text/event-stream"), *HEADERS])
        await self.send(f"retry: {RETRY_MS}\n\n".encode(), more=True)
        async for chunk in events:
            await self.send(chunk, more=True)
        await self.send(b"", more=False)


async def looks(watched: Watched[R], *, most: float = LONGEST) -> AsyncIterator[tuple[R, bool]]:
    """What is watched, and whether it is new: at once, at each change, after each while of silence.

    For `most` seconds, or until it is gone.
    """
    until = time.monotonic() + most
    told: R | None = None
    while (row := watched.row) is not None:
        yield row, row is not told
        told = row
        left = until - time.monotonic()
        if left <= 0:
            return
        if watched.row is told:  # It may have changed while the client took its time.
            await watched.change(timeout=min(QUIET, left))


def event(number: int | str, name: str, data: Mapping[str, Any]) -> bytes:
    return b"id: %s\nevent: %s\ndata: %s\n\n" % (
        str(number).encode(),
        name.encode(),
        orjson.dumps(data),
    )


STILL_HERE = b": still here\n\n"


def header(scope: Scope, name: bytes) -> str:
    """A request's header; "" when it was not sent."""
    return str(dict(scope["headers"]).get(name, b"").decode("latin-1"))


def as_request(scope: Scope) -> HttpRequest:
    """An ASGI request as the rules for WSGI's know it: its client, headers and query."""
    request = HttpRequest()
    client = scope.get("client")
    request.method, request.path = scope["method"], scope["path"]
    request.META["REMOTE_ADDR"] = client[0] if client else ""
    request.META["QUERY_STRING"] = scope.get("query_string", b"").decode("latin-1")
    for name, value in scope["headers"]:
        key = name.decode("latin-1").upper().replace("-", "_")
        request.META[f"HTTP_{key}"] = value.decode("latin-1")
    return request


async def _serve(scope: Scope, receive: Receive, answer: Answer) -> None:
    if scope["path"] == "/healthz":
        await answer.send_whole(200, b"ok", b"text/plain")
        return
    stream, about = _wanted(scope)
    with streams.one(client_address(as_request(scope))):
        telling = asyncio.create_task(stream.tell(about, scope, answer))
        leaving = asyncio.create_task(_left(receive))
        try:
            await asyncio.wait({telling, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            is_told = telling.done()
            for task in (telling, leaving):
                task.cancel()
            await asyncio.gather(telling, leaving, return_exceptions=True)
        if is_told:
            telling.result()  # It raises what went wrong.


def _wanted(scope: Scope) -> tuple[Stream, str]:
    """Raises NotFoundProblem."""
    if scope["method"] == "GET":
        for stream in _served():
            if found := stream.path.fullmatch(scope["path"]):
                return stream, found[1]
    raise NotFoundProblem


@cache
def _served() -> tuple[Stream, ...]:
    return tuple(import_string(path) for path in settings.SLIPWAY["STREAMS"])


async def _left(receive: Receive) -> None:
    """Returns when the client has hung up."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            _served()  # What cannot be imported stops the start.
            await send({"type": "lifespan.startup.complete"})
        elif message["type"] == "lifespan.shutdown":
            await asyncio.gather(*(stream.stop() for stream in _served()))
            await send({"type": "lifespan.shutdown.complete"})
            return
