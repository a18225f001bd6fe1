"""The tenant's REST API for its accounts with providers of messages."""

from collections.abc import Callable
from uuid import UUID

from django.db.models import Q, QuerySet
from django.http import QueryDict
from rest_framework.request import Request
from rest_framework.response import Response

from campaigns import accounts
from campaigns.health import health
from campaigns.models import ProviderAccount
from campaigns.serializers.accounts import (
    AccountAnswer,
    AccountChange,
    AccountPause,
    AccountReason,
    AccountWish,
    OneAccountAnswer,
    account_as_json,
    health_as_json,
)
from campaigns.states import AccountStatus
from config import limits
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
from config.spelling import unseen_flaw
from tenants.auth import Caller, CallerView
from tenants.context import require_tenant
from tenants.serializers import REASON_MOST

VERIFY = "account-verify"  # Limit, by tenant: each is a call of ours to a host that they name.

FILTERS: dict[str, Callable[[str], Q]] = {
    "provider": lambda text: Q(provider=text),
    "status": lambda text: Q(status=AccountStatus(text)),
}


class AccountView(CallerView):
    """What the routes of accounts have in common."""

    tenant_required = True

    @staticmethod
    def actor(request: Request) -> str:
        """Who calls, as the audit trail names them."""
        caller: Caller = request.caller  # type: ignore[attr-defined]
        return caller.actor


class Accounts(AccountView):
    """GET and POST /v1/accounts. POST asks the provider once whether the credentials are good."""

    scopes = {"GET": "campaigns:read", "POST": "campaigns:write"}
    bodies = {"POST": AccountWish}
    answers = {"GET": Page[AccountAnswer], "POST": {201: AccountAnswer}}
    filters = FILTERS

    def get(self, request: Request) -> Response:
        refuse_unknown_parameters(request, tuple(FILTERS))
        limit = read_limit(request)
        rows = ProviderAccount.objects.filter(deleted_at=None).order_by("-id")
        rows = _filtered(rows, request.GET)
        before = read_cursor(request, UUID)
        rows = rows.filter(pk__lt=before) if before else rows
        return Response(page(rows[: limit + 1], limit=limit, show=account_as_json, place=_place))

    def post(self, request: Request) -> Response:
        wish = decode(request, AccountWish)
        _count(request)
        account = accounts.create(fields=wish.fields(), actor=self.actor(request))
        shown = account_as_json(account)
        location = f"{request.path}/{shown['id']}"
        return Response(shown, status=201, headers={"Location": location})


class OneAccount(AccountView):
    """GET, PATCH and DELETE /v1/accounts/{id}."""

    scopes = {
        "GET": "campaigns:read",
        "PATCH": "campaigns:write",
        "DELETE": "campaigns:write",
    }
    bodies = {"PATCH": AccountChange}
    answers = {"GET": OneAccountAnswer, "PATCH": AccountAnswer, "DELETE": {204: None}}
    parameters = {"DELETE": {"reason": "query"}}

    def get(self, request: Request, account_id: str) -> Response:
        account = accounts.find(parse_id("acc", account_id))
        shown = account_as_json(account)
        return Response({**shown, "health": health_as_json(health(account))})

    def patch(self, request: Request, account_id: str) -> Response:
        id_ = parse_id("acc", account_id)
        fields = decode(request, AccountChange).fields()
        _count(request)
        account = accounts.change(account_id=id_, fields=fields, actor=self.actor(request))
        return Response(account_as_json(account))

    def delete(self, request: Request, account_id: str) -> Response:
        refuse_unknown_parameters(request, ("reason",))
        reason = str(request.GET.get("reason", "")).strip()
        if len(reason) > REASON_MOST or unseen_flaw(reason):
            raise InvalidParameter("reason is not valid.", parameter="reason")
        id_ = parse_id("acc", account_id)
        accounts.delete(account_id=id_, actor=self.actor(request), reason=reason)
        return Response(status=204)


class VerifyAccount(AccountView):
    """POST /v1/accounts/{id}/verify: ask the provider again whether the credentials are good."""

    scopes = {"POST": "campaigns:write"}
    answers = {"POST": AccountAnswer}

    def post(self, request: Request, account_id: str) -> Response:
        id_ = parse_id("acc", account_id)
        _count(request)
        account = accounts.verify(account_id=id_, actor=self.actor(request))
        return Response(account_as_json(account))


class PauseAccount(AccountView):
    """POST /v1/accounts/{id}/pause: no campaign sends through it until it is resumed."""

    scopes = {"POST": "campaigns:write"}
    bodies = {"POST": AccountPause}
    answers = {"POST": AccountAnswer}

    def post(self, request: Request, account_id: str) -> Response:
        id_ = parse_id("acc", account_id)
        reason = decode(request, AccountPause).reason.strip()
        accounts.pause(account_id=id_, actor=self.actor(request), reason=reason)
        return Response(account_as_json(accounts.find(id_)))


class ResumeAccount(AccountView):
    """POST /v1/accounts/{id}/resume: its campaigns go on."""

    scopes = {"POST": "campaigns:write"}
    bodies = {"POST": AccountReason}
    answers = {"POST": AccountAnswer}

    def post(self, request: Request, account_id: str) -> Response:
        id_ = parse_id("acc", account_id)
        reason = ""
        if request.META.get("CONTENT_LENGTH") not in {None, "", "0"}:
            reason = decode(request, AccountReason).reason.strip()
        accounts.resume(account_id=id_, actor=self.actor(request), reason=reason)
        return Response(account_as_json(accounts.find(id_)))


def _count(request: Request) -> None:
    """Raises RateLimited."""
    limits.take(request, Limit.named(VERIFY).of(str(require_tenant().id)))


def _filtered(rows: QuerySet[ProviderAccount], given: QueryDict) -> QuerySet[ProviderAccount]:
    """The rows that the query parameters ask for. Raises InvalidParameter."""
    for name, read in FILTERS.items():
        text = given.get(name)
        if text is None:
            continue
        try:
            rows = rows.filter(read(str(text)))
        except ValueError:
            raise InvalidParameter(f"{name} is not valid.", parameter=name) from None
    return rows


def _place(account: ProviderAccount) -> str:
    return str(account.pk)
