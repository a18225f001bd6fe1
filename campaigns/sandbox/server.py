"""The sandbox's HTTP: the provider's API, and the control of it.

POST /v1/messages                    {"from", "to", "callback_data", …} → 200 {"id"}
GET  /v1/account?sender=             200 where the bearer's key is taken, else 401
PUT  /control/accounts/{sender}      sets its profile
GET  /control/accounts/{sender}
GET  /control/ledger?sender=         what was accepted; with &detail=1 by key and by phone
GET  /control/ledger.jsonl[?sender=] each acceptance
POST /control/reset[?sender=]        forgets what came and the profile, of one sender or of all
GET  /healthz
"""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import orjson
from aiohttp import web

from campaigns.sandbox.callbacks import Outbox
from campaigns.sandbox.exchange import Exchange, Message, Traffic
from campaigns.sandbox.faults import error, said
from campaigns.sandbox.ledger import Ledger
from campaigns.sandbox.profile import Profile

BACKLOG = 4096  # Connections that may wait to be accepted.
_MESSAGE = msgspec.json.Decoder(Message)
_PROFILE = msgspec.json.Decoder(Profile)
_ACCOUNTS = "/control/accounts/"

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Sandbox:
    """All senders; one that nobody told of has the profile `usual`."""

    def __init__(self, ledger: Ledger, usual: Profile | None = None) -> None:
        self._ledger = ledger
        self._usual = usual or Profile()
        self._traffic: dict[str, Traffic] = {}
        self._outbox = Outbox()
        self._routes: dict[tuple[str, str], Handler] = {
            ("POST", "/v1/messages"): self._message,
            ("GET", "/v1/account"): self._account,
            ("GET", "/control/ledger"): self._summary,
            ("GET", "/control/ledger.jsonl"): self._lines,
            ("POST", "/control/reset"): self._reset,
            ("GET", "/healthz"): self._healthy,
        }

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Any request."""
        path = request.raw_path.partition("?")[0]
        handler = self._routes.get((request.method, path))
        if handler is not None:
            return await handler(request)
        if path.startswith(_ACCOUNTS) and request.method in ("GET", "PUT"):
            return await self._control(request)
        return error(404, "not_found", "There is no such thing here.")

    async def close(self) -> None:
        await self._outbox.close()

    # The provider's.

    async def _message(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            message = _MESSAGE.decode(await request.read())
        except msgspec.MsgspecError as bad:
            return error(400, "invalid", str(bad))
        exchange = Exchange(
            request,
            message,
            self._of(message.sender),
            bearer=_bearer(request),
            ledger=self._ledger,
            outbox=self._outbox,
        )
        return await exchange.answer()

    async def _account(self, request: web.BaseRequest) -> web.StreamResponse:
        sender = request.query.get("sender", "")
        if not self._of(sender).profile.allows(_bearer(request)):
            return error(401, "unauthorized", "This key is not known.")
        return said(200, {"sender": sender, "status": "active"})

    # Control.

    async def _control(self, request: web.BaseRequest) -> web.StreamResponse:
        traffic = self._of(request.path.removeprefix(_ACCOUNTS))
        if request.method == "PUT":
            try:
                traffic.set(_PROFILE.decode(await request.read()))
            except msgspec.MsgspecError as bad:
                return error(400, "invalid", str(bad))
        return said(200, msgspec.to_builtins(traffic.profile))

    async def _summary(self, request: web.BaseRequest) -> web.StreamResponse:
        sender = request.query.get("sender", "")
        book = self._ledger.of(sender)
        found: dict[str, Any] = {
            "sender": sender,
            **book.summary(),
            **self._of(sender).summary(),
            "callbacks_taken": self._outbox.taken[sender],
            "callbacks_given_up": self._outbox.given_up[sender],
        }
        if request.query.get("detail"):
            found |= {"by_key": book.by_key, "by_phone": book.by_phone}
        return said(200, found)

    async def _lines(self, request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/jsonl"})
        await response.prepare(request)
        for line in self._ledger.lines(request.query.get("sender")):
            await response.write(line)
        await response.write_eof()
        return response

    async def _reset(self, request: web.BaseRequest) -> web.StreamResponse:
        sender = request.query.get("sender")
        self._ledger.forget(sender)
        if sender is None:
            self._traffic.clear()
        else:
            self._traffic.pop(sender, None)
        return said(200, {"forgotten": sender})

    async def _healthy(self, request: web.BaseRequest) -> web.StreamResponse:
        return said(200, {"status": "ok"})

    def _of(self, sender: str) -> Traffic:
        found = self._traffic.get(sender)
        if found is None:
            found = self._traffic[sender] = Traffic(self._usual)
        return found


def _bearer(request: web.BaseRequest) -> str:
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""


async def serve(sandbox: Sandbox, *, host: str, port: int, ready: Callable[[int], None]) -> None:
    """Serve until SIGTERM or SIGINT, and end then without waiting for anybody.

    `ready` is told the port. Raises OSError when it cannot be listened on.
    """
    loop = asyncio.get_running_loop()
    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    # A client that goes takes its request along: what hangs ends with it.
    protocol = web.Server(sandbox.handle, handler_cancellation=True, access_log=None)
    server = await loop.create_server(protocol, host, port, backlog=BACKLOG)
    ready(server.sockets[0].getsockname()[1])
    await told.wait()
    server.close()
    await sandbox.close()


def profile(text: str) -> Profile:
    """A profile in JSON. Raises ValueError."""
    return _PROFILE.decode(orjson.dumps(orjson.loads(text)))
