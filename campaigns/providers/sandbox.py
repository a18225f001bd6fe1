"""The sandbox: a provider on this machine that behaves as it is told (campaigns.sandbox).

An account's `sender` is any name, which has a profile and a ledger of its own there.
`credentials`: `key`, which goes along as the bearer's and signs callbacks. `options`: `idempotent`,
false where the sender's profile says so too. See docs/sandbox.md.
"""

import hashlib
import hmac
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote
from uuid import UUID

import orjson
from django.conf import settings

from campaigns.parts import url_value
from campaigns.providers import (
    LONGEST_PROVIDER_ID,
    Accepted,
    Account,
    AccountRefused,
    Ambiguous,
    BadCallback,
    CredentialsRefused,
    Later,
    Outgoing,
    ProviderUnreachable,
    Receipt,
    Refused,
    Request,
    Slower,
    Verdict,
    masked,
    shown,
)
from config.ids import format_id
from config.problems import FieldError, escape
from webhooks import sync_http
from webhooks.answers import Answer, CallFailed
from webhooks.steps import retry_after

VERIFY_TIMEOUT = 5.0  # Seconds.
SLOWER = 1.0  # Seconds that all of the account waits where no Retry-After says.
SIGNATURE = "sandbox-signature"
LONGEST_ERROR = 200
_SENDER = re.compile(r"[A-Za-z0-9._+-]{1,100}")
_STATUSES = frozenset({"sent", "delivered", "read", "failed"})


class Sandbox:
    """campaigns.providers.Provider."""

    name = "sandbox"
    # Only where one is started beside Slipway; elsewhere an account must say where it is.
    base_url = f"http://127.0.0.1:{settings.SANDBOX_PORT}" if settings.SANDBOX_PORT else ""

    def flaws(self, account: Account) -> Iterator[FieldError]:
        if not _SENDER.fullmatch(account.sender):
            yield FieldError("/sender", "invalid_sender", "Use letters, digits and ._+- only.")
        if not account.credentials.get("key"):
            yield FieldError("/credentials/key", "required", "Required.")
        yield from _strangers("/credentials", account.credentials, "key")
        yield from _strangers("/options", account.options, "idempotent")
        if not isinstance(account.options.get("idempotent", True), bool):
            yield FieldError("/options/idempotent", "invalid_type", "Use true or false.")

    def verify(self, account: Account) -> None:
        url = f"{account.base_url}/v1/account?sender={quote(account.sender)}"
        try:
            answer = sync_http.call("GET", url, headers=_headers(account), timeout=VERIFY_TIMEOUT)
        except CallFailed as failed:
            raise ProviderUnreachable(str(failed), reason=str(failed.kind)) from failed
        if answer.status in (401, 403):
            raise CredentialsRefused(f"{_told(_object(answer.body), answer.status)}.")
        if not answer.ok or _object(answer.body).get("sender") != account.sender:
            raise ProviderUnreachable(f"HTTP {answer.status}, and not what the sandbox answers.")

    def idempotent(self, account: Account) -> bool:
        return bool(account.options.get("idempotent", True))

    def request(self, account: Account, message: Outgoing) -> Request:
        url = f"{account.base_url}/v1/messages"
        name = str(message.message_id)
        headers = {**_headers(account), "idempotency-key": name}
        body = orjson.dumps(
            {
                "from": account.sender,
                "to": message.phone,
                "text": message.text,
                "template": message.external_name,
                "variables": _said(message, message.variables),
                "header": _said(message, message.header),
                "buttons": {
                    str(index): url_value(message.params.get(name, ""))
                    for index, name in message.buttons.items()
                },
                "callback_data": name,
                "account": format_id("acc", account.id),
            }
        )
        told = shown(url, body, headers, secret=("authorization",), template=message.external_name)
        return Request(url, body, headers, told)

    def judge(self, account: Account, answer: Answer) -> Verdict:
        said, status = _object(answer.body), answer.status
        if answer.ok:
            found = said.get("id")
            if answer.truncated or not (found and isinstance(found, str)):
                return Ambiguous(f"HTTP {status} without a message's id")
            return Accepted(found[:LONGEST_PROVIDER_ID])
        code, error = _code(said), _told(said, status)
        if status == 429 or code == 130429:
            asked = retry_after(answer.headers.get("retry-after", ""), now=time.time())
            return Slower(SLOWER if asked is None else asked, error)
        if code == "unavailable":
            return Later(error)  # By this word it promises that nothing was accepted.
        if status == 408 or status >= 500:
            return Ambiguous(error)
        if status < 400 or status in (401, 403, 404, 405):
            return AccountRefused(error)
        return Refused(error, opted_out=code == "opted_out")

    def genuine(self, account: Account, headers: Mapping[str, str], body: bytes) -> bool:
        key = account.credentials.get("key", "")
        wanted = "sha256=" + hmac.new(key.encode(), body, hashlib.sha256).hexdigest()
        same = hmac.compare_digest(headers.get(SIGNATURE, "").encode(), wanted.encode())
        return same and bool(key)

    def receipts(self, account: Account, headers: Mapping[str, str], body: bytes) -> list[Receipt]:
        statuses = _object(body).get("statuses")
        if not isinstance(statuses, list):
            raise BadCallback("It has no list `statuses`.")
        found = (_receipt(status) for status in statuses if isinstance(status, dict))
        return [receipt for receipt in found if receipt is not None]

    def handshake(self, account: Account, query: Mapping[str, str]) -> str | None:
        return None


PROVIDER = Sandbox()


def _said(message: Outgoing, names: Sequence[str]) -> dict[str, str]:
    return {name: message.params.get(name, "") for name in names}


def _headers(account: Account) -> dict[str, str]:
    key = account.credentials["key"]
    return {"content-type": "application/json", "authorization": f"Bearer {key}"}


def _object(body: str | bytes) -> dict[str, Any]:
    try:
        said = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return said if isinstance(said, dict) else {}


def _code(said: Mapping[str, Any]) -> Any:
    error = said.get("error")
    return error.get("code") if isinstance(error, dict) else None


def _told(said: Mapping[str, Any], status: int) -> str:
    """An error in one line, without anybody's number."""
    code = _code(said)
    if code is None:
        return f"HTTP {status}"
    return masked(f"HTTP {status}: {code}: {said['error'].get('message', '')}")[:LONGEST_ERROR]


def _receipt(status: Mapping[str, Any]) -> Receipt | None:
    """None for a kind that says nothing of whether it arrived, or a message without a name."""
    what, provider_id = status.get("status"), status.get("id")
    if what not in _STATUSES or not isinstance(provider_id, str):
        return None
    error = str(status.get("error", "")) if what == "failed" else ""
    return Receipt(
        message_id=_uuid(status.get("callback_data")),
        provider_id=provider_id[:LONGEST_PROVIDER_ID],
        what=what,
        at=_moment(status.get("at")),
        error=masked(error)[:LONGEST_ERROR],
        opted_out=error == "opted_out",
    )


def _uuid(text: Any) -> UUID | None:
    try:
        return UUID(text)
    except (ValueError, TypeError, AttributeError):
        return None


def _moment(seconds: Any) -> datetime:
    """When it happened, in seconds since 1970; now, for what is none or lies ahead."""
    now = datetime.now(UTC)
    try:
        return min(now, datetime.fromtimestamp(seconds, UTC))
    except (ValueError, TypeError, OverflowError, OSError):
        return now


def _strangers(where: str, given: Mapping[str, Any], known: str) -> Iterator[FieldError]:
    for name in given:
        if name != known:
            yield FieldError(f"{where}/{escape(name)}", "unknown_field", "There is no such field.")
