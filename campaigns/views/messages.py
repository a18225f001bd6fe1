"""A campaign's messages, who got none and why, and both as a file."""

from functools import partial
from typing import Any
from uuid import UUID

from django.http import StreamingHttpResponse
from rest_framework.request import Request
from rest_framework.response import Response

from campaigns import results, services
from campaigns.listing import listed
from campaigns.models import Skip
from campaigns.serializers.messages import (
    STATUSES,
    MessageAnswer,
    SkipAnswer,
    message_as_json,
    skip_as_json,
)
from config.ids import parse_id
from config.lists import (
    InvalidParameter,
    Page,
    page,
    read_cursor,
    read_limit,
    refuse_unknown_parameters,
)
from config.spreadsheets import CONTENT_TYPE
from customers.phones import InvalidPhone, normalise
from tenants.auth import CallerView
from tenants.views import caller_of

FILTERS = ("status", "phone")


class Messages(CallerView):
    """GET /v1/campaigns/{id}/messages: newest first, tests among them; none are counted.

    Numbers, and what variables said, are masked without customers:read.
    """

    tenant_required = True
    scopes = {"GET": "campaigns:read"}
    answers = {"GET": Page[MessageAnswer]}
    filters = FILTERS

    def get(self, request: Request, campaign_id: str) -> Response:
        refuse_unknown_parameters(request, FILTERS)
        may_see = "customers:read" in caller_of(request).scopes
        if "phone" in request.GET:  # It would tell whose number a masked one is.
            caller_of(request).require_scope("customers:read")
        limit = read_limit(request)
        before = read_cursor(request, UUID)
        asked = {"states": _states(request), "phone": _phone(request)}
        campaign = services.find(parse_id("cmp", campaign_id))
        found = listed(campaign.pk, **asked, before=before, most=limit + 1)
        show = partial(message_as_json, personal=may_see)
        shown = page(found.rows, limit=limit, show=show, place=_place, then=found.place)
        return Response(shown)


class Skips(CallerView):
    """GET /v1/campaigns/{id}/skips: customers of the segment who get no message, and why."""

    tenant_required = True
    scopes = {"GET": "campaigns:read"}
    answers = {"GET": Page[SkipAnswer]}
    filters = ()

    def get(self, request: Request, campaign_id: str) -> Response:
        refuse_unknown_parameters(request, ())
        limit = read_limit(request)
        before = read_cursor(request, UUID)
        campaign = services.find(parse_id("cmp", campaign_id))
        rows = Skip.objects.filter(campaign_id=campaign.pk).order_by("-id")
        rows = rows.filter(pk__lt=before) if before else rows
        return Response(page(rows[: limit + 1], limit=limit, show=skip_as_json, place=_place))


class Results(CallerView):
    """GET /v1/campaigns/{id}/results.csv: what became of each customer that it was for.

    Numbers are masked without customers:read.
    """

    tenant_required = True
    scopes = {"GET": "campaigns:read"}
    answers = {"GET": {(200, "text/csv"): str}}

    def get(self, request: Request, campaign_id: str) -> StreamingHttpResponse:
        caller = caller_of(request)
        may_see = "customers:read" in caller.scopes
        campaign = services.find(parse_id("cmp", campaign_id))
        return StreamingHttpResponse(
            results.rows_as_csv(caller.tenant_ref, campaign.pk, personal=may_see),
            content_type=CONTENT_TYPE,
            headers={
                "Content-Disposition": f'attachment; filename="results-{campaign.pk}.csv"',
                "Cache-Control": "no-store",
            },
        )


def _states(request: Request) -> Any:
    """Raises InvalidParameter."""
    text = request.GET.get("status")
    if text is None:
        return None
    if text not in STATUSES:
        known = ", ".join(STATUSES)
        raise InvalidParameter(f"status is one of {known}.", parameter="status")
    return STATUSES[text]


def _phone(request: Request) -> str | None:
    """Raises InvalidParameter."""
    text = request.GET.get("phone")
    if text is None:
        return None
    try:
        if len(text) > 40:
            raise InvalidPhone(text)
        return normalise(text)
    except InvalidPhone:
        raise InvalidParameter("phone is no number, as +4930123456.", parameter="phone") from None


def _place(row: Any) -> str:
    return str(row.pk)
