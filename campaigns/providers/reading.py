"""What strangers' answers and callbacks hold, read without trusting a word of it."""

import re
from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson

from campaigns.providers import LONGEST_PROVIDER_ID
from config.problems import FieldError, escape

_MILLISECONDS_FROM = 1e11  # As seconds, the year 5138; as milliseconds, 1973.
_MISSING = object()
_ID = re.compile(rf"[\x21-\x7e]{{1,{LONGEST_PROVIDER_ID}}}")


def json_object(body: str | bytes) -> dict[str, Any]:
    """The JSON object that a body is; an empty one for what is none."""
    said = json_value(body)
    return said if isinstance(said, dict) else {}


def json_value(body: str | bytes) -> Any:
    """The JSON that a body is; None for what is none."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None


def objects(values: Any) -> Iterator[dict[str, Any]]:
    """The objects in a list; none of what is no list."""
    yield from (v for v in values if isinstance(v, dict)) if isinstance(values, list) else ()


def at_pointer(value: Any, pointer: str) -> Any:
    """What a JSON pointer (RFC 6901) leads to; None where it leads nowhere."""
    for part in pointer.split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        if isinstance(value, dict):
            value = value.get(name, _MISSING)
        elif isinstance(value, list) and name.isascii() and name.isdigit():
            value = value[int(name)] if len(name) < 6 and int(name) < len(value) else _MISSING
        else:
            value = _MISSING
        if value is _MISSING:
            return None
    return value


def provider_id(said: Any) -> str:
    """The id that a provider calls a message by; "" for what is none that can be kept."""
    if isinstance(said, bool) or not isinstance(said, (str, int)):
        return ""
    return str(said) if _ID.fullmatch(str(said)) else ""


def uuid_or_none(text: Any) -> UUID | None:
    """The UUID that a text is."""
    try:
        return UUID(text)
    except (ValueError, TypeError, AttributeError):
        return None


def moment_or_now(said: Any) -> datetime:
    """Seconds or milliseconds since 1970, or a date by ISO 8601; now, for anything else.

    Nothing has happened yet that lies ahead of our clock.
    """
    now = datetime.now(UTC)
    try:
        moment = _moment(said)
        return min(now, moment) if moment.year > 1970 else now
    except (ValueError, TypeError, OverflowError, OSError):
        return now


def unknown_fields(where: str, given: Mapping[str, Any], known: Collection[str]) -> Iterator[Any]:
    """A flaw for each name that is not known."""
    for name in given:
        if name not in known:
            yield FieldError(f"{where}/{escape(name)}", "unknown_field", "There is no such field.")


def _moment(said: Any) -> datetime:
    try:
        seconds = float(said)
    except ValueError:
        moment = datetime.fromisoformat(said)
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    seconds = seconds / 1000 if abs(seconds) >= _MILLISECONDS_FROM else seconds
    return datetime.fromtimestamp(seconds, UTC)
