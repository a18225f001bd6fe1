"""Tries as the console shows them: request and answer side by side, and the request as curl.

Everything in them was written by strangers. Nothing here makes markup: these are texts, in which
nothing hides (config.admin.showing.visible), and the templates escape them.
"""

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit
from uuid import UUID

from config.admin.showing import visible
from config.spelling import is_unseen

REDACTED = "[redacted]"
SHOWN = 32 * 1024  # Characters of a body.
HEX_SHOWN = 2 * 1024  # Bytes of one that is no text.
HEADERS_SHOWN = 64
CURL_BODY = 16 * 1024  # Characters of a body that is still worth copying.
_SECRET = re.compile(r"auth|cookie|token|secret|key|signature|passw|credential|session", re.I)
_HARMLESS = frozenset({"idempotency-key"})  # It has "key" in it, and says nothing.
_LONG_WORD = re.compile(r"[A-Za-z0-9_~+=-]{20,}")


@dataclass(frozen=True, slots=True)
class Body:
    """A body: its text as shown, in which form, and what is to be said of it."""

    text: str
    form: str  # "json", "text", "hex" or "" where there is none.
    note: str = ""


@dataclass(frozen=True, slots=True)
class Side:
    """A request, or an answer."""

    line: str  # "POST https://…", "200"
    headers: list[tuple[str, str]]
    body: Body
    others: list[tuple[str, str]]  # What else is kept of it: label and value.


@dataclass(frozen=True, slots=True)
class Try:
    """One try: both sides, and the request as a command."""

    request: Side | None
    response: Side | None
    curl: str


def tried(
    request: Mapping[str, Any] | None, response: Mapping[str, Any] | None, *, sent: str = ""
) -> Try:
    """What an attempt keeps. `sent` is the request's body where the attempt has it not itself."""
    asked = _request(request, sent) if request else None
    return Try(
        asked, _response(response) if response else None, curl(request, sent) if request else ""
    )


def curl(request: Mapping[str, Any], sent: str = "") -> str:
    """The request as a command line for a POSIX shell, without its secrets.

    Each word is quoted; one with characters that a terminal might obey is spelled out ($'…'). A
    body that is too long to copy is to be in a file named `body`.
    """
    words = ["curl", "--request", str(request.get("method") or "POST")]
    words.append(redacted_url(str(request.get("url") or "")))
    headers = request.get("headers")
    for name, value in headers.items() if isinstance(headers, dict) else ():
        words += ["--header", f"{name}: {_header(name, value)}"]
    body = sent or _raw(request.get("body"))
    if body:
        words += ["--data-binary", body if len(body) <= CURL_BODY else "@body"]
    return " ".join(_quoted(word) for word in words)


def redacted_url(url: str) -> str:
    """An address without what opens doors: user and password, secret parameters, long tokens."""
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
        query = parse_qsl(parts.query, keep_blank_values=True)
    except ValueError:
        return REDACTED
    path = "/".join(REDACTED if _is_token(one) else one for one in parts.path.split("/"))
    kept = [
        (name, REDACTED if _SECRET.search(name) or _is_token(value) else value)
        for name, value in query
    ]
    return urlunsplit((parts.scheme, host, path, urlencode(kept, safe="[]:/"), ""))


def body_of(raw: Any) -> Body:
    """A body as it is to be read: JSON indented, what is no text in hex, both cut."""
    text = _raw(raw)
    if not text:
        return Body("", "")
    size = len(text.encode(errors="replace"))
    if _is_binary(text):
        data = text.encode(errors="replace")[:HEX_SHOWN]
        note = f"No text: the first {len(data):,} of {size:,} bytes in hex."
        return Body(_hex(data), "hex", note)
    shown, form = _indented(text)
    note = f"{size:,} bytes"
    if len(shown) > SHOWN:
        shown, note = shown[:SHOWN], f"{note}, cut here."
    return Body(visible(shown, most=SHOWN + 1), form, note)


def _request(kept: Mapping[str, Any], sent: str) -> Side:
    method, url = str(kept.get("method") or ""), redacted_url(str(kept.get("url") or ""))
    body = body_of(sent or kept.get("body"))
    if not body.form and kept.get("body_bytes") is not None:
        digest = str(kept.get("body_sha256") or "")
        body = Body("", "", f"{kept['body_bytes']} bytes, no longer kept. SHA-256 {digest}")
    known = {"method", "url", "headers", "body", "body_bytes", "body_sha256"}
    return Side(visible(f"{method} {url}".strip()), _headers(kept), body, _others(kept, known))


def _response(kept: Mapping[str, Any]) -> Side:
    body = body_of(kept.get("body"))
    if kept.get("truncated"):
        body = Body(body.text, body.form, f"{body.note} It went on: only this much was kept.")
    known = {"status", "headers", "body", "truncated"}
    return Side(visible(str(kept.get("status", ""))), _headers(kept), body, _others(kept, known))


def _headers(kept: Mapping[str, Any]) -> list[tuple[str, str]]:
    headers = kept.get("headers")
    pairs = list(headers.items())[:HEADERS_SHOWN] if isinstance(headers, dict) else []
    return [(visible(str(name)), visible(_header(name, value))) for name, value in pairs]


def _header(name: str, value: Any) -> str:
    lower = str(name).lower()
    return REDACTED if _SECRET.search(lower) and lower not in _HARMLESS else str(value)


def _others(kept: Mapping[str, Any], known: set[str]) -> list[tuple[str, str]]:
    return [
        (visible(str(name)), REDACTED if _SECRET.search(str(name)) else visible(_raw(value)))
        for name, value in kept.items()
        if name not in known and value not in (None, "")
    ]


def _raw(raw: Any) -> str:
    if raw is None:
        return ""
    return raw if isinstance(raw, str) else json.dumps(raw, ensure_ascii=False, default=str)


def _indented(text: str) -> tuple[str, str]:
    if len(text) <= 4 * SHOWN and text.lstrip()[:1] in "{[":
        try:
            return json.dumps(json.loads(text), indent=2, ensure_ascii=False), "json"
        except (ValueError, RecursionError):
            pass
    return text, "text"


def _is_binary(text: str) -> bool:
    """Whether so much of it is no text that letters would tell nothing."""
    start = text[:4096]
    strange = sum(one == "\ufffd" or (one < " " and one not in "\t\n\r") for one in start)
    return strange > len(start) / 10


def _hex(data: bytes) -> str:
    rows = (data[place : place + 16] for place in range(0, len(data), 16))
    return "\n".join(
        f"{16 * n:08x}  {row.hex(' '):<47}  {_letters(row)}" for n, row in enumerate(rows)
    )


def _letters(row: bytes) -> str:
    return "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)


def _is_token(word: str) -> bool:
    """Whether a word of an address looks drawn by lot. UUIDs name things, and open nothing."""
    if not _LONG_WORD.fullmatch(word):
        return False
    try:
        UUID(word.rpartition("_")[2])
    except ValueError:
        mixed = word.lower() != word and word.upper() != word
        return mixed or any(one.isdigit() for one in word)
    return False


def _quoted(word: str) -> str:
    if not any(is_unseen(one) for one in word):
        return shlex.quote(word)
    return "$'" + "".join(_escaped(one) for one in word) + "'"


def _escaped(letter: str) -> str:
    if letter in "\\'":
        return f"\\{letter}"
    if not is_unseen(letter):
        return letter
    return "".join(f"\\x{byte:02x}" for byte in letter.encode(errors="replace"))
