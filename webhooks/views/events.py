"""The REST API of events: publishing them, and reading what was published."""

import hashlib
from collections.abc import Callable
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import QuerySet
from django.http import QueryDict
from rest_framework.request import Request
from rest_framework.response import Response

from config import idempotency, limits
from config.api import decode
from config.ids import parse_id
from config.limits import Limit
from config.lists import (
    InvalidParameter,
    Page,
    page,
    read_cursor,
    read_limit,
    refuse_unknown_parameters,
)
from config.moments import utc
from jobs.models import NEWEST
from webhooks import services
from webhooks.errors import EventNotFound
from webhooks.models import Delivery, Event, Payload
from webhooks.serializers.events import (
    BatchAnswer,
    EventAnswer,
    EventBatch,
    EventWish,
    PublishedAnswer,
    WholeEventAnswer,
    event_as_json,
    published_as_json,
    whole_event_as_json,
)
from webhooks.services import NewEvent, Published
from webhooks.views.owner import OwnerView

BODY_LIMIT = services.DATA_LIMIT + 64 * 1024  # Bytes: the data may be spelled at some length.
BATCH_BODY_LIMIT = 1024 * 1024
MOST_TOLD = 200  # Deliveries shown with their event.
FILTERS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "type": ("type", str),
    "since": ("created_at__gte", lambda text: utc(datetime.fromisoformat(text))),
    "until": ("created_at__lt", lambda text: utc(datetime.fromisoformat(text))),
}
_KEY = {"POST": {"Idempotency-Key": "header"}}


class Events(OwnerView):
    """GET and POST /v1/events."""

    scopes = {"GET": "events:read", "POST": "events:write"}
    bodies = {"POST": EventWish}
    answers = {"GET": Page[EventAnswer], "POST": {202: PublishedAnswer}}
    parameters = _KEY
    filters = FILTERS

    def get(self, request: Request) -> Response:
        refuse_unknown_parameters(request, tuple(FILTERS))
        limit = read_limit(request)
        rows = filtered(Event.objects.order_by(NEWEST), request.GET)
        before = read_cursor(request, UUID)
        rows = rows.filter(pk__lt=before) if before else rows
        place = lambda event: str(event.pk)  # noqa: E731
        return Response(page(rows[: limit + 1], limit=limit, show=event_as_json, place=place))

    def post(self, request: Request) -> Response:
        keys = _keys(self, request, 1)
        wish = decode(request, EventWish, limit=BODY_LIMIT, lines=True)
        [published] = _accept(self, request, [wish.event(keys[0])], places=[""])
        return _accepted(published_as_json(published), replayed=published.replayed)


class EventsBatch(OwnerView):
    """POST /v1/events/batch: up to 500 at once, all or none."""

    scopes = {"POST": "events:write"}
    bodies = {"POST": EventBatch}
    answers = {"POST": {202: BatchAnswer}}
    parameters = _KEY

    def post(self, request: Request) -> Response:
        batch = decode(request, EventBatch, limit=BATCH_BODY_LIMIT, lines=True)
        many = len(batch.events)
        keys = _keys(self, request, many)
        events = [wish.event(key, batch=many) for wish, key in zip(batch.events, keys, strict=True)]
        places = [f"/events/{index}" for index in range(many)]
        published = _accept(self, request, events, places=places)
        shown: BatchAnswer = {"data": [published_as_json(each) for each in published]}
        return _accepted(shown, replayed=published[0].replayed)


class OneEvent(OwnerView):
    """GET /v1/events/{id}: with its data, and how far each endpoint's delivery is."""

    scopes = {"GET": "events:read"}
    answers = {"GET": WholeEventAnswer}

    def get(self, request: Request, event_id: str) -> Response:
        event = Event.objects.filter(pk=parse_id("evt", event_id)).first()
        if event is None:
            raise EventNotFound
        deliveries = Delivery.objects.filter(event_id=event.pk).order_by("id")[:MOST_TOLD]
        return Response(whole_event_as_json(event, data=data_of(event), deliveries=deliveries))


def data_of(event: Event) -> str | None:
    """What the event says, as JSON; None when it was pruned."""
    if event.kept_payload is not None:
        return event.kept_payload
    # Partitioned by created_at: without it every day would be asked.
    said = Payload.objects.filter(event_id=event.pk, created_at=event.created_at)
    return said.values_list("data", flat=True).first()


def filtered(rows: QuerySet[Event], parameters: QueryDict) -> QuerySet[Event]:
    """The rows that the query parameters ask for. Raises InvalidParameter."""
    for name, (look_up, read) in FILTERS.items():
        text = parameters.get(name)
        if text is None:
            continue
        try:
            if len(text) > services.TYPE_LIMIT:
                raise ValueError
            rows = rows.filter(**{look_up: read(text)})
        except ValueError:
            raise InvalidParameter(f"{name} is not valid.", parameter=name) from None
    return rows


def _accept(
    view: OwnerView, request: Request, events: list[NewEvent], *, places: list[str]
) -> list[Published]:
    """Count and publish. Raises RateLimited, and what services.accept does."""
    caller = view.caller(request)
    tenant = caller.tenant_ref
    if caller.tenant is not None:
        amount, seconds = caller.tenant.allowance("events")
        limits.take(request, Limit("events", amount, seconds).of(str(tenant.id), many=len(events)))
    published = services.accept(tenant_id=tenant.id, events=events, places=places)
    if published[0].replayed:
        limits.give_back(request)
    return published


def _keys(view: OwnerView, request: Request, many: int) -> list[str | None]:
    """The idempotency keys of a request's events, from its one. Raises BadKey.

    Hashed, and told apart from those that code uses: no caller of the API can take one of these.
    """
    header = request.META.get("HTTP_IDEMPOTENCY_KEY")
    key = idempotency.parse(header, caller=str(view.caller(request).tenant_ref.id), stranger=False)
    if key is None:
        return [None] * many
    each = (f"{key.digest.hex()}/{index}" for index in range(many))
    return ["api:" + hashlib.sha256(text.encode()).hexdigest() for text in each]


def _accepted(shown: Any, *, replayed: bool) -> Response:
    return Response(shown, status=202, headers={"Idempotent-Replayed": "true"} if replayed else {})
