"""The REST API of the event-type catalogue: every key reads it, the platform's change it."""

from rest_framework.request import Request
from rest_framework.response import Response

from config.api import decode
from config.lists import (
    InvalidParameter,
    Page,
    page,
    read_cursor,
    read_limit,
    refuse_unknown_parameters,
)
from tenants.auth import CallerView
from tenants.views import caller_of, proof_of
from webhooks import catalogue
from webhooks.errors import EventTypeNotFound
from webhooks.serializers.event_types import (
    EventTypeAnswer,
    EventTypeWish,
    WholeEventTypeAnswer,
    event_type_as_json,
)
from webhooks.services import TYPE, TYPE_LIMIT


class EventTypes(CallerView):
    """GET and POST /v1/event-types."""

    scopes = {"GET": "events:read", "POST": "event-types:write"}
    bodies = {"POST": EventTypeWish}
    answers = {
        "GET": Page[EventTypeAnswer],
        "POST": {200: EventTypeAnswer, 201: EventTypeAnswer},
    }
    filters = ()

    def get(self, request: Request) -> Response:
        refuse_unknown_parameters(request, ())
        limit = read_limit(request)
        kinds = catalogue.listed(after=read_cursor(request, _name), limit=limit + 1)
        place = lambda kind: kind.name  # noqa: E731
        return Response(page(kinds, limit=limit, show=event_type_as_json, place=place))

    def post(self, request: Request) -> Response:
        """201 for a new type or version, 200 where there was nothing to add."""
        wish = decode(request, EventTypeWish, lines=True)
        caller = caller_of(request)
        kind, made = catalogue.put(
            name=wish.name,
            description=wish.description,
            schema=wish.schema,
            proof=proof_of(caller),
            actor=caller.actor,
        )
        return Response(event_type_as_json(kind), status=201 if made else 200)


class OneEventType(CallerView):
    """GET and DELETE /v1/event-types/{name}; deleting archives."""

    scopes = {"GET": "events:read", "DELETE": "event-types:write"}
    answers = {"GET": WholeEventTypeAnswer, "DELETE": {204: None}}
    parameters = {"GET": {"version": "query"}}

    def get(self, request: Request, name: str) -> Response:
        refuse_unknown_parameters(request, ("version",))
        versions = {kind.version: kind for kind in catalogue.versions_of(_known(name))}
        if not versions:
            raise EventTypeNotFound
        kind = versions.get(_version(request) or max(versions))
        if kind is None:
            raise EventTypeNotFound("There is no such version.")
        shown: WholeEventTypeAnswer = {**event_type_as_json(kind), "versions": list(versions)}
        return Response(shown)

    def delete(self, request: Request, name: str) -> Response:
        refuse_unknown_parameters(request, ())
        caller = caller_of(request)
        catalogue.archive(name=_known(name), proof=proof_of(caller), actor=caller.actor)
        return Response(status=204)


def _name(text: str) -> str:
    """A place in the list. Raises ValueError for what is no name."""
    if len(text) > TYPE_LIMIT or not TYPE.fullmatch(text):
        raise ValueError("not a name")
    return text


def _known(text: str) -> str:
    """A name in an address. Raises EventTypeNotFound for what is none."""
    try:
        return _name(text)
    except ValueError:
        raise EventTypeNotFound from None


def _version(request: Request) -> int | None:
    """The version that the caller asks for. Raises InvalidParameter."""
    text = str(request.GET.get("version", ""))
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 5):
        raise InvalidParameter("version is a whole number.", parameter="version")
    return int(text)
