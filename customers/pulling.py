"""One page of a tenant's own source: asked for through the guarded door, read, and bounded.

    GET <url>?cursor=<the one before>&limit=<page size>
    → {"data": [{…}, …], "next_cursor": "…"}

Where an answer has its items and its cursor, and what a cursor is sent back as, the source says.
No cursor, or an empty one, ends it.
"""

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from django.conf import settings
from yarl import URL

from customers.errors import BadFile
from customers.models import Source
from customers.serializers.customers import CustomerChange
from webhooks import secrets, sync_http
from webhooks.answers import Answer, CallFailed, Kind
from webhooks.steps import retry_after

ITEMS_MOST = 5000  # On a page: they are written in one transaction.
CURSOR_MOST = 1000  # Characters.
THROTTLED = 30.0  # Seconds to wait for who says 429 and no more.
_SAME: Mapping[str, str] = {name: name for name in CustomerChange.__struct_fields__}
_ATTRIBUTE = "attributes."
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
# What would come to the same if it were asked again.
_FOR_GOOD = frozenset({Kind.BAD_REQUEST, Kind.BLOCKED})
_TRANSIENT = frozenset({408, 425})


class Failed(Exception):
    """No page came. It may the next time, `after` seconds from now at the earliest."""

    def __init__(self, text: str, after: float | None = None) -> None:
        super().__init__(text)
        self.after = after


class Refused(Exception):
    """No page came, and none will while all is as it is."""


class Throttled(Exception):
    """The source asks to be left alone for `after` seconds."""

    def __init__(self, after: float) -> None:
        super().__init__(f"The source answered 429: the next try is in {after:.0f} s.")
        self.after = after


@dataclass(frozen=True, slots=True)
class Page:
    """What came, and the cursor of what comes next; empty at the end."""

    items: list[Any]
    cursor: str


def pull(source: Source, *, cursor: str) -> Page:
    """Ask for one page. Raises Failed, Refused, Throttled."""
    limits = settings.SLIPWAY["CUSTOMERS"]
    try:
        answer = sync_http.call(
            "GET",
            _url(source, cursor),
            headers=_headers(source),
            timeout=limits["sync_timeout"],
            most=limits["sync_bytes"],
        )
    except CallFailed as failed:
        raise (Refused if failed.kind in _FOR_GOOD else Failed)(str(failed)) from None
    _check(answer)
    return _read(source, answer.body)


def body_of(item: object, fields: Mapping[str, str]) -> bytes:
    """An item as the JSON that a customer's API takes; what it says nothing of is left out.

    `fields` says where each field is found; empty: under its own name. Raises BadFile.
    """
    if not isinstance(item, dict):
        raise BadFile("It is not a JSON object.")
    body: dict[str, Any] = {}
    attributes: dict[str, Any] = {}
    for name, path in (fields or _SAME).items():
        value = at(item, path)
        if value is None:
            continue
        if name.startswith(_ATTRIBUTE):
            attributes[name.removeprefix(_ATTRIBUTE)] = value
        else:
            # Numbers are ids to many; true is none.
            body[name] = str(value) if name == "external_id" and type(value) is int else value
    if attributes:
        whole = body.get("attributes", {})
        body["attributes"] = whole | attributes if isinstance(whole, dict) else whole
    return orjson.dumps(body)


def at(value: Any, path: str) -> Any:
    """What is found there: member names with dots between; "" is the value itself."""
    for name in path.split(".") if path else ():
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _url(source: Source, cursor: str) -> str:
    asked = {source.cursor_parameter: cursor} if cursor else {}
    if source.size_parameter:
        asked[source.size_parameter] = str(source.page_size)
    return str(URL(source.url).update_query(asked))


def _headers(source: Source) -> dict[str, str]:
    """Raises Refused."""
    headers = {"accept": "application/json"}
    if source.headers:
        try:
            own: dict[str, str] = orjson.loads(secrets.decrypt(source.headers))
        except secrets.KeyLost:
            raise Refused("Its headers were encrypted by a key that is gone: set them.") from None
        headers |= {name.lower(): value for name, value in own.items()}
    return headers


def _check(answer: Answer) -> None:
    """Raises Failed, Refused, Throttled for what is no page."""
    after = retry_after(answer.headers.get("retry-after", ""), now=time.time())
    if answer.status == 429:
        raise Throttled(THROTTLED if after is None else max(after, 1.0))
    if answer.status >= 500 or answer.status in _TRANSIENT:
        raise Failed(f"The source answered {answer.status}.", after)
    if 300 <= answer.status < 400:
        raise Refused(f"The source answered {answer.status}: redirects are not followed.")
    if not answer.ok:
        raise Refused(f"The source answered {answer.status}.")
    if answer.truncated:
        most = settings.SLIPWAY["CUSTOMERS"]["sync_bytes"]
        raise Refused(f"A page is larger than {most} bytes: use a smaller page_size.")


def _read(source: Source, text: str) -> Page:
    try:
        answer = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise Failed("What the source answered is not JSON.") from None
    items = at(answer, source.items_path)
    if not isinstance(items, list):
        raise Refused(f"The answer has no list at {source.items_path or 'its root'!r}.")
    if len(items) > ITEMS_MOST:
        raise Refused(f"A page has {len(items)} items, and {ITEMS_MOST} at most are taken.")
    return Page(items, _cursor(at(answer, source.cursor_path) if source.cursor_path else None))


def _cursor(value: object) -> str:
    if value is None or value is False or value == "":
        return ""
    if type(value) is int:
        return str(value)
    if not isinstance(value, str) or len(value) > CURSOR_MOST or _CONTROL.search(value):
        raise Refused(f"Its cursor is not a text of at most {CURSOR_MOST} characters.")
    return value
