"""How many sign-ups strangers may send. Platform keys have limits of their own."""

from collections.abc import Iterator
from ipaddress import IPv6Network, ip_address

from django.http import HttpRequest

from config.limits import Counter, Limit
from config.proxies import client_address
from onboarding.names import email_domain

STATUS_LIMIT = "sign-up-status"  # What is asked about one sign-up, by client.


def counters(request: HttpRequest, email: str) -> Iterator[Counter]:
    """What a stranger's sign-up counts in; the client's own limit first, since headers tell it."""
    address = client_address(request)
    yield Limit.named("sign-up").of(address)
    if (network := _network(address)) is not None:
        yield Limit.named("sign-up-network").of(network)
    yield Limit.named("sign-up-domain").of(email_domain(email))
    yield Limit.named("sign-up-all").of("all")


def _network(address: str) -> str | None:
    """The /64 of an IPv6 address: what one customer of an access provider has for themselves."""
    parsed = ip_address(address)
    return str(IPv6Network((parsed, 64), strict=False)) if parsed.version == 6 else None
