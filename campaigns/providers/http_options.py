"""What an account of the provider `http` may say in its options, and what is wrong with them."""

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from campaigns.providers import Account
from campaigns.providers.reading import unknown_fields
from config.problems import FieldError, escape
from webhooks import custom_headers

PLACEHOLDER = re.compile(r"\{([a-z_]+(?:\.[a-z0-9_]+)?)\}")
WHATS = frozenset({"sent", "delivered", "read", "failed", "opted_out"})
VERDICTS = frozenset(
    {"accepted", "refused", "opted_out", "later", "slower", "account", "ambiguous"}
)
PERSONAL = frozenset(
    {
        *("message_id", "phone", "digits", "text", "template", "language"),
        *("params", "param_list", "header_list", "button_list"),
    }
)
MOST_BODY = 200  # Values in a body's template.
LONGEST_TEXT = 1000

_KNOWN = frozenset(
    {"path", "headers", "body", "id", "idempotency_header", "statuses", "verify", "receipts"}
)
_RECEIPTS = frozenset({"signature", "items", "id", "message_id", "status", "values", "at", "error"})
_SIGNATURE = frozenset({"header", "secret", "encoding", "prefix"})
# No query of its own is refused; a host, a fragment or a step upwards are.
_PATH = re.compile(r"/(?!/)[A-Za-z0-9._~!$&'()*+,;=:@%/?{}-]{0,500}")
_POINTER = re.compile(r"(?:/(?:[^~/]|~[01])*){0,10}")
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")  # RFC 9110, 5.6.2.
_SENDER = re.compile(r"[!-~](?:[ -~]*[!-~])?")  # It may stand in a header.
_STATUS = re.compile(r"[2-5][0-9][0-9]")

Flaws = Iterator[FieldError]


def flaws(account: Account) -> Flaws:
    """Everything that is wrong with an account's options, each with its pointer."""
    options = account.options
    if not _SENDER.fullmatch(account.sender):
        yield FieldError("/sender", "invalid_sender", "Use visible ASCII characters.")
    credentials = {f"credentials.{name}" for name in account.credentials}
    yield from unknown_fields("/options", options, _KNOWN)
    yield from _path("/options/path", options.get("path"))
    yield from _headers(options.get("headers", {}), {"sender"} | credentials)
    yield from _body(options.get("body"), PERSONAL | {"sender"} | credentials)
    if "id" in options:
        yield from _pointer("/options/id", options["id"])
    yield from _idempotency_header(options)
    yield from _statuses(options.get("statuses", {}))
    yield from _verify(options.get("verify"))
    if "receipts" in options:
        yield from _receipts(options["receipts"], account.credentials)


def _path(where: str, path: Any) -> Flaws:
    if path is None:
        yield FieldError(where, "required", "Required.")
    elif not (isinstance(path, str) and _PATH.fullmatch(path)) or "/.." in path:
        yield FieldError(where, "invalid_path", "Write it like /v1/messages, without a host.")
    else:
        yield from _placeholders(where, path, {"sender"})


def _headers(headers: Any, known: Collection[str]) -> Flaws:
    if not _is_texts(headers):
        yield FieldError("/options/headers", "wrong_type", "Expected names and texts.")
        return
    # As they will be sent: a placeholder of a credential stands for one character here.
    seen = {name: PLACEHOLDER.sub("x", text) for name, text in headers.items()}
    for flaw in custom_headers.flaws(seen):
        yield flaw._replace(pointer=f"/options{flaw.pointer}")
    for name, text in headers.items():
        yield from _placeholders(f"/options/headers/{escape(name)}", text, known)


def _body(body: Any, known: Collection[str]) -> Flaws:
    if not isinstance(body, dict) or not body:
        yield FieldError("/options/body", "required", "Say what is sent: an object.")
        return
    texts = list(_texts("/options/body", body))
    if len(texts) > MOST_BODY:
        yield FieldError("/options/body", "too_long", f"At most {MOST_BODY} texts.")
        return
    for where, text in texts:
        if len(text) > LONGEST_TEXT:
            yield FieldError(where, "too_long", f"At most {LONGEST_TEXT} characters.")
        yield from _placeholders(where, text, known)
    used = {found[1] for _, text in texts for found in PLACEHOLDER.finditer(text)}
    if used.isdisjoint({"phone", "digits"}):
        message = "Nobody would be written to: it needs {phone} or {digits}."
        yield FieldError("/options/body", "no_phone", message)


def _idempotency_header(options: Mapping[str, Any]) -> Flaws:
    name = options.get("idempotency_header")
    if name is None:
        return
    where = "/options/idempotency_header"
    if not (isinstance(name, str) and _HEADER.fullmatch(name)):
        yield FieldError(where, "invalid_name", "It is not the name of a header.")
    else:
        for flaw in custom_headers.flaws({name: "x"}):
            yield flaw._replace(pointer=where)


def _statuses(statuses: Any) -> Flaws:
    if not _is_texts(statuses):
        yield FieldError("/options/statuses", "wrong_type", "Expected statuses and words.")
        return
    for status, word in statuses.items():
        where = f"/options/statuses/{escape(status)}"
        if not _STATUS.fullmatch(status):
            yield FieldError(where, "invalid_name", "Name a status from 200 to 599.")
        elif word not in VERDICTS:
            known = ", ".join(sorted(VERDICTS))
            yield FieldError(where, "unknown_value", f"Use one of {known}.")


def _verify(verify: Any) -> Flaws:
    """Credentials are verified without exception: a mapping says by which call."""
    if not isinstance(verify, dict):
        message = "Say which GET shows that the credentials are good: a path."
        yield FieldError("/options/verify", "required", message)
        return
    yield from unknown_fields("/options/verify", verify, {"method", "path"})
    yield from _path("/options/verify/path", verify.get("path"))
    if verify.get("method", "GET") not in ("GET", "HEAD", "POST"):
        yield FieldError("/options/verify/method", "unknown_value", "Use GET, HEAD or POST.")


def _receipts(receipts: Any, credentials: Mapping[str, str]) -> Flaws:
    where = "/options/receipts"
    if not isinstance(receipts, dict):
        yield FieldError(where, "wrong_type", "Expected object.")
        return
    yield from unknown_fields(where, receipts, _RECEIPTS)
    yield from _signature(receipts.get("signature"), credentials)
    if "status" not in receipts:
        yield FieldError(f"{where}/status", "required", "Required.")
    if "id" not in receipts and "message_id" not in receipts:
        yield FieldError(f"{where}/message_id", "required", "Name this, or id.")
    for name in ("items", "id", "message_id", "status", "at", "error"):
        if name in receipts:
            yield from _pointer(f"{where}/{name}", receipts[name])
    values = receipts.get("values", {})
    if not _is_texts(values) or not WHATS.issuperset(values.values()):
        message = f"Each word of theirs means one of {', '.join(sorted(WHATS))}."
        yield FieldError(f"{where}/values", "unknown_value", message)


def _signature(signature: Any, credentials: Mapping[str, str]) -> Flaws:
    where = "/options/receipts/signature"
    if not _is_texts(signature):
        message = "Callbacks are taken when they are signed: name the header and the secret."
        yield FieldError(where, "required", message)
        return
    yield from unknown_fields(where, signature, _SIGNATURE)
    if not _HEADER.fullmatch(signature.get("header", "")):
        yield FieldError(f"{where}/header", "invalid_name", "It is not the name of a header.")
    if signature.get("secret") not in credentials:
        yield FieldError(f"{where}/secret", "unknown_value", "Name one of the credentials.")
    if signature.get("encoding", "hex") not in ("hex", "base64"):
        yield FieldError(f"{where}/encoding", "unknown_value", "Use hex or base64.")


def _pointer(where: str, pointer: Any) -> Flaws:
    if not (isinstance(pointer, str) and len(pointer) <= 200 and _POINTER.fullmatch(pointer)):
        yield FieldError(where, "invalid_pointer", "Use a JSON pointer such as /messages/0/id.")


def _placeholders(where: str, text: str, known: Collection[str]) -> Flaws:
    for found in PLACEHOLDER.finditer(text):
        if found[1] not in known:
            listed = ", ".join(sorted(f"{{{name}}}" for name in known))
            message = f"{found[0]} cannot stand here. Use {listed}."
            yield FieldError(where, "unknown_placeholder", message)
            return


def _texts(where: str, value: Any) -> Iterator[tuple[str, str]]:
    """Every text in a template, with its pointer."""
    if isinstance(value, str):
        yield where, value
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from _texts(f"{where}/{escape(name)}", inner)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _texts(f"{where}/{index}", inner)


def _is_texts(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(each, str) for each in value.values())
