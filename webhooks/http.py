"""The only door to URLs that customers name: one POST, guarded, bounded, and told in full.

    answer = await http.post(url=…, body=b"…", headers={…}, timeout=15.0)

- Where it goes is checked three times: the URL's text (webhooks.destinations), the addresses that
  its name has (webhooks.lookups: resolved once, and connected to exactly these), and each socket
  before it connects and after. Proxies, netrc, cookies and redirects do not exist here.
- One deadline covers all of it, the name's lookup and a body that drips included. Headers are
  bounded, interim answers (1xx) counted; of the body 64 KiB are read, counted after decompression.
- One call is at most one POST. aiohttp repeats idempotent methods on a stale connection, never
  this one; a connection whose answer was not read to its end is not used again.

A client belongs to one event loop. post() uses the running loop's; close() ends it.
"""

import asyncio
import re
import socket
import ssl
import time
from collections.abc import Mapping
from contextvars import ContextVar
from functools import cache, lru_cache, partial
from typing import Any
from weakref import WeakKeyDictionary

from aiohttp import (
    ClientConnectorCertificateError,
    ClientConnectorDNSError,
    ClientConnectorError,
    ClientConnectorSSLError,
    ClientError,
    ClientOSError,
    ClientPayloadError,
    ClientResponse,
    ClientResponseError,
    ClientSession,
    ClientTimeout,
    DummyCookieJar,
    ServerDisconnectedError,
    TCPConnector,
)
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong

from webhooks.addresses import Policy, policy
from webhooks.answers import Answer, Body, CallFailed, Kind, kept_headers
from webhooks.destinations import BadUrl, Destination, destination
from webhooks.lookups import Lookup, Resolver, getaddrinfo

CONNECT_TIMEOUT = 3.0  # Seconds for the name, the connection and TLS together.
# Servers close idle connections after 5 s (Node, uvicorn, Apache); to be quicker spares races.
KEEP_ALIVE = 4.0
HEADER_MOST = 8190  # Bytes of a status line or of one header.
HEADERS_MOST = 100
INTERIM_MOST = 16  # Answers with 1xx before the one that counts (RFC 9110, 15.2, sets no bound).

# An answer's text is for a log: identity spares both sides the packing.
HEADERS = {"User-Agent": "Slipway", "Accept": "*/*", "Accept-Encoding": "identity"}
# What frames a request or leads it elsewhere is ours alone to say (RFC 9110, 7.2, 7.6.1, 10.1.1).
_OURS = frozenset(
    {
        *(
            "host",
            "content-length",
            "transfer-encoding",
            "connection",
            "keep-alive",
            "expect",
            "te",
        ),
        *("trailer", "upgrade", "proxy-authorization", "proxy-connection"),
    }
)


_BREAKS = re.compile(r"[\r\n\0]")
_INTERIM = "Too many interim answers"


class _Trip:
    """How far one call has come: shared by the task that calls and those that connect for it."""

    __slots__ = ("address", "answer", "dialled", "opened", "rules", "sent")

    def __init__(self, rules: Policy, opened: bool) -> None:
        self.rules = rules
        self.opened = opened
        self.dialled = False  # A socket was made, so the name's lookup is over.
        self.sent = False  # A connection was there to write to.
        self.address = ""
        self.answer: Answer | None = None  # What had come when the deadline did.

    @property
    def reused(self) -> bool:
        return self.sent and not self.dialled


_trip: ContextVar[_Trip] = ContextVar("trip")


class _Handler(ResponseHandler):
    """One connection's reader, which ends a flood of interim answers.

    aiohttp reads past any number of them without once letting go of the loop, which all other
    calls share.
    """

    _interim = 0

    def feed_data(self, data: Any, size: int = 0) -> None:
        code = data[0].code
        self._interim = self._interim + 1 if 100 <= code < 200 else 0
        if self._interim <= INTERIM_MOST:
            super().feed_data(data, size)
        elif self._interim == INTERIM_MOST + 1:
            self.set_exception(HttpProcessingError(message=_INTERIM))
            if self.transport:
                self.transport.close()


class _Connector(TCPConnector):
    """A pool of connections, each of which is looked at before and after it is made."""

    def __init__(self, lookup: Lookup, tls: ssl.SSLContext) -> None:
        super().__init__(
            resolver=Resolver(lookup),
            ssl=tls,
            limit=0,  # The engine's slots, windows and destination caps are the bound.
            keepalive_timeout=KEEP_ALIVE,
            socket_factory=_guarded_socket,
        )
        handler: type[ResponseHandler] = _Handler
        self._factory = partial(handler, loop=self._loop)

    async def connect(self, req: Any, traces: Any, timeout: ClientTimeout) -> Any:
        connection = await super().connect(req, traces, timeout)
        trip = _trip.get()
        peer = connection.transport and connection.transport.get_extra_info("peername")
        trip.address = str(peer[0]) if peer else ""
        if peer and not trip.rules.allows(trip.address, opened=trip.opened):
            connection.close()
            raise _blocked(trip.address)
        trip.sent = True
        return connection

    async def close(self, *, abort_ssl: bool = False) -> None:
        await super().close(abort_ssl=abort_ssl)
        await self._resolver.close()


def _guarded_socket(info: tuple[Any, ...]) -> socket.socket:
    """The last look before a connection: aiohttp resolves no literal, so its resolver sees none."""
    trip = _trip.get()
    trip.dialled = True
    family, kind, protocol, _, address = info
    if not trip.rules.allows(str(address[0]), opened=trip.opened):
        raise _blocked(str(address[0]))
    return _Socket(family, kind, protocol)


class _Socket(socket.socket):
    """A socket that only an explicit close closes.

    When a TLS handshake fails, uvloop closes the descriptor and leaves the number in the Python
    object (MagicStack/uvloop issue 738). The object's end would close that number again, by then
    somebody else's connection: a customer's server could pick our database's that way.
    """

    def __del__(self) -> None:
        self.detach()


def _blocked(address: str) -> CallFailed:
    return CallFailed(Kind.BLOCKED, f"{address} is not a public address.")


class Client:
    """A session of one event loop: its connections are kept alive and shared by all calls."""

    def __init__(self, *, lookup: Lookup = getaddrinfo, tls: ssl.SSLContext | None = None) -> None:
        self._connector = _Connector(lookup, tls or default_tls())
        self._session = ClientSession(
            connector=self._connector,
            headers=HEADERS,
            cookie_jar=DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
            max_line_size=HEADER_MOST,
            max_field_size=HEADER_MOST,
            max_headers=HEADERS_MOST,
        )

    async def post(
        self,
        *,
        url: str,
        body: bytes,
        headers: Mapping[str, str],
        timeout: float,
        connect_timeout: float = CONNECT_TIMEOUT,
    ) -> Answer:
        """POST `body` once; give up after `timeout` seconds in all.

        Raises CallFailed, with a kind and a sentence, when no whole answer came.
        """
        started = time.monotonic()
        rules = policy()
        where = accepted(url, headers, rules)
        trip = _Trip(rules, where.opened)
        token = _trip.set(trip)
        try:
            async with asyncio.timeout(timeout):
                return await self._post(where, body, headers, connect_timeout, started, trip)
        except TimeoutError as error:  # aiohttp's own, of the connection, too.
            raise _timed_out(timeout, where, trip) from error
        except (ClientError, OSError) as error:
            raise _failed(error, where, trip) from error
        finally:
            _trip.reset(token)

    async def close(self) -> None:
        """Close every connection."""
        await self._session.close()

    async def _post(
        self,
        where: Destination,
        body: bytes,
        headers: Mapping[str, str],
        connect_timeout: float,
        started: float,
        trip: _Trip,
    ) -> Answer:
        response = await self._session.post(
            where.url,
            data=body,
            headers=headers,
            allow_redirects=False,
            timeout=_connecting(connect_timeout),
        )
        try:
            return await _read(response, started, trip)
        finally:
            response.close()  # Gone back to the pool already if its end was read; else not again.


async def _read(response: ClientResponse, started: float, trip: _Trip) -> Answer:
    """Read as much of the body as is kept. Raises CallFailed with what had come until then."""
    body = Body(response.headers.get("Content-Encoding", ""))
    content = response.content

    def answer(truncated: bool) -> Answer:
        return Answer(
            status=response.status,
            headers=kept_headers(response.headers.items()),
            body=body.text(),
            truncated=truncated,
            elapsed=time.monotonic() - started,
            address=trip.address,
        )

    try:
        while not body.full and not content.at_eof():
            body.feed(await content.readany())
    except asyncio.CancelledError:
        trip.answer = answer(True)
        raise
    except (ClientError, OSError) as error:
        raise CallFailed(
            Kind.CLOSED if isinstance(error, ClientPayloadError) else Kind.RESET,
            f"The connection broke within the body of an answer with status {response.status}.",
            sent=True,
            reused=trip.reused,
            answer=answer(True),
        ) from error
    return answer(body.full)


def accepted(url: str, headers: Mapping[str, str], rules: Policy) -> Destination:
    """Where a call goes, if it may be made at all. Raises CallFailed."""
    try:
        where = destination(url, rules)
    except BadUrl as bad:
        raise CallFailed(Kind.BAD_REQUEST, str(bad)) from None
    if not _OURS.isdisjoint([name.lower() for name in headers]):
        raise CallFailed(Kind.BAD_REQUEST, "One of the headers is not the caller's to set.")
    if _BREAKS.search("".join((*headers, *headers.values()))):
        raise CallFailed(Kind.BAD_REQUEST, "One of the headers has a line break in it.")
    return where


def _timed_out(timeout: float, where: Destination, trip: _Trip) -> CallFailed:
    if trip.sent:
        text = f"{where.host} did not answer in full within {timeout:g} s."
        return CallFailed(Kind.DEADLINE, text, sent=True, reused=trip.reused, answer=trip.answer)
    if trip.dialled:
        text = f"{where.host} took too long to connect at port {where.port}."
        return CallFailed(Kind.CONNECT_TIMEOUT, text)
    return CallFailed(Kind.DNS, f"The name servers of {where.host} did not answer in time.")


def _failed(error: Exception, where: Destination, trip: _Trip) -> CallFailed:
    kind, text = _told(error, where)
    return CallFailed(kind, text, sent=trip.sent, reused=trip.reused)


def _told(error: Exception, where: Destination) -> tuple[Kind, str]:
    host = where.host
    match error:
        case ClientConnectorCertificateError():
            why = getattr(error.certificate_error, "verify_message", "") or "it cannot be verified"
            return Kind.TLS, f"The certificate of {host} is refused: {why.rstrip('.')}."
        case ClientConnectorSSLError():
            return Kind.TLS, f"{host} did not complete the TLS handshake."
        case ClientConnectorDNSError():
            return Kind.DNS, f"No address was found for {host}."
        case ClientConnectorError(os_error=ConnectionResetError()):
            return Kind.RESET, f"{host} reset the connection before it could be used."
        case ClientConnectorError(os_error=ConnectionRefusedError()):
            return Kind.UNREACHABLE, f"{host} refused the connection at port {where.port}."
        case ClientConnectorError():
            return Kind.UNREACHABLE, f"{host} cannot be reached at port {where.port}."
        case ClientResponseError() if _is_too_large(error):
            return Kind.HEADERS_TOO_LARGE, f"The headers of {host}'s answer are too large."
        case ClientResponseError(message=message) if message == _INTERIM:
            return Kind.PROTOCOL, f"{host} sent more than {INTERIM_MOST} interim answers (1xx)."
        case ClientResponseError():
            return Kind.PROTOCOL, f"What {host} answered is not HTTP."
        case ServerDisconnectedError():
            return Kind.CLOSED, f"{host} closed the connection without an answer."
        case ClientOSError() | OSError():
            return Kind.RESET, f"{host} reset the connection without an answer."
        case _:
            return Kind.PROTOCOL, f"The exchange with {host} broke off: {type(error).__name__}."


def _is_too_large(error: ClientResponseError) -> bool:
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, LineTooLong):
        cause = cause.__cause__
    return cause is not None or "Too many headers" in error.message


@lru_cache(maxsize=64)
def _connecting(seconds: float) -> ClientTimeout:
    # Without a total of aiohttp's own: it rounds those of more than five seconds.
    return ClientTimeout(total=None, connect=seconds)


@cache
def default_tls() -> ssl.SSLContext:
    """Certificates are verified against the system's authorities; TLS 1.2 at least."""
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


_clients: WeakKeyDictionary[asyncio.AbstractEventLoop, Client] = WeakKeyDictionary()


def client() -> Client:
    """The running loop's client, made when it is first asked for."""
    loop = asyncio.get_running_loop()
    found = _clients.get(loop)
    if found is None:
        for other in [other for other in _clients if other.is_closed()]:
            del _clients[other]
        found = _clients[loop] = Client()
    return found


async def post(
    *,
    url: str,
    body: bytes,
    headers: Mapping[str, str],
    timeout: float,
    connect_timeout: float = CONNECT_TIMEOUT,
) -> Answer:
    """Client.post() of the running loop's client."""
    return await client().post(
        url=url, body=body, headers=headers, timeout=timeout, connect_timeout=connect_timeout
    )


async def close() -> None:
    """Close the running loop's client, if it has one: the last thing that its owner does."""
    found = _clients.pop(asyncio.get_running_loop(), None)
    if found is not None:
        await found.close()
