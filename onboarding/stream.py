"""GET /v1/onboard/{request_id}/events: a sign-up's way as Server-Sent Events.

An ASGI application of its own (config/asgi.py runs it as the process `stream`). One look at the
database serves all open streams. An event's id is its place in the sign-up's way, so that a browser
that comes back with Last-Event-ID hears what it missed and nothing twice.
"""

import asyncio
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import orjson
import structlog

from config.ids import InvalidId, parse_id
from config.logs import adopt_request_id
from config.problems import CONTENT_TYPE, NotFoundProblem, Problem, Unavailable
from onboarding.addressing import address_of
from onboarding.errors import TooManyStreams, UnknownRequest
from onboarding.states import Progress
from onboarding.status import SignUpRow, public
from onboarding.watching import Watched, Watcher

LONGEST = 600.0  # Seconds that one stream stays open; the browser comes back by itself.
PER_CLIENT = 5
IN_ALL = 1000  # A process.
QUIET = 15.0  # Seconds after which a comment says that the line is up: proxies hang up on silence.
RETRY_MS = 2000
FIRST_LOOK = 5.0  # Seconds that a client waits for the first word.

_PATH = re.compile(r"/v1/onboard/([^/]{1,100})/events")
_HEADERS = (
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
    # The sign-up form may be on any page of the platform's; the id is the secret, not a cookie.
    (b"access-control-allow-origin", b"*"),
)

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]

log = structlog.get_logger(__name__)


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
watcher = Watcher()


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """The ASGI application."""
    if scope["type"] == "lifespan":
        await _lifespan(receive, send)
    elif scope["type"] == "http":
        offered = dict(scope["headers"]).get(b"x-request-id", b"").decode("latin-1")
        answer = Answer(send, trace_id=adopt_request_id(offered))
        try:
            await _serve(scope, receive, answer)
        except Problem as problem:
            await answer.send_problem(problem)
        except Exception as error:
            log.exception("stream_broke", error=type(error).__name__)
            if not answer.has_begun:
                await answer.send_problem(Problem())


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
        await self.begin(status, [(b"content-type", kind), *_HEADERS, *headers])
        await self.send(body, more=False)

    async def send_problem(self, problem: Problem) -> None:
        headers = [(name.lower().encode(), text.encode()) for name, text in problem.headers.items()]
        body = orjson.dumps(problem.body(self._trace_id))
        await self.send_whole(problem.status, body, CONTENT_TYPE.encode(), headers)


async def _serve(scope: Scope, receive: Receive, answer: Answer) -> None:
    if scope["path"] == "/healthz":
        await answer.send_whole(200, b"ok", b"text/plain")
        return
    request_id = _request_id(scope)
    seen = _number(dict(scope["headers"]).get(b"last-event-id", b""))
    with streams.one(address_of(scope)), watcher.watch(request_id) as watched:
        telling = asyncio.create_task(_tell(watched, seen, answer))
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


async def _tell(watched: Watched, seen: int, answer: Answer) -> None:
    """Raises UnknownRequest, and Unavailable while the database is away."""
    try:
        row = await watched.first(timeout=FIRST_LOOK)
    except TimeoutError:
        raise Unavailable(headers={"Retry-After": "2"}) from None
    if row is None:
        raise UnknownRequest
    await answer.begin(200, [(b"content-type", b"text/event-stream"), *_HEADERS])
    async for chunk in events(watched, seen=seen):
        await answer.send(chunk, more=True)
    await answer.send(b"", more=False)


async def events(watched: Watched, *, seen: int) -> AsyncIterator[bytes]:
    """The stream: what comes after event number `seen`, until the end or LONGEST."""
    yield f"retry: {RETRY_MS}\n\n".encode()
    until = time.monotonic() + LONGEST
    while (row := watched.row) is not None:
        way = story(row)
        for number, (name, data) in enumerate(way, start=1):
            if number > seen:
                yield _event(number, name, data)
        seen = max(seen, len(way))
        left = until - time.monotonic()
        if row.retry_after is None or left <= 0:
            return
        if not await watched.change(timeout=min(QUIET, left)):
            yield b": still here\n\n"


def story(row: SignUpRow) -> list[tuple[str, Mapping[str, Any]]]:
    """What has happened to a sign-up so far, in order; it only ever grows at its end."""
    told = public(row)
    done = [step for step in told["steps"] if step["state"] == "done"]
    way: list[tuple[str, Mapping[str, Any]]] = []
    if row.progress != Progress.PENDING:
        way.append(("status", {"status": Progress.PROVISIONING}))
    way += [("step", step) for step in done]
    if row.progress in {Progress.READY, Progress.CANCELLED}:
        way.append(("status", {"status": row.progress, "tenant": told["tenant"]}))
    return way


def _event(number: int, name: str, data: Mapping[str, Any]) -> bytes:
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (number, name.encode(), orjson.dumps(data))


async def _left(receive: Receive) -> None:
    """Returns when the client has hung up."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _request_id(scope: Scope) -> UUID:
    """Raises NotFoundProblem for another path, UnknownRequest for what is no id."""
    found = _PATH.fullmatch(scope["path"])
    if found is None or scope["method"] != "GET":
        raise NotFoundProblem
    try:
        return parse_id("req", found[1])
    except InvalidId:
        raise UnknownRequest from None


def _number(last_event_id: bytes) -> int:
    """How much the client has heard; nothing, when it says what we never said."""
    return int(last_event_id) if last_event_id.isdigit() and len(last_event_id) < 6 else 0


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        elif message["type"] == "lifespan.shutdown":
            await watcher.stop()
            await send({"type": "lifespan.shutdown.complete"})
            return
