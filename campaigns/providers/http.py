"""Any provider with an HTTP API, mapped by the account's options:

    {"path": "/v1/messages",
     "headers": {"Authorization": "Bearer {credentials.api_key}"},
     "body": {"from": "{sender}", "to": "{phone}", "text": "{text}", "reference": "{message_id}"},
     "id": "/messages/0/id",                      where the answer has the provider's id (RFC 6901)
     "idempotency_header": "Idempotency-Key",     only where the provider really keeps to it
     "statuses": {"409": "refused"},              what a status means, where it is not the usual
     "verify": {"method": "GET", "path": "/v1/balance"},
     "receipts": {"signature": {"header": "x-signature", "secret": "callback_secret"},
                  "items": "/statuses", "message_id": "/reference", "status": "/state",
                  "values": {"DELIVRD": "delivered"}, "at": "/timestamp", "error": "/code"}}

Whether a text may be kept decides where a placeholder may stand: what is personal only in the body,
which no attempt keeps; credentials only in headers and the body.
"""

import base64
import hashlib
import hmac
import time
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

import orjson

from campaigns.parts import url_value
from campaigns.providers import (
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
from campaigns.providers import http_options as mapping
from campaigns.providers.reading import (
    at_pointer,
    json_value,
    moment_or_now,
    provider_id,
    uuid_or_none,
)
from config.problems import FieldError
from webhooks import sync_http
from webhooks.answers import Answer, CallFailed
from webhooks.steps import retry_after

VERIFY_TIMEOUT = 10.0  # Seconds.
THROTTLED = 1.0  # Seconds that the account waits after a 429 that does not say how long.
LONGEST_ERROR = 200
_PLACEHOLDER = mapping.PLACEHOLDER


class Http:
    """campaigns.providers.Provider."""

    name = "http"
    base_url = ""

    def flaws(self, account: Account) -> Iterator[FieldError]:
        yield from mapping.flaws(account)

    def verify(self, account: Account) -> None:
        check = account.options["verify"]
        values = _of_account(account)
        url = account.base_url + _filled(check["path"], _quoted(values))
        headers = _headers(account, values)
        try:
            answer = sync_http.call(
                check.get("method", "GET"), url, headers=headers, timeout=VERIFY_TIMEOUT
            )
        except CallFailed as failed:
            raise ProviderUnreachable(str(failed), reason=str(failed.kind)) from failed
        if answer.ok:
            return
        if answer.status in (408, 429) or answer.status < 400 or answer.status >= 500:
            raise ProviderUnreachable(f"It answers HTTP {answer.status}.")
        raise CredentialsRefused(f"It answers HTTP {answer.status}.")

    def idempotent(self, account: Account) -> bool:
        return bool(account.options.get("idempotency_header"))

    def request(self, account: Account, message: Outgoing) -> Request:
        values = _of_account(account)
        headers = _headers(account, values) | {"content-type": "application/json"}
        if name := account.options.get("idempotency_header"):
            headers[name.lower()] = str(message.message_id)
        url = account.base_url + _filled(account.options["path"], _quoted(values))
        body = orjson.dumps(_value(account.options["body"], values | _of_message(message)))
        secret = [each.lower() for each in account.options.get("headers", {})]
        return Request(
            url,
            body,
            headers,
            shown(url, body, headers, secret=secret, template=message.external_name),
        )

    def judge(self, account: Account, answer: Answer) -> Verdict:
        error = f"HTTP {answer.status}"
        match account.options.get("statuses", {}).get(str(answer.status)) or _usual(answer):
            case "accepted":
                return _accepted(account, answer)
            case "refused":
                return Refused(error)
            case "opted_out":
                return Refused(error, opted_out=True)
            case "later":
                return Later(error, _asked(answer))
            case "slower":
                return Slower(_asked(answer) or THROTTLED, error)
            case "account":
                return AccountRefused(error)
            case _:
                return Ambiguous(error)

    def genuine(self, account: Account, headers: Mapping[str, str], body: bytes) -> bool:
        signature = account.options.get("receipts", {}).get("signature", {})
        secret = account.credentials.get(signature.get("secret", ""), "")
        if not secret:
            return False
        digest = hmac.new(secret.encode(), body, hashlib.sha256).digest()
        in_base64 = signature.get("encoding") == "base64"
        text = base64.b64encode(digest).decode() if in_base64 else digest.hex()
        given = headers.get(signature["header"].lower(), "")
        wanted = signature.get("prefix", "") + text
        return hmac.compare_digest(given.encode(), wanted.encode())

    def receipts(self, account: Account, headers: Mapping[str, str], body: bytes) -> list[Receipt]:
        where = account.options.get("receipts", {})
        said = at_pointer(json_value(body), where.get("items", ""))
        if not isinstance(said, (dict, list)):
            raise BadCallback("It does not hold what the account's options say.")
        found = (_receipt(where, item) for item in (said if isinstance(said, list) else [said]))
        return [receipt for receipt in found if receipt is not None]

    def handshake(self, account: Account, query: Mapping[str, str]) -> str | None:
        return None


PROVIDER = Http()


# ---- Out ----


def _of_account(account: Account) -> dict[str, Any]:
    credentials = {f"credentials.{name}": value for name, value in account.credentials.items()}
    return {"sender": account.sender, **credentials}


def _of_message(message: Outgoing) -> dict[str, Any]:
    return {
        "message_id": str(message.message_id),
        "phone": message.phone,
        "digits": message.phone.removeprefix("+"),
        "text": message.text,
        "template": message.external_name,
        "language": message.language,
        "params": dict(message.params),
        "param_list": [message.params.get(name, "") for name in message.variables],
        "header_list": [message.params.get(name, "") for name in message.header],
        "button_list": [
            {"index": index, "value": url_value(message.params.get(name, ""))}
            for index, name in message.buttons.items()
        ],
    }


def _headers(account: Account, values: Mapping[str, Any]) -> dict[str, str]:
    given = account.options.get("headers", {})
    return {name.lower(): _filled(template, values) for name, template in given.items()}


def _quoted(values: Mapping[str, Any]) -> dict[str, str]:
    return {"sender": quote(values["sender"], safe="")}


def _filled(template: str, values: Mapping[str, Any]) -> str:
    """The text with what its placeholders stand for; braces around anything else stay."""
    return _PLACEHOLDER.sub(lambda found: _text(values.get(found[1], found[0])), template)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def _value(template: Any, values: Mapping[str, Any]) -> Any:
    """The body: a string that is one placeholder becomes its value, which may be an object."""
    if isinstance(template, dict):
        return {name: _value(inner, values) for name, inner in template.items()}
    if isinstance(template, list):
        return [_value(inner, values) for inner in template]
    if not isinstance(template, str):
        return template
    whole = _PLACEHOLDER.fullmatch(template)
    return values.get(whole[1], template) if whole else _filled(template, values)


# ---- What an answer means ----


def _usual(answer: Answer) -> str:
    """What a status means of which the options say nothing.

    408 and 5xx tell nothing of whether the message went through before (campaigns.steps repeats it
    where the account is idempotent); a redirect, a wrong path or method would be so for everybody.
    """
    status = answer.status
    if answer.ok:
        return "accepted"
    if status == 429:
        return "slower"
    if status == 408 or status >= 500:
        return "ambiguous"
    if status < 400 or status in (401, 402, 403, 404, 405, 407):
        return "account"
    return "refused"


def _accepted(account: Account, answer: Answer) -> Verdict:
    pointer = account.options.get("id")
    if pointer is None:
        return Accepted("")
    found = "" if answer.truncated else provider_id(at_pointer(json_value(answer.body), pointer))
    if not found:
        return Ambiguous(f"HTTP {answer.status} without a message's id")
    return Accepted(found)


def _asked(answer: Answer) -> float | None:
    return retry_after(answer.headers.get("retry-after", ""), now=time.time())


# ---- In ----


def _receipt(where: Mapping[str, Any], item: Any) -> Receipt | None:
    """None for a status of which the options say nothing, or one of no message of ours."""
    status = at_pointer(item, where["status"])
    what = where.get("values", {}).get(str(status), status)
    theirs = provider_id(at_pointer(item, where["id"])) if "id" in where else ""
    message_id = None
    if "message_id" in where:
        message_id = uuid_or_none(at_pointer(item, where["message_id"]))
    if what not in mapping.WHATS or not (theirs or message_id):
        return None
    error = at_pointer(item, where["error"]) if "error" in where and what != "read" else None
    failed = what in ("failed", "opted_out")
    return Receipt(
        message_id=message_id,
        provider_id=theirs,
        what="failed" if failed else what,
        at=moment_or_now(at_pointer(item, where["at"]) if "at" in where else None),
        error=masked(str(error))[:LONGEST_ERROR] if failed and error is not None else "",
        opted_out=what == "opted_out",
    )
