"""What a segment and a preview look like outside, and what their API takes."""

from collections.abc import Iterator
from typing import Annotated, Any, TypedDict

import msgspec
from msgspec import UNSET, Meta, UnsetType

from campaigns.models import Segment
from campaigns.preview import Preview, Recipient
from config.ids import format_id
from config.moments import Moment
from config.problems import FieldError
from config.spelling import unseen_flaw

Name = Annotated[str, Meta(min_length=1, max_length=100)]
Id = Annotated[str, Meta(max_length=50)]


class SegmentChange(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """The body of PATCH: what is left out stays as it is."""

    name: Name | UnsetType = UNSET
    filter: dict[str, Any] | UnsetType = UNSET

    @staticmethod
    def flaws(read: Any) -> Iterator[FieldError]:
        """What the types cannot say; campaigns.filters looks at the filter."""
        yield from name_flaws(read.name)

    def fields(self) -> dict[str, Any]:
        """The fields that the body names."""
        given = {name: getattr(self, name) for name in self.__struct_fields__}
        return {name: value for name, value in given.items() if value is not UNSET}


class SegmentWish(msgspec.Struct, forbid_unknown_fields=True):
    """The body of POST."""

    name: Name
    filter: dict[str, Any]

    @staticmethod
    def flaws(read: Any) -> Iterator[FieldError]:
        """What the types cannot say; campaigns.filters looks at the filter."""
        yield from name_flaws(read.name)


class PreviewWish(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a preview: a filter or a segment, and what is to be said, if that is known."""

    filter: dict[str, Any] | None = None
    segment_id: Id | None = None
    template_id: Id | None = None
    variables: dict[str, Any] = {}
    account_id: Id | None = None

    @staticmethod
    def flaws(read: Any) -> Iterator[FieldError]:
        """What the types cannot say; campaigns.filters looks at the filter."""
        if (read.filter is None) == (read.segment_id is None):
            message = "Name a segment or give a filter, and not both."
            yield FieldError("/filter", "segment_or_filter", message)


class SegmentAnswer(TypedDict):
    """A filter with a name. Amounts in it are in the tenant's `currency`; null: nobody has said."""

    id: str
    name: str
    filter: dict[str, Any]
    currency: str | None
    created_at: Moment
    updated_at: Moment


class RecipientAnswer(TypedDict):
    """One who would get a message, and what it would say."""

    customer_id: str
    external_id: str | None
    name: str
    phone: str
    variables: dict[str, str]
    text: str | None


class PreviewAnswer(TypedDict):
    """What a campaign would come to. `sample` is null without the scope customers:read.

    `approximate`: there was no time to count all; one customer in 64 was, and multiplied.
    """

    count: int
    messages: int
    approximate: bool
    skips: dict[str, int]
    sample: list[RecipientAnswer] | None
    estimated_seconds: int | None
    currency: str | None


def segment_as_json(segment: Segment, *, currency: str | None) -> SegmentAnswer:
    return {
        "id": format_id("seg", segment.pk),
        "name": segment.name,
        "filter": segment.filter,
        "currency": currency,
        "created_at": segment.created_at,
        "updated_at": segment.updated_at,
    }


def preview_as_json(found: Preview, *, sample: bool) -> PreviewAnswer:
    return {
        "count": found.count,
        "messages": found.messages,
        "approximate": found.approximate,
        "skips": dict(found.skips),
        "sample": [_recipient(each) for each in found.sample] if sample else None,
        "estimated_seconds": found.estimated_seconds,
        "currency": found.currency,
    }


def _recipient(recipient: Recipient) -> RecipientAnswer:
    return {
        "customer_id": format_id("cus", recipient.customer_id),
        "external_id": recipient.external_id,
        "name": recipient.name,
        "phone": recipient.phone,
        "variables": dict(recipient.params),
        "text": recipient.text,
    }


def name_flaws(name: Any) -> Iterator[FieldError]:
    """What is wrong with a name."""
    if not isinstance(name, str):
        return
    if not name.strip():
        yield FieldError("/name", "too_short", "A name says something.")
    elif flaw := unseen_flaw(name):
        yield FieldError("/name", *flaw)
