"""Text and JSON that Postgres takes: no NUL, no lone surrogates, no more than fits."""

from collections.abc import Mapping
from typing import Any

LAST_ERROR_LENGTH = 500
ATTEMPT_ERROR_LENGTH = 4000
BODY_LENGTH = 64 * 1024


def text(value: object, length: int) -> str:
    """`value` as text that can be stored, cut to `length`."""
    plain = str(value)[: length * 2].replace("\x00", "")
    return plain.encode("utf-8", "replace").decode("utf-8")[:length]


def json(value: Any, depth: int = 8) -> Any:
    """`value` as JSON that can be stored: strings cleaned and cut, foreign types as text."""
    if value is None or isinstance(value, bool) or (isinstance(value, int) and abs(value) < 2**63):
        return value
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else None
    if isinstance(value, bytes):
        return text(value.decode("utf-8", "replace"), BODY_LENGTH)
    if depth and isinstance(value, Mapping):
        return {text(key, 200): json(item, depth - 1) for key, item in value.items()}
    if depth and isinstance(value, list | tuple):
        return [json(item, depth - 1) for item in value]
    return text(value, BODY_LENGTH)
