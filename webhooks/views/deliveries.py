"""Deliveries and their attempts: a tenant's, and under /v1/platform/ the platform's own."""

from collections.abc import Callable
from datetime import datetime
from typing import Any
from uuid import UUID

from django.http import QueryDict
from rest_framework.request import Request
from rest_framework.response import Response

from config.api import decode
from config.ids import InvalidId, parse_id
from config.lists import (
    InvalidParameter,
    Page,
    page,
    read_cursor,
    read_limit,
    refuse_unknown_parameters,
)
from config.moments import utc
from jobs.keeping import kept
from jobs.models import Attempt, DeadLetter
from jobs.states import State
from tenants.serializers import Because
from webhooks import replaying
from webhooks.listing import listed
from webhooks.models import Delivery
from webhooks.replaying import QUEUE
from webhooks.serializers.deliveries import (
    AttemptAnswer,
    DeliveryAnswer,
    OneDeliveryAnswer,
    attempt_as_json,
    body_of,
    delivery_as_json,
    letter_as_json,
)
from webhooks.views.owner import OwnerView


def _moment(text: str) -> datetime:
    return utc(datetime.fromisoformat(text))


# Query parameter → how to read it. Each raises ValueError for what it cannot read.
FILTERS: dict[str, Callable[[str], Any]] = {
    "endpoint": lambda text: _id("ep", text),
    "event": lambda text: _id("evt", text),
    "type": str,
    "state": State,
    "since": _moment,
    "until": _moment,
}


class Deliveries(OwnerView):
    """GET /v1/deliveries: newest first."""

    scopes = {"GET": "deliveries:read"}
    answers = {"GET": Page[DeliveryAnswer]}
    filters = FILTERS

    def get(self, request: Request) -> Response:
        refuse_unknown_parameters(request, tuple(FILTERS))
        limit = read_limit(request)
        before = read_cursor(request, UUID)
        found = listed(_asked(request.GET), before=before, most=limit + 1)
        shown = page(found.rows, limit=limit, show=delivery_as_json, place=_place, then=found.place)
        return Response(shown)


class OneDelivery(OwnerView):
    """GET /v1/deliveries/{id}."""

    scopes = {"GET": "deliveries:read"}
    answers = {"GET": OneDeliveryAnswer}

    def get(self, request: Request, delivery_id: str) -> Response:
        delivery = replaying.find(parse_id("dlv", delivery_id))
        letter = _letter(delivery)
        shown: OneDeliveryAnswer = {
            **delivery_as_json(delivery),
            "dead_letter": letter_as_json(letter) if letter else None,
        }
        return Response(shown)


class Attempts(OwnerView):
    """GET /v1/deliveries/{id}/attempts: every try, the first one first."""

    scopes = {"GET": "deliveries:read"}
    answers = {"GET": Page[AttemptAnswer]}
    filters = ()

    def get(self, request: Request, delivery_id: str) -> Response:
        refuse_unknown_parameters(request, ())
        limit = read_limit(request)
        delivery = replaying.find(parse_id("dlv", delivery_id))
        after = read_cursor(request, UUID) or UUID(int=0)
        rows = Attempt.objects.filter(queue=QUEUE, work_id=delivery.pk, pk__gt=after)
        letter = _letter(delivery)
        found = {one.pk: one for one in kept(letter) if one.pk > after} if letter else {}
        found |= {one.pk: one for one in rows.order_by("id")[: limit + 1]}
        tried = sorted(found.values(), key=lambda one: one.pk)
        body = body_of(delivery)
        show = lambda attempt: attempt_as_json(attempt, body)  # noqa: E731
        return Response(page(tried[: limit + 1], limit=limit, show=show, place=_place))


class ReplayDelivery(OwnerView):
    """POST /v1/deliveries/{id}/replay: send it again, whether it is dead, done or given up."""

    scopes = {"POST": "deliveries:write"}
    bodies = {"POST": Because}
    answers = {"POST": {202: DeliveryAnswer}}

    def post(self, request: Request, delivery_id: str) -> Response:
        because = decode(request, Because)
        delivery = replaying.replay(
            delivery_id=parse_id("dlv", delivery_id),
            actor=self.caller(request).actor,
            reason=because.reason,
        )
        return Response(delivery_as_json(delivery), status=202)


class RetryDelivery(OwnerView):
    """POST /v1/deliveries/{id}/retry: try it now, and not when its next try is due."""

    scopes = {"POST": "deliveries:write"}
    bodies = {"POST": Because}
    answers = {"POST": {202: DeliveryAnswer}}

    def post(self, request: Request, delivery_id: str) -> Response:
        because = decode(request, Because)
        delivery = replaying.retry(
            delivery_id=parse_id("dlv", delivery_id),
            actor=self.caller(request).actor,
            reason=because.reason,
        )
        return Response(delivery_as_json(delivery), status=202)


class DiscardDelivery(OwnerView):
    """POST /v1/deliveries/{id}/discard: give it up, whether it is dead or waits."""

    scopes = {"POST": "deliveries:write"}
    bodies = {"POST": Because}
    answers = {"POST": {202: DeliveryAnswer}}

    def post(self, request: Request, delivery_id: str) -> Response:
        because = decode(request, Because)
        delivery = replaying.discard(
            delivery_id=parse_id("dlv", delivery_id),
            actor=self.caller(request).actor,
            reason=because.reason,
        )
        return Response(delivery_as_json(delivery), status=202)


def _letter(delivery: Delivery) -> DeadLetter | None:
    """The open one."""
    letters = DeadLetter.objects.filter(queue=QUEUE, work_id=delivery.pk, resolved_at=None)
    return letters.first()


def _id(prefix: str, text: str) -> UUID:
    try:
        return parse_id(prefix, text)
    except InvalidId:
        raise ValueError(text) from None


def _asked(parameters: QueryDict) -> dict[str, Any]:
    """What the query parameters ask for. Raises InvalidParameter."""
    asked = {}
    for name, read in FILTERS.items():
        text = parameters.get(name)
        if text is None:
            continue
        try:
            if len(text) > 100:
                raise ValueError
            asked[name] = read(text)
        except ValueError:
            raise InvalidParameter(f"{name} is not valid.", parameter=name) from None
    return asked


def _place(row: Any) -> str:
    return str(row.pk)
