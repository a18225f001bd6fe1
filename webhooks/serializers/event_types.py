"""What the catalogue looks like outside, and what the platform may put into it."""

from collections.abc import Iterator
from typing import Annotated, Any, TypedDict

import msgspec

from config.moments import Moment
from config.problems import FieldError
from config.spelling import unseen_flaw
from webhooks import catalogue
from webhooks.catalogue import Kind
from webhooks.services import TYPE, TYPE_LIMIT


class EventTypeWish(msgspec.Struct, forbid_unknown_fields=True):
    """The body of POST /v1/event-types."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=TYPE_LIMIT)]
    description: Annotated[str, msgspec.Meta(max_length=500)] = ""
    schema: dict[str, Any] | bool | None = None

    @staticmethod
    def flaws(read: Any) -> Iterator[FieldError]:
        """What the types cannot say."""
        if isinstance(read.name, str) and not TYPE.fullmatch(read.name):
            message = "Use words of letters, digits and _, with dots between."
            yield FieldError("/name", "invalid_format", message)
        if isinstance(read.description, str) and (flaw := unseen_flaw(read.description)):
            yield FieldError("/description", *flaw)


class EventTypeAnswer(TypedDict):
    """A type of event. `built_in` types are published by Slipway itself or by its code alone."""

    name: str
    version: int
    description: str
    schema: dict[str, Any] | bool | None
    built_in: bool
    created_at: Moment | None
    archived_at: Moment | None


class WholeEventTypeAnswer(EventTypeAnswer):
    """A type of event with the numbers of all its versions, newest first."""

    versions: list[int]


def event_type_as_json(kind: Kind) -> EventTypeAnswer:
    return {
        "name": kind.name,
        "version": kind.version,
        "description": kind.description,
        "schema": kind.schema,
        "built_in": kind.name in catalogue.in_code(),
        "created_at": kind.created_at,
        "archived_at": kind.archived_at,
    }
