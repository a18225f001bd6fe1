"""The tenant's REST API for its customers."""

from collections.abc import Callable
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any
from uuid import UUID

from django.db.models import QuerySet
from django.http import QueryDict
from rest_framework.request import Request
from rest_framework.response import Response

from config.api import decode
from config.ids import parse_id
from config.lists import (
    InvalidParameter,
    Page,
    page,
    read_cursor,
    read_limit,
    refuse_unknown_parameters,
)
from config.moments import utc
from customers import services
from customers.errors import CustomerNotFound
from customers.models import Consent, Customer
from customers.phones import normalise
from customers.serializers.customers import (
    CustomerAnswer,
    CustomerChange,
    CustomerPatch,
    amount,
    amount_flaw,
    customer_as_json,
)
from tenants.auth import Caller, CallerView


def _moment(text: str) -> datetime:
    return utc(datetime.fromisoformat(text))


def _amount(text: str) -> Decimal:
    read = Decimal(text)
    if flaw := amount_flaw(read):
        raise ValueError(flaw[1])
    return amount(read)


# Query parameter → (look-up, how its text is read).
FILTERS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "external_id": ("external_id", str),
    "email": ("email", lambda text: text.strip().lower()),
    "phone": ("phone", normalise),
    "consent": ("consent", Consent),
    "last_purchase_after": (
        "last_purchase_at__gte",
        _moment,
    ),
    "last_purchase_before": (
        "last_purchase_at__lt",
        _moment,
    ),
    "lifetime_value_min": ("lifetime_value__gte", _amount),
    "lifetime_value_max": ("lifetime_value__lte", _amount),
}


class Customers(CallerView):
    """GET and POST /v1/customers."""

    tenant_required = True
    scopes = {"GET": "customers:read", "POST": "customers:write"}
    bodies = {"POST": CustomerChange}
    answers = {"GET": Page[CustomerAnswer], "POST": {201: CustomerAnswer}}
    filters = FILTERS

    def get(self, request: Request) -> Response:
        refuse_unknown_parameters(request, tuple(FILTERS))
        limit = read_limit(request)
        rows = filtered(Customer.objects.order_by("-id"), request.GET)
        before = read_cursor(request, UUID)
        rows = rows.filter(pk__lt=before) if before else rows
        shown = page(rows[: limit + 1], limit=limit, show=customer_as_json, place=_place)
        return Response(shown)

    def post(self, request: Request) -> Response:
        change = decode(request, CustomerChange)
        customer = services.create_customer(fields=change.fields(), actor=_actor(request))
        shown = customer_as_json(customer)
        return Response(shown, status=201, headers={"Location": f"/v1/customers/{shown['id']}"})


class OneCustomer(CallerView):
    """GET, PATCH and DELETE /v1/customers/{id}."""

    tenant_required = True
    scopes = {
        "GET": "customers:read",
        "PATCH": "customers:write",
        "DELETE": "customers:write",
    }
    bodies = {"PATCH": CustomerPatch}
    answers = {"GET": CustomerAnswer, "PATCH": CustomerAnswer, "DELETE": {204: None}}

    def get(self, request: Request, customer_id: str) -> Response:
        customer = Customer.objects.filter(pk=parse_id("cus", customer_id)).first()
        if customer is None:
            raise CustomerNotFound
        return Response(customer_as_json(customer))

    def patch(self, request: Request, customer_id: str) -> Response:
        change = decode(request, CustomerPatch)
        customer = services.change_customer(
            customer_id=parse_id("cus", customer_id),
            fields=change.fields(),
            actor=_actor(request),
            reason=change.consent_reason.strip(),
        )
        return Response(customer_as_json(customer))

    def delete(self, request: Request, customer_id: str) -> Response:
        services.delete_customer(customer_id=parse_id("cus", customer_id), actor=_actor(request))
        return Response(status=204)


def filtered(rows: QuerySet[Customer], parameters: QueryDict) -> QuerySet[Customer]:
    """The rows that the query parameters ask for. Raises InvalidParameter."""
    for name, (look_up, read) in FILTERS.items():
        text = parameters.get(name)
        if text is None:
            continue
        try:
            if len(text) > 300:
                raise ValueError
            rows = rows.filter(**{look_up: read(text)})
        except (ValueError, InvalidOperation):
            raise InvalidParameter(f"{name} is not valid.", parameter=name) from None
    return rows


def _place(customer: Customer) -> str:
    return str(customer.pk)


def _actor(request: Request) -> str:
    caller: Caller = request.caller  # type: ignore[attr-defined]
    return caller.actor
