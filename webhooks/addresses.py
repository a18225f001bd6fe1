"""Which addresses and ports may be connected to when a customer names the host.

Everything that is not plainly somebody's public server is refused. `ipaddress.is_global` is not the
rule: what it says differs between Python versions, and it lets 6to4, Teredo and NAT64 addresses
through, each of which carries a private IPv4 address to a gateway that unpacks it. The lists follow
IANA's special-purpose registries (RFC 6890 and its updates) and the clouds' own metadata servers.

`settings.WEBHOOK_OPEN_DESTINATIONS` opens host:port pairs that the operator names: there, and there
alone, plain http and private or loopback addresses are allowed. Metadata servers stay closed.
"""

from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from django.conf import settings

PORTS = (443, 8443)  # Where https is served; SLIPWAY["WEBHOOKS"]["ports"] overrides it.

_CLOSED_V4 = [
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # This network; Linux connects 0.0.0.0 to loopback.
        "10.0.0.0/8",
        "100.64.0.0/10",  # Carrier-grade NAT; Alibaba's metadata server.
        "127.0.0.0/8",
        "168.63.129.16/32",  # Azure's metadata server: a public address that only Azure routes.
        "169.254.0.0/16",  # Link-local: most clouds' metadata servers.
        "172.16.0.0/12",
        "192.0.0.0/24",  # IETF protocols; Oracle's metadata server.
        "192.0.2.0/24",  # Documentation.
        "192.31.196.0/24",  # AS112: a sink.
        "192.52.193.0/24",  # AMT relays.
        "192.88.99.0/24",  # 6to4 relays.
        "192.168.0.0/16",
        "192.175.48.0/24",  # AS112.
        "198.18.0.0/15",  # Benchmarks.
        "198.51.100.0/24",  # Documentation.
        "203.0.113.0/24",  # Documentation.
        "224.0.0.0/4",  # Multicast.
        "240.0.0.0/4",  # Reserved, and the broadcast address.
    )
]
# All that is handed out to networks. It leaves out loopback, mapped and compatible IPv4, NAT64
# (64:ff9b::/96, 64:ff9b:1::/48), discard-only (100::/64), SRv6 (5f00::/16), unique local
# (fc00::/7), link-local, site-local and multicast.
_GLOBAL_V6 = IPv6Network("2000::/3")
_CLOSED_V6 = [
    IPv6Network(network)
    for network in (
        "2001::/23",  # IETF protocols: Teredo, ORCHID, benchmarks, AMT.
        "2001:db8::/32",  # Documentation.
        "2002::/16",  # 6to4: an IPv4 address inside.
        "2620:4f:8000::/48",  # AS112.
        "3fff::/20",  # Documentation.
    )
]
# What the operator may open by name: a host of their own network.
_PRIVATE = [
    ip_network(network)
    for network in (
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "::1/128",
        "fc00::/7",
    )
]
_METADATA = frozenset(map(ip_address, ("100.100.100.200", "fd00:ec2::254", "fd20:ce::254")))

Address = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True)
class Policy:
    """What may be connected to. Hashable: caches are keyed by it, so that a change is seen."""

    ports: frozenset[int]
    open: frozenset[tuple[str, int]]

    def opens(self, host: str, port: int) -> bool:
        """Whether the operator has opened this very pair."""
        return (host, port) in self.open

    def allows(self, address: str, *, opened: bool) -> bool:
        """Whether a socket may be connected to `address`, for a pair that is opened or is not."""
        return is_public(address) or (opened and is_private(address))


def policy() -> Policy:
    """The policy that the settings make now."""
    ports = settings.SLIPWAY.get("WEBHOOKS", {}).get("ports", PORTS)
    return _policy(tuple(ports), tuple(settings.WEBHOOK_OPEN_DESTINATIONS))


@lru_cache(maxsize=16)
def _policy(ports: tuple[int, ...], opened: tuple[tuple[str, int], ...]) -> Policy:
    return Policy(frozenset(ports), frozenset((host, port) for host, port in opened))


@lru_cache(maxsize=65536)
def is_public(address: str) -> bool:
    """Whether this is an address of somebody's public server, as far as an address can tell."""
    ip = parsed(address)
    if isinstance(ip, IPv4Address):
        return not any(ip in network for network in _CLOSED_V4)
    if isinstance(ip, IPv6Address):
        return ip in _GLOBAL_V6 and not any(ip in network for network in _CLOSED_V6)
    return False


@lru_cache(maxsize=4096)
def is_private(address: str) -> bool:
    """Whether this is an address of the operator's own network or machine."""
    ip = parsed(address)
    return ip is not None and ip not in _METADATA and any(ip in network for network in _PRIVATE)


def parsed(address: str) -> Address | None:
    """The address that a text spells canonically; None for 127.1, 0x7f.1, a zone id, a name."""
    try:
        ip = ip_address(address)
    except ValueError:
        return None
    # A zone id names one of this machine's interfaces: no business of a customer's.
    return None if isinstance(ip, IPv6Address) and ip.scope_id else ip
