"""What events look like outside, and what the API takes."""

from collections.abc import Iterable
from typing import Annotated, Any, TypedDict

import msgspec
import orjson

from config.ids import format_id
from config.moments import Moment
from webhooks.models import Delivery, Event
from webhooks.services import TYPE_LIMIT, NewEvent, Published

BATCH_LIMIT = 500  # Events.

TypeName = Annotated[str, msgspec.Meta(max_length=TYPE_LIMIT)]
Version = Annotated[int, msgspec.Meta(ge=1, le=32767)]


class EventWish(msgspec.Struct, forbid_unknown_fields=True):
    """The body of POST /v1/events: what happened."""

    type: TypeName
    data: dict[str, Any]
    version: Version | None = None

    def event(self, key: str | None, *, batch: int = 1) -> NewEvent:
        return NewEvent(self.type, self.data, key, self.version, batch)


class EventBatch(msgspec.Struct, forbid_unknown_fields=True):
    """The body of POST /v1/events/batch: all of them or none."""

    events: Annotated[list[EventWish], msgspec.Meta(min_length=1, max_length=BATCH_LIMIT)]


class PublishedAnswer(TypedDict):
    """An event that was taken in; `deliveries` endpoints are told of it."""

    id: str
    type: str
    version: int | None
    created_at: Moment
    deliveries: int


class BatchAnswer(TypedDict):
    """The events of a batch, in its order."""

    data: list[PublishedAnswer]


class EventAnswer(TypedDict):
    """An event."""

    id: str
    type: str
    version: int | None
    created_at: Moment


class ToldAnswer(TypedDict):
    """How far the telling of an event to one endpoint is."""

    id: str
    endpoint: str
    state: str
    attempts: int


class WholeEventAnswer(EventAnswer):
    """An event with its data, which is null when it was pruned, and whom it is told."""

    data: dict[str, Any] | None
    deliveries: list[ToldAnswer]


def published_as_json(published: Published) -> PublishedAnswer:
    return {**event_as_json(published.event), "deliveries": published.deliveries}


def event_as_json(event: Event) -> EventAnswer:
    return {
        "id": format_id("evt", event.pk),
        "type": event.type,
        "version": event.version,
        "created_at": event.created_at,
    }


def whole_event_as_json(
    event: Event, *, data: str | None, deliveries: Iterable[Delivery]
) -> WholeEventAnswer:
    return {
        **event_as_json(event),
        "data": None if data is None else orjson.loads(data),
        "deliveries": [
            {
                "id": format_id("dlv", delivery.pk),
                "endpoint": format_id("ep", delivery.endpoint_id),
                "state": delivery.state,
                "attempts": delivery.attempts,
            }
            for delivery in deliveries
        ],
    }
