"""URLs that customers name: what of one is accepted, when it is saved and each time it is used.

The URL is read by yarl, which is what aiohttp connects by, and the text goes on only in yarl's
spelling: what was checked and what is connected to cannot be two readings of one text.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

from yarl import URL

from webhooks.addresses import Policy, is_private, is_public, parsed, policy

LONGEST_URL = 2048  # Characters.

# Whitespace and controls, which parsers strip silently, and the backslash, which some read as /.
_NEVER = re.compile(r"[\x00-\x20\x7f-\xa0\\\u1680\u2000-\u200f\u2028-\u202f\u205f-\u206f\ufeff]")
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})+")
_HOST = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_BRACKETS = re.compile(r"//[^/?#]*\[")  # Around an address, or something of the future: RFC 3986.
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")  # What the last label of an odd IPv4 spelling is.
# Names that public DNS never answers for: RFC 6761, 6762, 8375, 7686, 9476, and ICANN's .internal.
_INSIDE = ("localhost", "localdomain", "local", "internal", "home.arpa", "onion", "alt")


class BadUrl(ValueError):
    """A URL that is not connected to. Its text is a sentence for whoever entered it."""


@dataclass(frozen=True, slots=True)
class Destination:
    """A URL that may be connected to, as far as its text tells."""

    url: URL
    host: str
    port: int
    opened: bool  # By the operator: plain http and private addresses are allowed.


def check_url(url: str) -> str:
    """The URL as it is stored: in ASCII, without a fragment, host in lower case.

    Asks no DNS, since a name can move between now and the delivery: what a name answers with is
    checked at each connection. Raises BadUrl.
    """
    return str(destination(url, policy()).url)


@lru_cache(maxsize=8192)
def destination(url: str, rules: Policy) -> Destination:
    """Read and check a URL. Raises BadUrl."""
    parts = _read(url)
    host, port = parts.raw_host or "", parts.port or 0
    opened = rules.opens(host, port)
    if parts.scheme != "https" and not (opened and parts.scheme == "http"):
        raise BadUrl(f"The URL begins with {parts.scheme or 'no scheme'}. Use https://.")
    if parts.user is not None or parts.password is not None:
        raise BadUrl("The URL has a user name or password in it. Send credentials in a header.")
    if parsed(host) is not None:
        _check_address(host, opened)
    else:
        _check_name(host, opened)
    if port not in rules.ports and not opened:
        ports = " or ".join(map(str, sorted(rules.ports)))
        raise BadUrl(f"The URL's port is {port}. Use {ports}.")
    return Destination(parts, host, port, opened)


def _read(url: str) -> URL:
    if len(url) > LONGEST_URL:
        raise BadUrl(f"The URL is longer than {LONGEST_URL} characters.")
    if _NEVER.search(url):
        raise BadUrl("The URL has a space, a control character or a backslash in it.")
    try:
        parts = URL(url).with_fragment(None)
        _ = parts.port, parts.raw_host, parts.host  # Decoding may fail, too.
    except (ValueError, UnicodeError):
        raise BadUrl("This is not a URL such as https://example.com/hooks.") from None
    if not parts.raw_host or (_BRACKETS.search(url) and ":" not in parts.raw_host):
        raise BadUrl("The URL names no host. Write it like https://example.com/hooks.")
    return parts


def _check_address(host: str, opened: bool) -> None:
    if not (is_public(host) or (opened and is_private(host))):
        raise BadUrl(f"{host} is not a public address. Use one that the internet reaches.")


def _check_name(host: str, opened: bool) -> None:
    if host.endswith("."):
        raise BadUrl("The host ends in a dot. Leave it out.")
    if _NUMBER.fullmatch(host.rpartition(".")[2]):
        raise BadUrl(f"{host} is an odd spelling of an address. Write it as 192.0.2.1, or a name.")
    if len(host) > 253 or not (_HOST if opened else _NAME).fullmatch(host):
        raise BadUrl(f"{host[:80]} is not a full host name such as hooks.example.com.")
    if not opened and any(host == name or host.endswith(f".{name}") for name in _INSIDE):
        raise BadUrl(f"{host} is a name inside a network. Use one that the internet resolves.")
