"""The same door for synchronous code: a tenant's own sources, and checks of its credentials.

    answer = sync_http.call("GET", url, headers={…}, timeout=10.0)

What webhooks.http promises holds here too, by the same policy: the URL's text, every address of its
name and the connected socket are checked; the name is resolved once, and the connection is made to
what was checked, under the name's own certificate. Built on requests, a connection a call.
"""

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from http.client import IncompleteRead, LineTooLong, RemoteDisconnected
from typing import Any

import requests
import urllib3.exceptions as broken
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from webhooks.addresses import Policy, parsed, policy
from webhooks.answers import BODY_KEPT, Answer, Body, CallFailed, Kind, kept_headers
from webhooks.destinations import Destination
from webhooks.http import CONNECT_TIMEOUT, HEADERS, accepted, default_tls
from webhooks.lookups import Lookups, checked

_CHUNK = 16 * 1024


class _Trip:
    """One call on its way: where it goes, until when, and the socket that it goes over."""

    def __init__(
        self, where: Destination, rules: Policy, lookups: Lookups, timeout: float, connect: float
    ) -> None:
        self.where = where
        self.rules = rules
        self.lookups = lookups
        self.started = time.monotonic()
        self.ends = self.started + timeout
        self.connect_ends = min(self.ends, self.started + connect)
        self.address = ""
        self.sent = False
        self.expired = False
        self._line: socket.socket | None = None  # A duplicate: TLS takes the original over.

    def dial(self, host: str, port: int | None) -> socket.socket:
        """A connection to one of the host's addresses, all of which are allowed."""
        if (host.strip("[]"), port) != (self.where.host, self.where.port):
            # urllib3 has read the URL otherwise than yarl did.
            raise CallFailed(Kind.BLOCKED, f"{host}:{port} is not what was checked.")
        addresses = self._addresses()
        for family, address in addresses[:-1]:
            with contextlib.suppress(OSError):
                return self._connected(family, address)
        return self._connected(*addresses[-1])

    def _addresses(self) -> list[tuple[int, str]]:
        host, port = self.where.host, self.where.port
        literal = parsed(host)
        if literal is not None:
            family = socket.AF_INET if literal.version == 4 else socket.AF_INET6
            return checked(host, port, [(family, 0, 0, "", (host, port))], self.rules)
        try:
            found = self.lookups.wait(host, port, self._left())
        except TimeoutError:
            raise CallFailed(
                Kind.DNS, f"The name servers of {host} did not answer in time."
            ) from None
        except OSError as error:
            raise CallFailed(Kind.DNS, f"No address was found for {host}.") from error
        return checked(host, port, found, self.rules)

    def _connected(self, family: int, address: str) -> socket.socket:
        made = socket.socket(family, socket.SOCK_STREAM)
        try:
            made.settimeout(self._left())
            made.connect((address, self.where.port))
            self.address = str(made.getpeername()[0])
            if not self.rules.allows(self.address, opened=self.where.opened):
                raise CallFailed(Kind.BLOCKED, f"{self.address} is not a public address.")
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._line = made.dup()
        except BaseException:
            made.close()
            raise
        return made

    def _left(self) -> float:
        return max(self.connect_ends - time.monotonic(), 0.001)

    @contextlib.contextmanager
    def bounded(self) -> Iterator[None]:
        """Hang up when the time is over: a socket's own time-out starts anew with each byte."""
        watch = threading.Timer(self.ends - time.monotonic(), self._hang_up)
        watch.daemon = True
        watch.start()
        try:
            yield
        finally:
            watch.cancel()
            if self._line is not None:
                self._line.close()

    def _hang_up(self) -> None:
        self.expired = True
        with contextlib.suppress(OSError):
            if self._line is not None:
                self._line.shutdown(socket.SHUT_RDWR)


_trip: ContextVar[_Trip] = ContextVar("sync_trip")


class _Guarded(HTTPConnection):
    def _new_conn(self) -> socket.socket:
        return _trip.get().dial(self.host, self.port)

    def connect(self) -> None:
        super().connect()  # With TLS: until the certificate is believed.
        _trip.get().sent = True


class _Https(_Guarded, HTTPSConnection):
    pass


class _HttpPool(HTTPConnectionPool):
    ConnectionCls = _Guarded


class _HttpsPool(HTTPSConnectionPool):
    ConnectionCls = _Https


class _Adapter(HTTPAdapter):
    """Connects through the guard, with the certificates of one context and no others."""

    def __init__(self, tls: ssl.SSLContext) -> None:
        self._tls = tls
        super().__init__(max_retries=0)

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, **options, ssl_context=self._tls)
        self.poolmanager.pool_classes_by_scheme = {"http": _HttpPool, "https": _HttpsPool}

    def cert_verify(self, conn: Any, url: Any, verify: Any, cert: Any) -> None:
        conn.cert_reqs = "CERT_REQUIRED"


_lookups = Lookups()


def call(
    method: str,
    url: str,
    *,
    headers: Mapping[str, str],
    timeout: float,
    body: bytes | None = None,
    connect_timeout: float = CONNECT_TIMEOUT,
    most: int = BODY_KEPT,
    lookups: Lookups | None = None,
    tls: ssl.SSLContext | None = None,
) -> Answer:
    """One request; at most `timeout` seconds in all, and `most` bytes of its answer.

    Raises CallFailed, with a kind and a sentence, when no whole answer came.
    """
    rules = policy()
    where = accepted(url, headers, rules)
    trip = _Trip(where, rules, lookups or _lookups, timeout, connect_timeout)
    token = _trip.set(trip)
    try:
        with trip.bounded(), _session(tls or default_tls()) as session:
            response = session.request(
                method,
                str(where.url),
                data=body,
                headers=dict(headers),
                timeout=timeout,
                allow_redirects=False,
                stream=True,
            )
            return _read(response, trip, most)
    except (requests.RequestException, broken.HTTPError, OSError) as error:
        raise _failed(error, trip) from error
    finally:
        _trip.reset(token)


def _session(tls: ssl.SSLContext) -> requests.Session:
    session = requests.Session()
    session.trust_env = False  # No proxy, and no password, from the environment.
    session.headers.clear()
    session.headers.update(HEADERS)
    session.mount("https://", _Adapter(tls))
    session.mount("http://", _Adapter(tls))
    return session


def _read(response: requests.Response, trip: _Trip, most: int) -> Answer:
    body = Body(response.headers.get("Content-Encoding", ""), most=most)

    def answer(truncated: bool) -> Answer:
        return Answer(
            status=response.status_code,
            headers=kept_headers(response.headers.items()),
            body=body.text(),
            truncated=truncated,
            elapsed=time.monotonic() - trip.started,
            address=trip.address,
        )

    try:
        while not body.full and (data := response.raw.read1(_CHUNK, decode_content=False)):
            body.feed(data)
    except (broken.HTTPError, OSError) as error:
        raise _failed(error, trip, answer(True)) from error
    if trip.expired:  # Hanging up looks like the end of a body that has no length.
        raise _failed(TimeoutError(), trip, answer(True))
    return answer(body.full)


def _failed(error: Exception, trip: _Trip, answer: Answer | None = None) -> CallFailed:
    kind, text = _told(error, trip)
    return CallFailed(kind, text, sent=trip.sent, answer=answer)


def _told(error: Exception, trip: _Trip) -> tuple[Kind, str]:
    causes = tuple(_causes(error))
    if not trip.sent:
        return _before(causes, trip.where, expired=trip.expired)
    host = trip.where.host
    if trip.expired or _is(causes, TimeoutError):
        return Kind.DEADLINE, f"{host} did not answer in full in time."
    # RemoteDisconnected is a ConnectionResetError, too.
    if _is(causes, RemoteDisconnected, broken.IncompleteRead, IncompleteRead):
        return Kind.CLOSED, f"{host} closed the connection without a whole answer."
    if _is(causes, ConnectionResetError):
        return Kind.RESET, f"{host} reset the connection without a whole answer."
    if _is(causes, LineTooLong) or any("got more than" in str(cause) for cause in causes):
        return Kind.HEADERS_TOO_LARGE, f"The headers of {host}'s answer are too large."
    return Kind.PROTOCOL, f"What {host} answered is not HTTP."


def _before(
    causes: tuple[BaseException, ...], where: Destination, *, expired: bool
) -> tuple[Kind, str]:
    """Why no connection came about."""
    host, port = where.host, where.port
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            why = cause.verify_message.rstrip(".")
            return Kind.TLS, f"The certificate of {host} is refused: {why}."
    if expired or _is(causes, TimeoutError):
        return Kind.CONNECT_TIMEOUT, f"{host} took too long to connect at port {port}."
    if _is(causes, ssl.SSLError):
        return Kind.TLS, f"{host} did not complete the TLS handshake."
    if _is(causes, ConnectionResetError):
        return Kind.RESET, f"{host} reset the connection before it could be used."
    if _is(causes, ConnectionRefusedError):
        return Kind.UNREACHABLE, f"{host} refused the connection at port {port}."
    return Kind.UNREACHABLE, f"{host} cannot be reached at port {port}."


def _is(causes: tuple[BaseException, ...], *kinds: type[BaseException]) -> bool:
    return any(isinstance(cause, kinds) for cause in causes)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An exception and all that led to it; urllib3 puts some of it into arguments and `reason`."""
    waiting: list[object] = [error]
    known: set[int] = set()
    while waiting:
        one = waiting.pop(0)
        if isinstance(one, BaseException) and id(one) not in known:
            known.add(id(one))
            yield one
            waiting += [*one.args, getattr(one, "reason", None), one.__cause__, one.__context__]
