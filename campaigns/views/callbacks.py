"""Where providers tell what became of messages: public, signed, and light."""

from typing import TypedDict

import structlog
from django.http import HttpResponse
from rest_framework.request import Request

from campaigns import accounts, receipts
from campaigns.errors import AccountNotFound, BadSignature
from campaigns.providers import provider
from config import limits
from config.api import LeanAPIView, answer, read_body
from config.ids import parse_id
from tenants.context import TenantRef, tenant_context

MOST_BODY = 256 * 1024  # Bytes.
CALLBACK = "callback"  # Limits, by client: of all, and of what no account's secret has signed.
REFUSED = "callback-refused"


class TakenAnswer(TypedDict):
    """A callback that was taken in: how many receipts it brought."""

    receipts: int


class Callback(LeanAPIView):
    """POST and GET /v1/callbacks/{account}: a provider tells of messages, or asks for proof.

    Signed with the account's own secret, as its provider does it. 200 says that it was taken in.
    """

    strangers_limit = CALLBACK
    answers = {"POST": TakenAnswer, "GET": {(200, "text/plain"): str}}

    def post(self, request: Request, account_id: str) -> HttpResponse:
        body = read_body(request, limit=MOST_BODY)
        headers = {name.lower(): value for name, value in request.headers.items()}
        with tenant_context(_home(request, account_id)) as tenant:
            structlog.contextvars.bind_contextvars(tenant_id=tenant.id)
            account = accounts.find(parse_id("acc", account_id))
            taken = receipts.take(account, headers=headers, body=body)
        if taken is None:
            limits.take_for_address(request, REFUSED)
            raise BadSignature
        shown: TakenAnswer = {"receipts": taken}
        return answer(shown)

    def get(self, request: Request, account_id: str) -> HttpResponse:
        with tenant_context(_home(request, account_id)):
            account = accounts.find(parse_id("acc", account_id))
            opened = accounts.clear(account)
            said = provider(account.provider).handshake(opened, request.GET.dict())
        if said is None:
            limits.take_for_address(request, REFUSED)
            raise BadSignature
        return HttpResponse(said, content_type="text/plain")


def _home(request: Request, account_id: str) -> TenantRef:
    """The tenant whose account it is. Raises InvalidId, AccountNotFound, RateLimited."""
    home = receipts.home_of(parse_id("acc", account_id))
    if home is None:
        limits.take_for_address(request, REFUSED)
        raise AccountNotFound
    return home
