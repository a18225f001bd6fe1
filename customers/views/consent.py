"""The REST API of what customers want: the log of their consent, and the suppressed numbers."""

from uuid import UUID

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
from config.spelling import unseen_flaw
from customers import suppressions
from customers.errors import CustomerNotFound, SuppressionNotFound
from customers.models import ConsentChange, Customer, Suppression
from customers.phones import InvalidPhone, normalise
from customers.serializers.consent import (
    ConsentAnswer,
    SuppressedAnswer,
    SuppressionAnswer,
    SuppressionsWish,
    consent_as_json,
    suppression_as_json,
)
from tenants.auth import Caller, CallerView
from tenants.serializers import REASON_LEAST, REASON_MOST

FILTERS = ("phone", "reason")


class ConsentLog(CallerView):
    """GET /v1/customers/{id}/consent: each change of it, newest first."""

    tenant_required = True
    scopes = {"GET": "customers:read"}
    answers = {"GET": Page[ConsentAnswer]}
    filters = ()

    def get(self, request: Request, customer_id: str) -> Response:
        refuse_unknown_parameters(request, ())
        limit = read_limit(request)
        id_ = parse_id("cus", customer_id)
        if not Customer.objects.filter(pk=id_).exists():
            raise CustomerNotFound
        found = ConsentChange.objects.filter(customer_id=id_).order_by("-id")
        before = read_cursor(request, UUID)
        found = found.filter(pk__lt=before) if before else found
        place = lambda row: str(row.pk)  # noqa: E731
        return Response(page(found[: limit + 1], limit=limit, show=consent_as_json, place=place))


class Suppressions(CallerView):
    """GET and POST /v1/customers/suppressions: the numbers that no campaign writes to."""

    tenant_required = True
    scopes = {"GET": "customers:read", "POST": "customers:write"}
    bodies = {"POST": SuppressionsWish}
    answers = {"GET": Page[SuppressionAnswer], "POST": SuppressedAnswer}
    filters = FILTERS

    def get(self, request: Request) -> Response:
        refuse_unknown_parameters(request, FILTERS)
        limit = read_limit(request)
        found = Suppression.objects.order_by("-id")
        if (text := request.GET.get("phone")) is not None:
            found = found.filter(phone=_phone(text))
        if (reason := request.GET.get("reason")) is not None:
            if reason not in Suppression.Reason.values:
                raise InvalidParameter("reason is not valid.", parameter="reason")
            found = found.filter(reason=reason)
        before = read_cursor(request, UUID)
        found = found.filter(pk__lt=before) if before else found
        place = lambda row: str(row.pk)  # noqa: E731
        shown = page(found[: limit + 1], limit=limit, show=suppression_as_json, place=place)
        return Response(shown)

    def post(self, request: Request) -> Response:
        caller: Caller = request.caller  # type: ignore[attr-defined]
        phones = {normalise(phone) for phone in decode(request, SuppressionsWish).phones}
        added = suppressions.suppress(phones=phones, actor=caller.actor)
        shown: SuppressedAnswer = {"added": added, "known": len(phones) - added}
        return Response(shown)


class OneSuppression(CallerView):
    """GET and DELETE /v1/customers/suppressions/{phone}; taking it off the list needs a reason."""

    tenant_required = True
    scopes = {"GET": "customers:read", "DELETE": "customers:write"}
    answers = {"GET": SuppressionAnswer, "DELETE": {204: None}}
    parameters = {"DELETE": {"reason": "query"}}

    def get(self, request: Request, phone: str) -> Response:
        found = Suppression.objects.filter(phone=_known(phone)).first()
        if found is None:
            raise SuppressionNotFound
        return Response(suppression_as_json(found))

    def delete(self, request: Request, phone: str) -> Response:
        refuse_unknown_parameters(request, ("reason",))
        caller: Caller = request.caller  # type: ignore[attr-defined]
        reason = str(request.GET.get("reason", "")).strip()
        if not REASON_LEAST <= len(reason) <= REASON_MOST or unseen_flaw(reason):
            raise InvalidParameter("Say why, in ?reason=…", parameter="reason")
        suppressions.lift(phone=_known(phone), actor=caller.actor, reason=reason)
        return Response(status=204)


def _phone(text: str) -> str:
    """Raises InvalidParameter."""
    try:
        return normalise(text[:40])
    except InvalidPhone:
        raise InvalidParameter("phone is not valid.", parameter="phone") from None


def _known(text: str) -> str:
    """The number in an address. Raises SuppressionNotFound for what is none."""
    try:
        return normalise(text[:40])
    except InvalidPhone:
        raise SuppressionNotFound from None
