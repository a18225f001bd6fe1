"""The REST API of sign-ups, and the page that a tenant's address shows until it is ready."""

import hashlib
from datetime import date
from uuid import UUID

import orjson
from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from rest_framework.request import Request
from standardwebhooks.webhooks import WebhookVerificationError

from config import idempotency, limits
from config.api import LeanAPIView, answer, decode, matches, read_body
from config.idempotency import IdempotencyKey
from config.ids import InvalidId, format_id, parse_id
from config.lists import Page, page, read_cursor, read_limit, refuse_unknown_parameters
from config.problems import NotFoundProblem, RateLimited, problem_response
from onboarding import models, services, status
from onboarding.answers import (
    AcceptedAnswer,
    ClaimAnswer,
    DayAnswer,
    ResendAnswer,
    StatusAnswer,
    WorkspaceAnswer,
)
from onboarding.callbacks import record_callback
from onboarding.errors import BadClaim, UnknownRequest
from onboarding.limits import STATUS_LIMIT, counters
from onboarding.resending import resend
from onboarding.serializers import SignUp
from onboarding.services import Accepted
from onboarding.states import Progress
from tenants import hosts, problems
from tenants.auth import Caller, CallerKind, CallerView

ACCEPTED_RETRY_AFTER = 1  # Seconds. A pooled tenant is usually ready sooner.


class Onboard(CallerView):
    """POST /v1/onboard: validate, accept, answer 202."""

    bodies = {"POST": SignUp}
    answers = {"POST": {202: AcceptedAnswer}}
    parameters = {"POST": {"Idempotency-Key": "header"}}
    strangers_limit = None  # They are counted by the domain of their address too: see _count.

    def post(self, request: Request) -> HttpResponse:
        caller: Caller = request.caller  # type: ignore[attr-defined]
        if caller.kind is CallerKind.TENANT:
            raise problems.WrongKind("Tenants' keys sign nobody up.")
        if caller.is_platform:
            caller.require_scope("onboarding:write")
        key = idempotency.parse(
            request.META.get("HTTP_IDEMPOTENCY_KEY"),
            caller=caller.actor,
            stranger=not caller.is_platform,
        )
        sign_up = decode(request, SignUp)
        services.refuse_closed_plan(sign_up=sign_up, caller=caller)
        accepted = self._count(request, sign_up, caller, key)
        accepted = accepted or services.ask_project(sign_up=sign_up, caller=caller, key=key)
        accepted = accepted or services.accept(sign_up=sign_up, caller=caller, key=key)
        if accepted.replayed:
            limits.give_back(request)
        return accepted_response(accepted)

    def _count(
        self, request: Request, sign_up: SignUp, caller: Caller, key: IdempotencyKey | None
    ) -> Accepted | None:
        """Count a stranger's sign-up; a replay is answered even where no more is allowed."""
        if caller.is_platform:
            return None
        try:
            limits.take(request, *counters(request._request, sign_up.email))
        except RateLimited:
            earlier = services.replay(key=key, fingerprint=services.fingerprint(sign_up))
            if earlier is None:
                raise
            return earlier
        return None


class OnboardingStatus(CallerView):
    """GET /v1/onboard/{request_id}: where it stands; more of it for platform keys."""

    strangers_limit = STATUS_LIMIT
    answers = {"GET": {200: StatusAnswer, 304: None}}
    parameters = {"GET": {"If-None-Match": "header"}}

    @property
    def default_response_headers(self) -> dict[str, str]:
        """May be kept, and is asked about each time: that is what the ETag is for."""
        return super().default_response_headers | {
            "Cache-Control": "private, no-cache",
            "Vary": "Authorization",
        }

    def get(self, request: Request, request_id: str) -> HttpResponse:
        caller: Caller = request.caller  # type: ignore[attr-defined]
        row = status.find(parse_request_id(request_id))
        if row is None:
            raise UnknownRequest
        sees_all = caller.is_platform and "onboarding:read" in caller.scopes
        body = orjson.dumps(status.full(row) if sees_all else status.public(row))
        etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
        headers = {"ETag": etag}
        if row.retry_after is not None:
            headers["Retry-After"] = str(row.retry_after)
        if matches(request.headers.get("If-None-Match", ""), etag):
            return HttpResponse(status=304, headers=headers)
        return HttpResponse(body, content_type="application/json", headers=headers)


class Claim(LeanAPIView):
    """POST /v1/onboard/{request_id}/claim, `Authorization: Bearer <claim_token>`: the first key."""

    strangers_limit = STATUS_LIMIT
    answers = {"POST": {201: ClaimAnswer}}

    def post(self, request: Request, request_id: str) -> HttpResponse:
        row, made = services.claim(
            request_id=parse_request_id(request_id), token=_claim_token(request)
        )
        body: ClaimAnswer = {
            "key": made.token,
            "prefix": made.key.prefix,
            "scopes": made.key.scopes,
            "tenant": status.public(row)["tenant"],
        }
        return answer(body, status=201, headers={"Cache-Control": "no-store"})


class Resend(LeanAPIView):
    """POST /v1/onboard/{request_id}/resend, `Authorization: Bearer <claim_token>`: another mail."""

    strangers_limit = STATUS_LIMIT
    answers = {"POST": {202: ResendAnswer}}

    def post(self, request: Request, request_id: str) -> HttpResponse:
        resend(request_id=parse_request_id(request_id), token=_claim_token(request))
        body: ResendAnswer = {"request_id": request_id}
        return answer(body, status=202, headers={"Cache-Control": "no-store"})


class StepCallback(LeanAPIView):
    """POST /v1/onboard/{request_id}/steps/{name}: the platform's back end is done with its step."""

    strangers_limit = STATUS_LIMIT
    answers = {"POST": {204: None}}

    def post(self, request: Request, request_id: str, name: str) -> HttpResponse:
        body = read_body(request)
        try:
            record_callback(parse_request_id(request_id), name, headers=request.headers, body=body)
        except WebhookVerificationError:
            raise BadClaim("The signature does not match.") from None
        return HttpResponse(status=204)


class Workspace(CallerView):
    """GET /v1/workspace: what the tenant started with."""

    tenant_required = True
    scopes = {"GET": "workspace:read"}
    answers = {"GET": WorkspaceAnswer}

    def get(self, request: Request) -> HttpResponse:
        row = models.Workspace.objects.first()
        if row is None:
            raise NotFoundProblem
        body: WorkspaceAnswer = {
            "quiet_hours": {
                "from": f"{row.quiet_from:%H:%M}",
                "until": f"{row.quiet_until:%H:%M}",
            },
            "default_role": row.default_role,
            "segments": row.segments,
        }
        return answer(body)


class Activity(CallerView):
    """GET /v1/activity: the tenant's days, newest first."""

    tenant_required = True
    scopes = {"GET": "workspace:read"}
    answers = {"GET": Page[DayAnswer]}
    filters = ()

    def get(self, request: Request) -> HttpResponse:
        refuse_unknown_parameters(request, ())
        limit = read_limit(request)
        days = models.ActivityDay.objects.order_by("-day")
        before = read_cursor(request, date.fromisoformat)
        days = days.filter(day__lt=before) if before else days
        return answer(page(list(days[: limit + 1]), limit=limit, show=_day_as_json, place=_place))


def accepted_response(accepted: Accepted) -> HttpResponse:
    """The 202 of a sign-up: the same bytes for each replay."""
    request_id = format_id("req", accepted.request_id)
    status_url = f"{settings.PUBLIC_URL}/v1/onboard/{request_id}"
    body: AcceptedAnswer = {
        "request_id": request_id,
        "status": Progress.PENDING,
        "status_url": status_url,
        "events_url": f"{settings.STREAM_URL}/v1/onboard/{request_id}/events",
        "tenant": {"slug": accepted.slug, "url": hosts.tenant_url(accepted.slug)},
        "claim_token": accepted.claim_token,
    }
    headers = {
        "Location": status_url,
        "Retry-After": str(ACCEPTED_RETRY_AFTER),
        "Cache-Control": "no-store",
    }
    if accepted.replayed:
        headers["Idempotent-Replayed"] = "true"
    return answer(body, status=202, headers=headers)


def setup_page(request: HttpRequest, host: str) -> HttpResponse | None:
    """What the address of a tenant that is being made shows; None when nobody signed up for it.

    503 and never cached: who comes too early must find the tenant a moment later.
    """
    slug = host.removesuffix(f".{settings.TENANT_DOMAIN}")
    found = status.find_by_slug(slug) if "." not in slug else None
    if found is None:
        return None
    if found["status"] == "ready":
        hosts.forget([host])  # This process remembers that it was not.
    if request.path == "/progress":
        response: HttpResponse = JsonResponse(found)
    elif request.path.startswith("/v1/"):
        response = problem_response(problems.TenantNotReady(), request)
    else:
        response = render(request, "onboarding/setup.html", found, status=503)
    response["Retry-After"] = "2"
    response["Cache-Control"] = "no-store"
    response["X-Robots-Tag"] = "noindex"
    return response


def parse_request_id(text: str) -> UUID:
    """The id in a path. Raises UnknownRequest for what is none."""
    try:
        return parse_id("req", text)
    except InvalidId:
        raise UnknownRequest from None


def _day_as_json(row: models.ActivityDay) -> DayAnswer:
    return {"day": _place(row), "members": row.members, "customers": row.customers}


def _place(row: models.ActivityDay) -> str:
    return row.day.isoformat()


def _claim_token(request: Request) -> str:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or len(token) > 200:
        raise BadClaim("Send Authorization: Bearer <claim_token>.")
    return str(token)
