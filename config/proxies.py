"""What a proxy says of a request: believed from settings.TRUSTED_PROXIES alone."""

from collections.abc import Callable, Iterable
from contextvars import ContextVar
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_UNKNOWN = "0.0.0.0"  # noqa: S104 - an answer, not a socket to listen on.
_current: ContextVar[str | None] = ContextVar("client_address", default=None)


def client_address(request: HttpRequest) -> str:
    """The address of the client, as text; `0.0.0.0` where there is none (a Unix socket).

    X-Forwarded-For is read from its right end, over the proxies in settings.TRUSTED_PROXIES:
    what stands left of the first stranger was written by the stranger.
    """
    address = _parse(request.META.get("REMOTE_ADDR", ""))
    trusted = _networks(tuple(settings.TRUSTED_PROXIES))
    hops = [hop.strip() for hop in request.META.get("HTTP_X_FORWARDED_FOR", "").split(",")]
    while address is not None and hops and _is_in(address, trusted):
        before = _parse(hops.pop())
        if before is None:
            break
        address = before
    return str(address) if address is not None else _UNKNOWN


def client_network(request: HttpRequest) -> str:
    """What one client has to itself: its address, or the first one of its /64 where it is IPv6.

    An access provider gives each customer 2^64 addresses or more: counting them is no bound.
    """
    address = client_address(request)
    return str(ip_network((address, 64), strict=False)[0]) if ":" in address else address


def current_address() -> str | None:
    """The address of the client whose request runs now; None outside requests, or if unknown.

    The audit trail keeps it. It is apart from what log lines tell: an address is personal.
    """
    return _current.get()


class ProxyMiddleware:
    """Drops X-Forwarded-Proto where no proxy of ours sent it: a word is not https.

    It also notes the client's address for current_address().
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if "HTTP_X_FORWARDED_PROTO" in request.META and not _is_from_proxy(request):
            del request.META["HTTP_X_FORWARDED_PROTO"]
        address = client_address(request)
        before = _current.set(address if address != _UNKNOWN else None)
        try:
            return self.get_response(request)
        finally:
            _current.reset(before)


def _is_from_proxy(request: HttpRequest) -> bool:
    address = _parse(request.META.get("REMOTE_ADDR", ""))
    return address is not None and _is_in(address, _networks(tuple(settings.TRUSTED_PROXIES)))


@lru_cache(maxsize=4096)  # A client comes again and again.
def _parse(text: str) -> Address | None:
    try:
        # fe80::1%eth0 is an address of this machine's network card; the database knows no cards.
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    # ::ffff:1.2.3.4 is the same client as 1.2.3.4, and must not be counted as another.
    return getattr(address, "ipv4_mapped", None) or address


def _is_in(address: Address, networks: Iterable[Network]) -> bool:
    return any(address in network for network in networks)


@lru_cache(maxsize=4)
def _networks(texts: tuple[str, ...]) -> tuple[Network, ...]:
    return tuple(ip_network(text, strict=False) for text in texts)
