"""Campaigns: made, read, changed while they are drafts, and steered."""

import hashlib
from collections.abc import Callable
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import orjson
from django.db.models import Q
from django.http import HttpResponse
from rest_framework.request import Request
from rest_framework.response import Response

from campaigns import checking, services, unknown
from campaigns.errors import StaleCampaign
from campaigns.models import Campaign
from campaigns.serializers.campaigns import (
    CampaignAnswer,
    CampaignChange,
    CampaignWish,
    ResolvedAnswer,
    Resolving,
    RetriedAnswer,
    RetryWish,
    TestWish,
    WithReason,
    campaign_as_json,
)
from campaigns.serializers.messages import MessageAnswer, message_as_json
from campaigns.states import CampaignState
from config import idempotency
from config.api import decode, decode_if_any, matches
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
from tenants.auth import Caller, CallerView


def _account(text: str) -> UUID:
    try:
        return parse_id("acc", text)
    except InvalidId:
        raise ValueError(text) from None


# Query parameter → (look-up, how its text is read).
FILTERS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "state": ("state", CampaignState),
    "account": ("account_id", _account),
}


class _Place(NamedTuple):
    """Where a page of the list ends."""

    at: datetime
    id: UUID

    @classmethod
    def read(cls, text: str) -> "_Place":
        """Raises ValueError for what is none."""
        at, _, id = text.partition(" ")
        return cls(utc(datetime.fromisoformat(at)), UUID(id))

    def __str__(self) -> str:
        return f"{self.at.isoformat()} {self.id}"


class Campaigns(CallerView):
    """GET and POST /v1/campaigns."""

    tenant_required = True
    scopes = {"GET": "campaigns:read", "POST": "campaigns:write"}
    bodies = {"POST": CampaignWish}
    answers = {"GET": Page[CampaignAnswer], "POST": {202: CampaignAnswer}}
    parameters = {"POST": {"Idempotency-Key": "header"}}
    filters = FILTERS

    def get(self, request: Request) -> Response:
        refuse_unknown_parameters(request, tuple(FILTERS))
        limit = read_limit(request)
        # Not by id: a follow-up's is made of its campaign's.
        rows = Campaign.objects.filter(**_asked(request)).order_by("-created_at", "-id")
        if before := read_cursor(request, _Place.read):
            rows = rows.filter(
                Q(created_at__lt=before.at) | Q(created_at=before.at, pk__lt=before.id)
            )
        place = lambda campaign: str(_Place(campaign.created_at, campaign.pk))  # noqa: E731
        return Response(page(rows[: limit + 1], limit=limit, show=campaign_as_json, place=place))

    def post(self, request: Request) -> Response:
        caller = _caller(request)
        header = request.headers.get("Idempotency-Key")
        key = idempotency.parse(header, caller=str(caller.tenant_ref.id), stranger=False)
        wish = decode(request, CampaignWish, lines=True).wish()
        digest = key.digest if key else None
        campaign, replayed = services.create(wish=wish, actor=caller.actor, key=digest)
        shown = campaign_as_json(campaign)
        headers = {"Location": f"/v1/campaigns/{shown['id']}"}
        if replayed:
            headers["Idempotent-Replayed"] = "true"
        return Response(shown, status=202, headers=headers)


class OneCampaign(CallerView):
    """GET, PATCH and DELETE /v1/campaigns/{id}; drafts alone are changed, or taken away."""

    tenant_required = True
    scopes = {
        "GET": "campaigns:read",
        "PATCH": "campaigns:write",
        "DELETE": "campaigns:write",
    }
    bodies = {"PATCH": CampaignChange}
    answers = {
        "GET": {200: CampaignAnswer, 304: None},
        "PATCH": CampaignAnswer,
        "DELETE": {204: None},
    }
    parameters = {"GET": {"If-None-Match": "header"}}

    @property
    def default_response_headers(self) -> dict[str, str]:
        """May be kept, and is asked about each time: that is what the ETag is for."""
        return super().default_response_headers | {
            "Cache-Control": "private, no-cache",
            "Vary": "Authorization",
        }

    def get(self, request: Request, campaign_id: str) -> HttpResponse:
        body = orjson.dumps(campaign_as_json(services.find(parse_id("cmp", campaign_id))))
        etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
        headers = {"ETag": etag}
        if matches(request.headers.get("If-None-Match", ""), etag):
            return HttpResponse(status=304, headers=headers)
        return HttpResponse(body, content_type="application/json", headers=headers)

    def patch(self, request: Request, campaign_id: str) -> Response:
        change = decode(request, CampaignChange, lines=True)
        draft = services.find(parse_id("cmp", campaign_id))
        _refuse_unless_draft(draft)
        campaign = services.change(
            campaign_id=draft.pk,
            wish=change.changed(checking.wish_of(draft)),
            actor=_caller(request).actor,
        )
        return Response(campaign_as_json(campaign))

    def delete(self, request: Request, campaign_id: str) -> Response:
        draft = services.find(parse_id("cmp", campaign_id))
        _refuse_unless_draft(draft)
        actor = _caller(request).actor
        services.cancel(campaign_id=draft.pk, actor=actor, reason="the draft was taken away")
        return Response(status=204)


class LaunchCampaign(CallerView):
    """POST /v1/campaigns/{id}/launch: let a draft begin, now or at its time."""

    tenant_required = True
    scopes = {"POST": "campaigns:write"}
    answers = {"POST": {202: CampaignAnswer}}

    def post(self, request: Request, campaign_id: str) -> Response:
        id = parse_id("cmp", campaign_id)
        campaign = services.launch(campaign_id=id, actor=_caller(request).actor)
        return Response(campaign_as_json(campaign), status=202)


class Steering(CallerView):
    """An act upon a campaign that may give a reason."""

    tenant_required = True
    scopes = {"POST": "campaigns:write"}
    bodies = {"POST": WithReason}
    answers = {"POST": {202: CampaignAnswer}}

    def post(self, request: Request, campaign_id: str) -> Response:
        id = parse_id("cmp", campaign_id)
        reason = decode_if_any(request, WithReason).reason.strip()
        campaign = self.act(id, _caller(request).actor, reason)
        return Response(campaign_as_json(campaign), status=202)

    def act(self, campaign_id: UUID, actor: str, reason: str) -> Campaign:
        raise NotImplementedError


class TakeBackCampaign(Steering):
    """POST /v1/campaigns/{id}/take-back: make a draft again of what is scheduled."""

    def act(self, campaign_id: UUID, actor: str, reason: str) -> Campaign:
        return services.take_back(campaign_id=campaign_id, actor=actor, reason=reason)


class PauseCampaign(Steering):
    """POST /v1/campaigns/{id}/pause: send no more for now; what is under way comes to its end."""

    def act(self, campaign_id: UUID, actor: str, reason: str) -> Campaign:
        return services.pause(campaign_id=campaign_id, actor=actor, reason=reason)


class ResumeCampaign(Steering):
    """POST /v1/campaigns/{id}/resume: go on with a paused campaign."""

    def act(self, campaign_id: UUID, actor: str, reason: str) -> Campaign:
        return services.resume(campaign_id=campaign_id, actor=actor, reason=reason)


class CancelCampaign(Steering):
    """POST /v1/campaigns/{id}/cancel: send no more for good."""

    def act(self, campaign_id: UUID, actor: str, reason: str) -> Campaign:
        return services.cancel(campaign_id=campaign_id, actor=actor, reason=reason)


class RetryFailed(CallerView):
    """POST /v1/campaigns/{id}/retry-failed: try again what failed, and on request what is unknown.

    An unknown message may have been sent: whoever gets it may get it twice.
    """

    tenant_required = True
    scopes = {"POST": "campaigns:write"}
    bodies = {"POST": RetryWish}
    answers = {"POST": {202: RetriedAnswer}}

    def post(self, request: Request, campaign_id: str) -> Response:
        id = parse_id("cmp", campaign_id)
        wish = decode(request, RetryWish)
        retried = services.retry_failed(
            campaign_id=id,
            actor=_caller(request).actor,
            reason=wish.reason,
            unknown=wish.unknown,
        )
        shown: RetriedAnswer = {"retried": retried}
        return Response(shown, status=202)


class ResolveUnknown(CallerView):
    """POST /v1/campaigns/{id}/resolve-unknown: say what is to become of all unknown messages."""

    tenant_required = True
    scopes = {"POST": "campaigns:write"}
    bodies = {"POST": Resolving}
    answers = {"POST": ResolvedAnswer}

    def post(self, request: Request, campaign_id: str) -> Response:
        id = parse_id("cmp", campaign_id)
        wish = decode(request, Resolving)
        actor = _caller(request).actor
        count = unknown.decide(campaign_id=id, to=wish.to, actor=actor, reason=wish.reason)
        shown: ResolvedAnswer = {"resolved": count}
        return Response(shown)


class TestSend(CallerView):
    """POST /v1/campaigns/{id}/test-send: send what it says to one number; nobody counts it."""

    tenant_required = True
    scopes = {"POST": "campaigns:write"}
    bodies = {"POST": TestWish}
    answers = {"POST": {202: MessageAnswer}}

    def post(self, request: Request, campaign_id: str) -> Response:
        id = parse_id("cmp", campaign_id)
        wish = decode(request, TestWish, lines=True)
        message = services.test_send(
            campaign_id=id, phone=wish.phone, params=wish.params, actor=_caller(request).actor
        )
        return Response(message_as_json(message), status=202)


def _asked(request: Request) -> dict[str, Any]:
    """What the query parameters ask for. Raises InvalidParameter."""
    asked = {}
    for name, (look_up, read) in FILTERS.items():
        text = request.GET.get(name)
        if text is None:
            continue
        try:
            asked[look_up] = read(text)
        except ValueError:
            raise InvalidParameter(f"{name} is not valid.", parameter=name) from None
    return asked


def _refuse_unless_draft(campaign: Campaign) -> None:
    """Raises StaleCampaign."""
    if campaign.state != CampaignState.DRAFT:
        raise StaleCampaign(f"It is {campaign.state}, not a draft.", state=campaign.state)


def _caller(request: Request) -> Caller:
    caller: Caller = request.caller  # type: ignore[attr-defined]
    return caller
