"""Segments: made, read, changed; and what a campaign to one would come to."""

from functools import partial
from typing import Any
from uuid import UUID

from rest_framework.request import Request
from rest_framework.response import Response

from campaigns import accounts, segments, templates
from campaigns.models import Segment
from campaigns.preview import SAMPLE, preview
from campaigns.serializers.segments import (
    PreviewAnswer,
    PreviewWish,
    SegmentAnswer,
    SegmentChange,
    SegmentWish,
    preview_as_json,
    segment_as_json,
)
from config.api import decode
from config.ids import parse_id
from config.lists import Page, page, read_cursor, read_limit, refuse_unknown_parameters
from customers.currency import currency
from tenants.auth import CallerView
from tenants.views import caller_of


class Segments(CallerView):
    """GET and POST /v1/segments."""

    tenant_required = True
    scopes = {"GET": "campaigns:read", "POST": "campaigns:write"}
    bodies = {"POST": SegmentWish}
    answers = {"GET": Page[SegmentAnswer], "POST": {201: SegmentAnswer}}
    filters = ()

    def get(self, request: Request) -> Response:
        refuse_unknown_parameters(request, ())
        limit = read_limit(request)
        rows = Segment.objects.filter(deleted_at=None).order_by("-id")
        before = read_cursor(request, UUID)
        rows = rows.filter(pk__lt=before) if before else rows
        place = lambda segment: str(segment.pk)  # noqa: E731
        show = partial(segment_as_json, currency=currency())
        return Response(page(rows[: limit + 1], limit=limit, show=show, place=place))

    def post(self, request: Request) -> Response:
        wish = decode(request, SegmentWish)
        made = segments.create(name=wish.name, filter=wish.filter, actor=caller_of(request).actor)
        shown = segment_as_json(made, currency=currency())
        return Response(shown, status=201, headers={"Location": f"/v1/segments/{shown['id']}"})


class OneSegment(CallerView):
    """GET, PATCH and DELETE /v1/segments/{id}."""

    tenant_required = True
    scopes = {
        "GET": "campaigns:read",
        "PATCH": "campaigns:write",
        "DELETE": "campaigns:write",
    }
    bodies = {"PATCH": SegmentChange}
    answers = {"GET": SegmentAnswer, "PATCH": SegmentAnswer, "DELETE": {204: None}}

    def get(self, request: Request, segment_id: str) -> Response:
        found = segments.find(parse_id("seg", segment_id))
        return Response(segment_as_json(found, currency=currency()))

    def patch(self, request: Request, segment_id: str) -> Response:
        segment = segments.change(
            segment_id=parse_id("seg", segment_id),
            fields=decode(request, SegmentChange).fields(),
            actor=caller_of(request).actor,
        )
        return Response(segment_as_json(segment, currency=currency()))

    def delete(self, request: Request, segment_id: str) -> Response:
        segments.delete(segment_id=parse_id("seg", segment_id), actor=caller_of(request).actor)
        return Response(status=204)


class PreviewSegment(CallerView):
    """POST /v1/segments/preview: how many messages, to whom, who gets none and why, how long.

    Nothing is kept. The sample has customers in it, and needs customers:read beside.
    """

    tenant_required = True
    scopes = {"POST": "campaigns:read"}
    bodies = {"POST": PreviewWish}
    answers = {"POST": PreviewAnswer}

    def post(self, request: Request) -> Response:
        wish = decode(request, PreviewWish)
        may_see = "customers:read" in caller_of(request).scopes
        template = templates.find(parse_id("tpl", wish.template_id)) if wish.template_id else None
        account = accounts.find(parse_id("acc", wish.account_id)) if wish.account_id else None
        found = preview(
            filter=segments.parse(_filter(wish)),
            mapping=wish.variables,
            message=template.parts if template else None,
            account=account,
            sample=SAMPLE if may_see else 0,
        )
        return Response(preview_as_json(found, sample=may_see))


def _filter(wish: PreviewWish) -> Any:
    if wish.segment_id is None:
        return wish.filter
    return segments.find(parse_id("seg", wish.segment_id)).filter
