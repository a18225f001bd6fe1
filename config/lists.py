"""Lists as the API gives them: `{data, next_cursor}`, at most 100 a page.

A cursor is opaque to callers: base64 of where the page ended. A list asks for one row more than it
shows, which says whether there is a next page.
"""

import base64
import binascii
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Generic, TypedDict, TypeVar

from django.http import HttpRequest
from rest_framework.request import Request

from config.problems import Problem

DEFAULT_LIMIT = 50
LARGEST_LIMIT = 100
_LONGEST_CURSOR = 200
_CONTROL_CHARACTER = re.compile("[\x00-\x1f\x7f-\x9f]")

S = TypeVar("S")
T = TypeVar("T")


class Page(TypedDict, Generic[T]):
    """One page of a list; `next_cursor` is null on the last one."""

    data: list[T]
    next_cursor: str | None


class InvalidParameter(Problem):
    """A query parameter is not valid."""

    status = 400
    code = "invalid_parameter"


def read_limit(request: Request | HttpRequest) -> int:
    """How many rows the caller wants. Raises InvalidParameter."""
    text = request.GET.get("limit", str(DEFAULT_LIMIT))
    if not (text.isascii() and text.isdigit() and len(text) <= 3):
        raise InvalidParameter("limit is a whole number from 1 to 100.", parameter="limit")
    if not 1 <= int(text) <= LARGEST_LIMIT:
        raise InvalidParameter("limit is a whole number from 1 to 100.", parameter="limit")
    return int(text)


def read_cursor(request: Request | HttpRequest, parse: Callable[[str], T]) -> T | None:
    """Where the page before ended, None for the first page.

    What was read must be spelled as `page` spells it. Raises InvalidParameter.
    """
    text = request.GET.get("cursor", "")
    if not text:
        return None
    try:
        if len(text) > _LONGEST_CURSOR:
            raise ValueError
        padded = text + "=" * (-len(text) % 4)
        place = base64.b64decode(padded, b"-_", validate=True).decode()
        parsed = parse(place)
        if str(parsed) != place:
            raise ValueError
        return parsed
    except (ValueError, binascii.Error):
        raise InvalidParameter("cursor is not one of ours.", parameter="cursor") from None


def row_number(text: str) -> int:
    """A place by a bigint key, for `read_cursor`. Raises ValueError for what is none."""
    number = int(text)
    if not 0 <= number < 2**63:
        raise ValueError("not a row's number")
    return number


def page(
    rows: Iterable[T],
    *,
    limit: int,
    show: Callable[[T], S],
    place: Callable[[T], str],
    then: object | None = None,
) -> Page[S]:
    """One page from `limit + 1` rows: what `show` makes of each, and the `place` of the last.

    `then` is where the next page begins when there are no more rows: where looking for them ended.
    """
    shown = list(rows)
    more = len(shown) > limit
    shown = shown[:limit]
    end = place(shown[-1]) if more else str(then or "")
    cursor = base64.urlsafe_b64encode(end.encode())
    return {
        "data": [show(row) for row in shown],
        "next_cursor": cursor.decode().rstrip("=") or None,
    }


def refuse_unknown_parameters(request: Request | HttpRequest, known: Sequence[str]) -> None:
    """A misspelt filter must not answer with everything. Raises InvalidParameter."""
    for name in request.GET:
        if name not in known and name not in {"limit", "cursor"}:
            raise InvalidParameter(
                f"There is no parameter {name[:40]!r} here.", parameter=name[:40]
            )


def refuse_control_characters(request: Request | HttpRequest) -> None:
    """No parameter has a use for them, and no text column holds a NUL. Raises InvalidParameter."""
    if not request.META.get("QUERY_STRING"):
        return
    for name, values in request.GET.lists():
        if any(_CONTROL_CHARACTER.search(text) for text in (name, *values)):
            shown = _CONTROL_CHARACTER.sub("?", name[:40])
            raise InvalidParameter(f"{shown} has control characters in it.", parameter=shown)
