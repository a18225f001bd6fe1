"""Text and JSON that Postgres takes: no NUL, no lone surrogates, no more than fits."""

from collections.abc import Mapping
from typing import Any

import orjson

LAST_ERROR_LENGTH = 500
ATTEMPT_ERROR_LENGTH = 4000
BODY_LENGTH = 64 * 1024
DOCUMENT_LENGTH = 512 * 1024  # Bytes of JSON; 500 attempts must fit into one statement.
_STRICT = (
    orjson.OPT_PASSTHROUGH_DATACLASS
    | orjson.OPT_PASSTHROUGH_DATETIME
    | orjson.OPT_PASSTHROUGH_SUBCLASS
)


def text(value: object, length: int) -> str:
    """`value` as text that can be stored, cut to `length`."""
    if value == "":
        return ""
    plain = str(value)[: length * 2].replace("\x00", "")
    return plain.encode("utf-8", "replace").decode("utf-8")[:length]


def said(error: BaseException) -> str:
    """What `error` says of itself, with its type's name."""
    try:
        message = str(error)
    except Exception:
        message = "(its message cannot be read)"
    return f"{type(error).__name__}: {message[:ATTEMPT_ERROR_LENGTH]}"


def document(value: Any) -> bytes:
    """`value` as encoded JSON that can be stored; in place of one too long, a note that says so."""
    if (plain := _plain(value)) is not None:
        return plain
    encoded = orjson.dumps(json(value))
    if len(encoded) > DOCUMENT_LENGTH:
        return orjson.dumps({"left_out": f"{len(encoded)} bytes"})
    return encoded


def _plain(value: Any) -> bytes | None:
    """The encoded JSON of what needs no cleaning, which is nearly all; None when it may need some.

    To look into each string costs ten times as much as to encode them all.
    """
    try:
        encoded = orjson.dumps(value, option=_STRICT)
    except TypeError:  # A foreign type, or a lone surrogate.
        return None
    # No string in it is too long when the whole is not.
    return encoded if len(encoded) <= BODY_LENGTH and b"\\u0000" not in encoded else None


def json(value: Any, depth: int = 8) -> Any:
    """`value` as JSON that can be stored: strings cleaned and cut, foreign types as text."""
    if value is None or isinstance(value, bool) or (isinstance(value, int) and abs(value) < 2**63):
        return value
    if isinstance(value, float):
        return float(value) if value == value and abs(value) != float("inf") else None
    if isinstance(value, bytes):
        return text(value.decode("utf-8", "replace"), BODY_LENGTH)
    if depth and isinstance(value, Mapping):
        return {text(key, 200): json(item, depth - 1) for key, item in value.items()}
    if depth and isinstance(value, list | tuple):
        return [json(item, depth - 1) for item in value]
    return text(value, BODY_LENGTH)
