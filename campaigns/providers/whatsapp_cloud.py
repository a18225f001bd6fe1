"""Meta's WhatsApp Cloud API: template messages, errors by code, signed callbacks.

An account's `sender` is its phone number's id. `credentials`: `access_token`; `app_secret` and
`verify_token`, without which no callback is taken. `options`: `version` of the Graph API,
`parameters`, "positional" or "named", as its templates were made, and `opt_out_words`.

Meta tells errors by code rather than by HTTP status, in answers and in callbacks alike: "Error
codes" and "Webhooks" in its documentation of the Cloud API. It knows no idempotency key; what it
gives back in each status is `biz_opaque_callback_data`, our message's id.
"""

import hashlib
import hmac
import re
import time
from collections.abc import Iterator, Mapping
from typing import Any

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
    OptOut,
    Outgoing,
    PairLimit,
    ProviderUnreachable,
    Receipt,
    Refused,
    Request,
    Slower,
    Verdict,
    masked,
    shown,
    whatsapp_inbound,
)
from campaigns.providers.reading import (
    json_object,
    moment_or_now,
    objects,
    provider_id,
    unknown_fields,
    uuid_or_none,
)
from config.problems import FieldError
from webhooks import sync_http
from webhooks.answers import Answer, CallFailed
from webhooks.steps import retry_after

VERSION = "v23.0"
VERIFY_TIMEOUT = 10.0  # Seconds.
PAIR_BASE = 4.0  # Meta: "retry after 4^n seconds".
LONGEST_ERROR = 200

# Code → seconds that all of the account waits, where no Retry-After says: messages a second, calls
# an hour of the app and of the business account, a number that is being upgraded.
SLOWER = {130429: 1.0, 4: 60.0, 80007: 60.0, 131057: 60.0}
PAIR_LIMIT = 131056
# Nobody would be written to. 0, 3, 10, 190, 200-299: who we are, and what we may; 33: the number is
# gone; 368, 131031: locked; 131005: access; 131037, 131045, 133010, 134011: registration and terms;
# 131042: payment; 131048: too many took it for spam.
ACCOUNT = frozenset(
    {
        *(0, 3, 10, 33, 190, *range(200, 300)),
        *(368, 131005, 131031, 131037, 131042, 131045, 131048, 133010, 134011),
    }
)
# Nobody would get this template: it does not fit, exist, or is paused, disabled, against policy.
TEMPLATE = frozenset({132000, 132001, 132007, 132015, 132016, 132068, 132069})
# Not to this recipient. 131049, 130472: not now, for their own sake; a campaign is no reason to
# insist.
REFUSED = frozenset(
    {
        *(100, 130472, 130497, 131008, 131009, 131021, 131026, 131030, 131047, 131049, 131051),
        *(132005, 132012, 132018, 135000),
    }
)
OPTED_OUT = 131050  # They said no to marketing, in WhatsApp itself.
LATER = frozenset({1, 2, 131000, 131016})
GONE = 33  # The subcode of 100 that says so of a phone number's id.

_VERSION = re.compile(r"v[1-9][0-9]{0,2}\.[0-9]")
_SENDER = re.compile(r"[0-9]{5,30}")
_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{1,200}")
_SPACES = re.compile(r"\s+")
_KNOWN = frozenset({"access_token", "app_secret", "verify_token"})
_OPTIONS = frozenset({"version", "parameters", "opt_out_words"})
_STATUSES = frozenset({"sent", "delivered", "read", "failed"})


class WhatsAppCloud:
    """campaigns.providers.Provider."""

    name = "whatsapp_cloud"
    base_url = "https://graph.facebook.com"

    def flaws(self, account: Account) -> Iterator[FieldError]:
        if not _SENDER.fullmatch(account.sender):
            message = "Name the phone number's id: digits, as the Graph API has it."
            yield FieldError("/sender", "invalid_sender", message)
        if "access_token" not in account.credentials:
            yield FieldError("/credentials/access_token", "required", "Required.")
        yield from unknown_fields("/credentials", account.credentials, _KNOWN)
        yield from unknown_fields("/options", account.options, _OPTIONS)
        version = account.options.get("version", VERSION)
        if not (isinstance(version, str) and _VERSION.fullmatch(version)):
            yield FieldError("/options/version", "invalid_format", f"Write it like {VERSION}.")
        if account.options.get("parameters", "positional") not in ("positional", "named"):
            message = "Use positional or named."
            yield FieldError("/options/parameters", "unknown_value", message)
        if "opt_out_words" in account.options:
            yield from whatsapp_inbound.word_flaws(account.options["opt_out_words"])

    def verify(self, account: Account) -> None:
        headers = _headers(account)
        try:
            answer = sync_http.call(
                "GET", f"{_url(account)}?fields=id", headers=headers, timeout=VERIFY_TIMEOUT
            )
        except CallFailed as failed:
            raise ProviderUnreachable(str(failed), reason=str(failed.kind)) from failed
        said = json_object(answer.body)
        if answer.ok and str(said.get("id")) == account.sender:
            return
        if answer.ok or 300 <= answer.status < 400:
            raise ProviderUnreachable(f"HTTP {answer.status}, and not what the Graph API answers.")
        if answer.status in (408, 429) or (answer.status >= 500 and _code(said) not in ACCOUNT):
            raise ProviderUnreachable(f"{_told(said, answer.status)}.")
        raise CredentialsRefused(f"{_told(said, answer.status)}.")

    def idempotent(self, account: Account) -> bool:
        return False

    def request(self, account: Account, message: Outgoing) -> Request:
        url, headers = f"{_url(account)}/messages", _headers(account)
        body = orjson.dumps(
            {
                "messaging_product": "whatsapp",
                "recipient_type": "individual",
                "to": message.phone,
                **_content(account, message),
                "biz_opaque_callback_data": str(message.message_id),
            }
        )
        told = shown(url, body, headers, secret=("authorization",), template=message.external_name)
        return Request(url, body, headers, told)

    def judge(self, account: Account, answer: Answer) -> Verdict:
        said = json_object(answer.body)
        if answer.ok:
            found = provider_id(next(objects(said.get("messages")), {}).get("id"))
            if answer.truncated or not found:
                return Ambiguous(f"HTTP {answer.status} without a message's id")
            return Accepted(found)
        code = _code(said)
        error = _told(said, answer.status)
        if code is None:
            return _bare(answer, error)
        if code in SLOWER:
            return Slower(_asked(answer) or SLOWER[code], error)
        if code == PAIR_LIMIT:
            return PairLimit(PAIR_BASE, error)
        verdict = _judged(code, said, error)
        # What nobody knows yet tells as much as its status does.
        unheard_of = isinstance(verdict, Later) and code not in LATER
        return Ambiguous(error) if unheard_of and answer.status >= 500 else verdict

    def genuine(self, account: Account, headers: Mapping[str, str], body: bytes) -> bool:
        secret = account.credentials.get("app_secret", "")
        given = headers.get("x-hub-signature-256", "")
        wanted = "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
        same = hmac.compare_digest(given.encode(), wanted.encode())
        return same and bool(secret)

    def receipts(self, account: Account, headers: Mapping[str, str], body: bytes) -> list[Receipt]:
        found = (_receipt(status) for status in _statuses(_entries(body)))
        return [receipt for receipt in found if receipt is not None]

    def opt_outs(self, account: Account, headers: Mapping[str, str], body: bytes) -> list[OptOut]:
        words = account.options.get("opt_out_words", ())
        return list(whatsapp_inbound.opt_outs(_entries(body), words))

    def handshake(self, account: Account, query: Mapping[str, str]) -> str | None:
        token = account.credentials.get("verify_token", "")
        same = hmac.compare_digest(query.get("hub.verify_token", "").encode(), token.encode())
        challenge = query.get("hub.challenge", "")
        if not (same and token and query.get("hub.mode") == "subscribe"):
            return None
        return challenge if _CHALLENGE.fullmatch(challenge) else None


PROVIDER = WhatsAppCloud()


# ---- Out ----


def _url(account: Account) -> str:
    return f"{account.base_url}/{account.options.get('version', VERSION)}/{account.sender}"


def _headers(account: Account) -> dict[str, str]:
    token = account.credentials["access_token"]
    return {"content-type": "application/json", "authorization": f"Bearer {token}"}


def _content(account: Account, message: Outgoing) -> dict[str, Any]:
    """The template; or the text, which Meta takes only within 24 hours of the person's own."""
    if not message.external_name:
        return {"type": "text", "text": {"preview_url": False, "body": message.text}}
    template: dict[str, Any] = {
        "name": message.external_name,
        "language": {"policy": "deterministic", "code": message.language},
    }
    if components := list(_components(account, message)):
        template["components"] = components
    return {"type": "template", "template": template}


def _components(account: Account, message: Outgoing) -> Iterator[dict[str, Any]]:
    """What the template's variables say, part by part ("Template messages", Components)."""
    named = account.options.get("parameters") == "named"
    for part, names in (("header", message.header), ("body", message.variables)):
        if names:
            parameters = [_parameter(message, name, named=named) for name in names]
            yield {"type": part, "parameters": parameters}
    for index, name in message.buttons.items():
        # The end of the URL; these have no names at Meta's.
        said = {"type": "text", "text": url_value(message.params.get(name, ""))}
        yield {"type": "button", "sub_type": "url", "index": str(index), "parameters": [said]}


def _parameter(message: Outgoing, name: str, *, named: bool) -> dict[str, str]:
    # Line breaks and rows of spaces are refused in a parameter.
    text = _SPACES.sub(" ", message.params.get(name, "")).strip()
    return {"type": "text", **({"parameter_name": name} if named else {}), "text": text}


# ---- What an answer means ----


def _judged(code: int, said: Mapping[str, Any], error: str) -> Verdict:
    if code in TEMPLATE:
        return AccountRefused(error, template=True)
    gone = code == 100 and said["error"].get("error_subcode") == GONE
    if code in ACCOUNT or gone:
        return AccountRefused(error)
    if code == OPTED_OUT:
        return Refused(error, opted_out=True)
    if code in REFUSED:
        return Refused(error)
    # Of LATER there is Meta's own word that it was not sent.
    return Later(error)


def _bare(answer: Answer, error: str) -> Verdict:
    """An error without a code of Meta's: something between us and it.

    A 5xx then says nothing of whether the message went through before; since nothing makes a second
    one harmless, it is left to the status callback.
    """
    status = answer.status
    if status == 429:
        return Slower(_asked(answer) or SLOWER[130429], error)
    if status == 408 or status >= 500:
        return Ambiguous(error)
    if status < 400 or status in (401, 403, 404, 405, 407):
        return AccountRefused(f"{error}, which the Graph API does not answer so")
    return Refused(error)


def _asked(answer: Answer) -> float | None:
    return retry_after(answer.headers.get("retry-after", ""), now=time.time())


def _code(said: Mapping[str, Any]) -> int | None:
    error = said.get("error")
    code = error.get("code") if isinstance(error, dict) else None
    return code if isinstance(code, int) and not isinstance(code, bool) else None


def _told(said: Mapping[str, Any], status: int) -> str:
    """An error in one line: the code, and Meta's sentence without anybody's number."""
    error = said.get("error")
    code = _code(said)
    if code is None or not isinstance(error, dict):
        return f"HTTP {status}"
    data = error.get("error_data")
    details = data.get("details") if isinstance(data, dict) else None
    words = details or error.get("message") or ""
    return masked(f"{code}: {words}".strip(": "))[:LONGEST_ERROR]


# ---- In ----


def _entries(body: bytes) -> list[Any]:
    """What a callback brings. Raises BadCallback."""
    entries = json_object(body).get("entry")
    if not isinstance(entries, list):
        raise BadCallback("It has no list `entry`.")
    return entries


def _statuses(entries: list[Any]) -> Iterator[dict[str, Any]]:
    """Every status in a callback, which may bring several of several numbers."""
    for entry in objects(entries):
        for change in objects(entry.get("changes")):
            value = change.get("value")
            if change.get("field") == "messages" and isinstance(value, dict):
                yield from objects(value.get("statuses"))


def _receipt(status: Mapping[str, Any]) -> Receipt | None:
    """None for a kind that says nothing of whether it arrived, or a message without a name."""
    what, theirs = status.get("status"), provider_id(status.get("id"))
    if what not in _STATUSES or not theirs:
        return None
    error = next(objects(status.get("errors")), {}) if what == "failed" else {}
    words = error.get("title") or error.get("message") or ""
    return Receipt(
        message_id=uuid_or_none(status.get("biz_opaque_callback_data")),
        provider_id=theirs,
        what=what,
        at=moment_or_now(status.get("timestamp")),
        error=masked(f"{error['code']}: {words}")[:LONGEST_ERROR] if "code" in error else "",
        opted_out=error.get("code") == OPTED_OUT,
    )
