"""Idempotency-Key: the header, whose it is, and how long it is kept.

draft-ietf-httpapi-idempotency-key-header-06: the value is a structured string (quoted, RFC 8941
3.3.3); bare values, which most clients send, are taken as well.
"""

import hashlib
import re
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from config.problems import Problem

KEPT = timedelta(hours=24)
MOST = 255
STRANGER_LEAST = 22  # Characters of base64 that hold the 128 bits of a UUID.
STRANGER_DISTINCT = 10  # "aaaa…" and "1234512345…" are long, and guessed at once.

_VISIBLE = re.compile(r"[\x21-\x7e]+")
_QUOTED = re.compile(r'"((?:[\x20-\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"')


class BadKey(Problem):
    """This Idempotency-Key cannot be used."""

    status = 400
    code = "invalid_idempotency_key"


@dataclass(frozen=True)
class IdempotencyKey:
    """A caller's key for one request, hashed: what is stored cannot be sent again by a reader."""

    digest: bytes  # SHA-256 of caller and key; the same key of two callers is two keys.


def parse(header: str | None, *, caller: str, stranger: bool) -> IdempotencyKey | None:
    """The key in the header; None when there is none.

    Strangers share one scope, and a replay shows them the first answer, so that their keys must
    not be guessable. Raises BadKey.
    """
    if header is None:
        return None
    text = _unquoted(header.strip())
    if len(text) > MOST:
        raise BadKey(f"It is longer than {MOST} characters.")
    if not _VISIBLE.fullmatch(text):
        raise BadKey("Use visible ASCII characters, without spaces.")
    if stranger and not _is_strong(text):
        raise BadKey(f"Use a UUID, or at least {STRANGER_LEAST} random characters.")
    return IdempotencyKey(hashlib.sha256(f"{caller}\0{text}".encode()).digest())


def _unquoted(text: str) -> str:
    if not text.startswith('"'):
        return text
    quoted = _QUOTED.fullmatch(text)
    if quoted is None:
        raise BadKey("Its quotes do not match.")
    return re.sub(r"\\(.)", r"\1", quoted[1])


def _is_strong(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return len(text) >= STRANGER_LEAST and len(set(text)) >= STRANGER_DISTINCT
    return len(set(text)) > 3  # Not the nil UUID, nor 11111111-1111-….
