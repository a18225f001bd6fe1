"""The headers that an endpoint's owner adds: which are taken, and how they are kept.

Values are often credentials: the endpoint's row has them encrypted, and no answer shows them.
"""

import re
from collections.abc import Iterator, Mapping

import orjson

from config.problems import FieldError, escape
from webhooks import secrets

MOST = 20
LONGEST_VALUE = 1000
MASK = "••••••••"  # Not ASCII: whoever sends it back is refused, and changes nothing by mistake.
_LONGEST_NAME = 100

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.6.2.
_VALUE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e\t]*[\x21-\x7e])?")  # RFC 9110, 5.5; ASCII alone.

# Hop-by-hop (RFC 9110, 7.6.1), what frames or describes the message, and what names the sender.
_REFUSED = frozenset(
    {
        "accept-encoding",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "cookie",
        "date",
        "expect",
        "host",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "range",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "user-agent",
    }
)
_REFUSED_PREFIXES = ("webhook-", "svix-", "slipway-")  # A signature is ours alone to make.


def flaws(headers: Mapping[str, str | None]) -> Iterator[FieldError]:
    """What is wrong with these; a null takes a header away."""
    seen: set[str] = set()
    for name, value in headers.items():
        pointer = f"/headers/{escape(name)}"
        known = name.lower()
        if not _TOKEN.fullmatch(name) or len(name) > _LONGEST_NAME:
            yield FieldError(pointer, "invalid_name", "It is not the name of a header.")
        elif known in _REFUSED or known.startswith(_REFUSED_PREFIXES):
            yield FieldError(pointer, "reserved_name", "This header is Slipway's to send.")
        elif known in seen:
            yield FieldError(pointer, "duplicate_name", "Case makes no difference: name it once.")
        elif value is not None and (len(value) > LONGEST_VALUE or not _VALUE.fullmatch(value)):
            message = f"Use 1 to {LONGEST_VALUE} visible ASCII characters."
            yield FieldError(pointer, "invalid_value", message)
        seen.add(known)
    if len(headers) > MOST:
        yield FieldError("/headers", "too_many", f"At most {MOST} headers.")


def merged(stored: str, changes: Mapping[str, str | None]) -> str:
    """The headers that are kept, with these changes, encrypted (RFC 7396: null removes)."""
    kept = {name.lower(): (name, value) for name, value in _read(stored).items()}
    for name, value in changes.items():
        kept.pop(name.lower(), None)
        if value is not None:
            kept[name.lower()] = (name, value)
    if not kept:
        return ""
    return secrets.encrypt(orjson.dumps(dict(kept.values())).decode())


def names(stored: str) -> list[str]:
    """The names of the headers that are kept."""
    return list(_read(stored))


def _read(stored: str) -> dict[str, str]:
    if not stored:
        return {}
    found: dict[str, str] = orjson.loads(secrets.decrypt(stored))
    return found
