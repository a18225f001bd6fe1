"""Signatures as Standard Webhooks has them (spec/standard-webhooks.md, version 1).

What is signed is `id.timestamp.body`: the id stays the same on every try, the timestamp is the
try's. While a secret is being rotated the header carries one signature for each that is still good,
so that a receiver with either of them verifies.
"""

import binascii
import hashlib
import hmac
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from functools import lru_cache

from webhooks.secrets import PREFIX

TOLERANCE = 300  # Seconds that a timestamp may be off, as in the reference libraries.
_FEWEST, _MOST = 24, 64  # Bytes of a secret.


class BadSecret(ValueError):
    """This is not a secret: whsec_ and 24 to 64 bytes in base64."""


class BadSignature(Exception):
    """The request was not signed with any of these secrets, or not lately."""


def sign(
    secrets: Sequence[str | bytes], *, message_id: str, timestamp: int, body: bytes
) -> dict[str, str]:
    """The three headers of a request, `body` being exactly the bytes that are sent.

    `timestamp` is the time of this try, in seconds since 1970. Raises BadSecret, and ValueError for
    an id that could be confused with the timestamp after it.
    """
    if not secrets:
        raise BadSecret("There is no secret to sign with.")
    if not message_id or "." in message_id:
        raise ValueError(f"{message_id!r} cannot be signed: an id has no dot in it.")
    signed = _signed(message_id, timestamp, body)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join([f"v1,{_mac(secret, signed)}" for secret in secrets]),
    }


def verify(
    secrets: Sequence[str | bytes],
    *,
    headers: Mapping[str, str],
    body: bytes,
    now: float,
    tolerance: int = TOLERANCE,
) -> str:
    """The id of a request that one of `secrets` signed within `tolerance` seconds of `now`.

    Raises BadSignature, whose text says which part is wrong.
    """
    given = {name.lower(): value for name, value in headers.items()}
    try:
        message_id, stamp, listed = (given[f"webhook-{part}"] for part in _PARTS)
    except KeyError as missing:
        raise BadSignature(f"The header {missing.args[0]} is missing.") from None
    if not (stamp.isascii() and stamp.isdigit() and len(stamp) <= 12):
        raise BadSignature("webhook-timestamp is not a number of seconds.")
    if abs(now - int(stamp)) > tolerance:
        raise BadSignature(f"webhook-timestamp is more than {tolerance} seconds off.")
    signed = _signed(message_id, int(stamp), body)
    expected = [f"v1,{_mac(secret, signed)}".encode() for secret in secrets]
    found = [
        hmac.compare_digest(one.encode(), mac) for one in listed.split(" ") for mac in expected
    ]
    if not any(found):
        raise BadSignature("None of the signatures is by a secret of yours.")
    return message_id


def check_secret(secret: str) -> None:
    """Whether an endpoint may sign with a secret of its owner's. Raises BadSecret."""
    if not secret.startswith(PREFIX):
        raise BadSecret(f"A secret begins with {PREFIX}")
    _key(secret)


_PARTS = ("id", "timestamp", "signature")


def _signed(message_id: str, timestamp: int, body: bytes) -> bytes:
    return b"%s.%d.%s" % (message_id.encode(), timestamp, body)


def _mac(secret: str | bytes, signed: bytes) -> str:
    key = _key(secret) if isinstance(secret, str) else secret
    return b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()


@lru_cache(maxsize=8192)
def _key(secret: str) -> bytes:
    """The bytes of a secret, with or without its prefix and its padding."""
    encoded = secret.removeprefix(PREFIX).rstrip("=")
    try:
        key = b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise BadSecret("A secret is whsec_ and base64.") from None
    if not _FEWEST <= len(key) <= _MOST:
        raise BadSecret(f"A secret has {_FEWEST} to {_MOST} bytes.")
    return key
