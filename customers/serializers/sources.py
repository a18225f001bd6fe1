"""What a source and its syncs look like outside, and what their API takes."""

import re
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, TypedDict

import msgspec
from msgspec import UNSET, Meta, UnsetType

from config.ids import format_id
from config.moments import Moment
from config.problems import FieldError, escape
from config.spelling import unseen_flaw
from customers.models import Source, Sync
from customers.rows import COLUMNS
from webhooks.addresses import policy
from webhooks.custom_headers import MASK, names
from webhooks.custom_headers import flaws as header_flaws
from webhooks.destinations import BadUrl, destination

LEAST_MINUTES, MOST_MINUTES = 5, 31 * 24 * 60
_MOST_FIELDS = 60
_NAME = re.compile(r"attributes\.[^\x00-\x1f\x7f]{1,64}")

SourceName = Annotated[str, Meta(min_length=1, max_length=100)]
Url = Annotated[str, Meta(max_length=2048)]
Path = Annotated[str, Meta(max_length=200)]
Parameter = Annotated[str, Meta(max_length=100)]
Minutes = Annotated[int, Meta(ge=LEAST_MINUTES, le=MOST_MINUTES)]


class SourceChange(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """The body of PATCH: what is left out stays as it is.

    `headers` are merged (RFC 7396): a name with null is removed. `fields` says where an item has
    each field of a customer; empty: under its own name. `every_minutes` of null is: when asked for.
    """

    name: SourceName | UnsetType = UNSET
    url: Url | UnsetType = UNSET
    headers: dict[str, str | None] | UnsetType = UNSET
    items_path: Path | UnsetType = UNSET
    cursor_path: Path | UnsetType = UNSET
    cursor_parameter: Parameter | UnsetType = UNSET
    size_parameter: Parameter | UnsetType = UNSET
    page_size: Annotated[int, Meta(ge=1, le=1000)] | UnsetType = UNSET
    fields: dict[str, Path] | UnsetType = UNSET
    every_minutes: Minutes | UnsetType | None = UNSET

    @staticmethod
    def flaws(read: Any) -> Iterator[FieldError]:
        """What the types cannot say."""
        for name in ("name", "items_path", "cursor_path", "cursor_parameter", "size_parameter"):
            value = getattr(read, name)
            if isinstance(value, str) and (flaw := unseen_flaw(value)):
                yield FieldError(f"/{name}", *flaw)
        if read.cursor_parameter == "":
            yield FieldError("/cursor_parameter", "too_short", "Name the parameter.")
        if isinstance(read.url, str):
            try:
                destination(read.url, policy())
            except BadUrl as error:
                yield FieldError("/url", "invalid_url", str(error))
        if isinstance(read.headers, dict):
            yield from header_flaws(read.headers)
        if isinstance(read.fields, dict):
            yield from _field_flaws(read.fields)

    def given(self) -> dict[str, Any]:
        """What `customers.sources` takes: the fields that the body names."""
        values = {name: getattr(self, name) for name in SourceChange.__struct_fields__}
        given = {name: value for name, value in values.items() if value is not UNSET}
        if "every_minutes" in given:
            given["every"] = given.pop("every_minutes")
        return given


class SourceWish(SourceChange, kw_only=True):
    """The body of POST: a source that is to be."""

    name: SourceName
    url: Url

    @staticmethod
    def flaws(read: Any) -> Iterator[FieldError]:
        """What the types cannot say."""
        yield from SourceChange.flaws(read)


class SourceAnswer(TypedDict):
    """A source. Values of headers are never shown."""

    id: str
    name: str
    url: str
    headers: dict[str, str]
    items_path: str
    cursor_path: str
    cursor_parameter: str
    size_parameter: str
    page_size: int
    fields: dict[str, str]
    every_minutes: int | None
    created_at: Moment
    updated_at: Moment


class SyncAnswer(TypedDict):
    """A sync; its counts are of items. `error`: why it ended, or why the last try failed."""

    id: str
    source_id: str
    status: str
    pages: int
    read: int
    created: int
    updated: int
    unchanged: int
    rejected: int
    error: str
    created_at: Moment
    started_at: Moment | None
    finished_at: Moment | None


def source_as_json(source: Source) -> SourceAnswer:
    return {
        "id": format_id("src", source.pk),
        "name": source.name,
        "url": source.url,
        "headers": dict.fromkeys(names(source.headers), MASK),
        "items_path": source.items_path,
        "cursor_path": source.cursor_path,
        "cursor_parameter": source.cursor_parameter,
        "size_parameter": source.size_parameter,
        "page_size": source.page_size,
        "fields": source.fields,
        "every_minutes": source.every,
        "created_at": source.created_at,
        "updated_at": source.updated_at,
    }


def sync_as_json(found: Sync, *, stuck: bool = False) -> SyncAnswer:
    return {
        "id": format_id("syn", found.pk),
        "source_id": format_id("src", found.source_id),
        "status": "stuck" if stuck else found.status,
        "pages": found.pages,
        "read": found.read,
        "created": found.created,
        "updated": found.updated,
        "unchanged": found.unchanged,
        "rejected": found.rejected,
        "error": found.error,
        "created_at": found.created_at,
        "started_at": found.started_at,
        "finished_at": found.finished_at,
    }


def _field_flaws(fields: dict[str, str]) -> Sequence[FieldError]:
    errors = []
    if fields and "external_id" not in fields:
        message = "Say where the id is by which a second sync finds the customer again."
        errors.append(FieldError("/fields/external_id", "required", message))
    if len(fields) > _MOST_FIELDS:
        errors.append(FieldError("/fields", "too_many", f"At most {_MOST_FIELDS} fields."))
    for name, path in fields.items():
        pointer = f"/fields/{escape(name[:80])}"
        if name not in COLUMNS and not _NAME.fullmatch(name):
            message = "Name the fields of a customer; others are attributes.<name>."
            errors.append(FieldError(pointer, "unknown_field", message))
        elif not path or unseen_flaw(path):
            errors.append(FieldError(pointer, "invalid_path", "Names of members, dots between."))
    return errors
