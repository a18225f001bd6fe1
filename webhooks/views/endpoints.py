"""Endpoints: a tenant's, and under /v1/platform/ the platform's own."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db.models import Q, QuerySet
from django.http import QueryDict
from rest_framework.request import Request
from rest_framework.response import Response

from config import idempotency
from config.api import decode, decode_if_any
from config.ids import format_id, parse_id
from config.lists import (
    InvalidParameter,
    Page,
    page,
    read_cursor,
    read_limit,
    refuse_unknown_parameters,
)
from config.spelling import unseen_flaw
from tenants.serializers import REASON_MOST
from webhooks import endpoints, filters
from webhooks.health import health
from webhooks.models import Endpoint
from webhooks.repeating import Repeatable
from webhooks.serializers.endpoints import (
    Disabling,
    Enabling,
    EndpointAnswer,
    EndpointChange,
    EndpointWish,
    NewEndpointAnswer,
    NewSecretAnswer,
    OneEndpointAnswer,
    Rotation,
    TestAnswer,
    endpoint_as_json,
    health_as_json,
    secret_ages,
)
from webhooks.views.owner import OwnerView


def _disabled(text: str) -> Q:
    return Q(disabled_at__isnull={"true": False, "false": True}[text])


def _event_type(text: str) -> Q:
    """Those that hear of this type: by name, by prefix, or of everything."""
    return Q(event_types=[]) | Q(event_types__overlap=filters.matching(text))


FILTERS: dict[str, Callable[[str], Q]] = {"disabled": _disabled, "event_type": _event_type}


class Endpoints(OwnerView):
    """GET and POST /v1/endpoints."""

    scopes = {"GET": "endpoints:read", "POST": "endpoints:write"}
    bodies = {"POST": EndpointWish}
    answers = {"GET": Page[EndpointAnswer], "POST": {201: NewEndpointAnswer}}
    parameters = {"POST": {"Idempotency-Key": "header"}}
    filters = FILTERS

    def get(self, request: Request) -> Response:
        refuse_unknown_parameters(request, tuple(FILTERS))
        limit = read_limit(request)
        rows = _filtered(Endpoint.objects.filter(deleted_at=None).order_by("-id"), request.GET)
        before = read_cursor(request, UUID)
        rows = rows.filter(pk__lt=before) if before else rows
        shown = page(rows[: limit + 1], limit=limit, show=endpoint_as_json, place=_place)
        return Response(shown)

    def post(self, request: Request) -> Response:
        owner = self.owner(request)
        header = request.headers.get("Idempotency-Key")
        key = idempotency.parse(header, caller=str(owner.id), stranger=False)
        wish = decode(request, EndpointWish)
        made = endpoints.create(
            tenant=owner,
            fields=wish.fields() | {"disabled": wish.disabled},
            actor=self.caller(request).actor,
            secret=wish.secret,
            once=Repeatable(key.digest, wish.fingerprint()) if key else None,
        )
        shown: NewEndpointAnswer = {**endpoint_as_json(made.endpoint), "secret": made.secret}
        headers = {"Location": f"{request.path}/{shown['id']}"}
        if made.replayed:
            headers["Idempotent-Replayed"] = "true"
        return Response(shown, status=201, headers=headers)


class OneEndpoint(OwnerView):
    """GET, PATCH and DELETE /v1/endpoints/{id}."""

    scopes = {
        "GET": "endpoints:read",
        "PATCH": "endpoints:write",
        "DELETE": "endpoints:write",
    }
    bodies = {"PATCH": EndpointChange}
    answers = {"GET": OneEndpointAnswer, "PATCH": OneEndpointAnswer, "DELETE": {204: None}}
    parameters = {"DELETE": {"reason": "query"}}

    def get(self, request: Request, endpoint_id: str) -> Response:
        return Response(_whole(endpoints.find(parse_id("ep", endpoint_id))))

    def patch(self, request: Request, endpoint_id: str) -> Response:
        endpoint = endpoints.change(
            tenant=self.owner(request),
            endpoint_id=parse_id("ep", endpoint_id),
            fields=decode(request, EndpointChange).fields(),
            actor=self.caller(request).actor,
        )
        return Response(_whole(endpoint))

    def delete(self, request: Request, endpoint_id: str) -> Response:
        refuse_unknown_parameters(request, ("reason",))
        reason = str(request.GET.get("reason", "")).strip()
        if len(reason) > REASON_MOST or unseen_flaw(reason):
            raise InvalidParameter("reason is not valid.", parameter="reason")
        endpoints.delete(
            tenant=self.owner(request),
            endpoint_id=parse_id("ep", endpoint_id),
            actor=self.caller(request).actor,
            reason=reason,
        )
        return Response(status=204)


class EndpointSecret(OwnerView):
    """POST /v1/endpoints/{id}/secret/rotate: sign with a new secret, which is shown once."""

    scopes = {"POST": "endpoints:write"}
    bodies = {"POST": Rotation}
    answers = {"POST": NewSecretAnswer}

    def post(self, request: Request, endpoint_id: str) -> Response:
        wish = decode_if_any(request, Rotation)
        made = endpoints.rotate_secret(
            tenant=self.owner(request),
            endpoint_id=parse_id("ep", endpoint_id),
            overlap=timedelta(seconds=wish.overlap_seconds),
            actor=self.caller(request).actor,
            secret=wish.secret,
        )
        shown: NewSecretAnswer = {
            "secret": made.secret,
            "secrets": secret_ages(made.endpoint.secrets),
        }
        return Response(shown)


class DisableEndpoint(OwnerView):
    """POST /v1/endpoints/{id}/disable: hold what there is to tell."""

    scopes = {"POST": "endpoints:write"}
    bodies = {"POST": Disabling}
    answers = {"POST": OneEndpointAnswer}

    def post(self, request: Request, endpoint_id: str) -> Response:
        wish = decode_if_any(request, Disabling)
        id_ = parse_id("ep", endpoint_id)
        actor, reason = self.caller(request).actor, wish.reason.strip()
        endpoints.disable(tenant=self.owner(request), endpoint_id=id_, actor=actor, reason=reason)
        return Response(_whole(endpoints.find(id_)))


class EnableEndpoint(OwnerView):
    """POST /v1/endpoints/{id}/enable: deliver what was held, or discard it."""

    scopes = {"POST": "endpoints:write"}
    bodies = {"POST": Enabling}
    answers = {"POST": OneEndpointAnswer}

    def post(self, request: Request, endpoint_id: str) -> Response:
        wish = decode_if_any(request, Enabling)
        id_ = parse_id("ep", endpoint_id)
        endpoints.enable(
            tenant=self.owner(request),
            endpoint_id=id_,
            actor=self.caller(request).actor,
            discard=wish.held == "discard",
            reason=wish.reason.strip(),
        )
        return Response(_whole(endpoints.find(id_)))


class TestEndpoint(OwnerView):
    """POST /v1/endpoints/{id}/test: have `webhook.test` delivered to this endpoint alone."""

    scopes = {"POST": "endpoints:write"}
    answers = {"POST": {202: TestAnswer}}

    def post(self, request: Request, endpoint_id: str) -> Response:
        test = endpoints.send_test(
            tenant=self.owner(request),
            endpoint_id=parse_id("ep", endpoint_id),
            actor=self.caller(request).actor,
        )
        shown: TestAnswer = {
            "delivery_id": format_id("dlv", test.delivery_id),
            "event_id": format_id("evt", test.event_id),
        }
        return Response(shown, status=202)


def _whole(endpoint: Endpoint) -> OneEndpointAnswer:
    return {**endpoint_as_json(endpoint), "health": health_as_json(health(endpoint))}


def _filtered(rows: QuerySet[Endpoint], parameters: QueryDict) -> QuerySet[Endpoint]:
    """The rows that the query parameters ask for. Raises InvalidParameter."""
    for name, read in FILTERS.items():
        text: Any = parameters.get(name)
        if text is None:
            continue
        try:
            if not text or len(text) > 100:
                raise ValueError
            rows = rows.filter(read(text))
        except (ValueError, KeyError):
            raise InvalidParameter(f"{name} is not valid.", parameter=name) from None
    return rows


def _place(endpoint: Endpoint) -> str:
    return str(endpoint.pk)
