"""What a delivery sends, and what of it and of the answer its attempt keeps.

The body is the same bytes on every try, so that a receiver may compare or store them: the event's
own JSON, in the envelope of Standard Webhooks. Only the timestamp and the signature are the try's.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import sha256
from typing import Any
from uuid import UUID

import orjson
from django.conf import settings

from config.ids import format_id
from jobs.outcomes import Exchange
from webhooks import secrets
from webhooks.answers import Answer
from webhooks.models import Delivery, Event, Payload
from webhooks.signing import sign

REDACTED = "[redacted]"
# Of an answer: what a browser would have to keep to itself.
_SECRET_ANSWERS = frozenset({"set-cookie", "www-authenticate", "authorization"})
_BASE = {"content-type": "application/json", "user-agent": f"Slipway/{settings.VERSION}"}


@dataclass(frozen=True, slots=True)
class Request:
    """One POST: what is sent, and its headers as an attempt shows them."""

    url: str
    body: bytes
    headers: Mapping[str, str]
    shown: Mapping[str, str]


def request(data: Mapping[str, Any], *, now: float) -> Request:
    """The request of a try that is made at `now`, in seconds since 1970.

    Raises KeyLost when a secret was encrypted with a key that is gone.
    """
    body = envelope(data)
    signed = sign(
        signing_secrets(data["secrets"], now=now),
        message_id=format_id("evt", data["event_id"]),
        timestamp=int(now),
        body=body,
    )
    custom = _custom(data["custom_headers"]) if data["custom_headers"] else {}
    # Ours come last: no header of the endpoint's takes the place of a signature.
    return Request(
        url=data["url"],
        body=body,
        headers={**_BASE, **custom, **signed},
        shown={
            **_BASE,
            **dict.fromkeys(custom, REDACTED),
            **signed,
            "webhook-signature": REDACTED,
        },
    )


def envelope(data: Mapping[str, Any]) -> bytes:
    """The body: the event's type, the time of the event (not of the try), and what it says."""
    at: datetime = data["happened_at"]
    stamp = at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    return b'{"type":%s,"timestamp":"%s","data":%s}' % (
        orjson.dumps(data["type"]),
        stamp.encode(),
        data["payload"].encode(),
    )


def body_sent(tenant_id: int, delivery_id: UUID) -> str:
    """What a delivery sends, for operators; "" when what its event says is no longer kept."""
    found = Delivery.objects.filter(pk=delivery_id, tenant_id=tenant_id)
    event = Event.objects.filter(pk__in=found.values("event_id"), tenant_id=tenant_id).first()
    if event is None:
        return ""
    kept = Payload.objects.filter(
        tenant_id=tenant_id, event_id=event.pk, created_at=event.created_at
    )
    payload = event.kept_payload or kept.values_list("data", flat=True).first()
    data = {"type": event.type, "happened_at": event.created_at, "payload": payload}
    return envelope(data).decode(errors="replace") if payload else ""


def signing_secrets(kept: str, *, now: float) -> list[str]:
    """The secrets that are good at `now`, newest first: a rotated one is until its overlap ends.

    `kept` is Endpoint.secrets as JSON. Raises KeyLost.
    """
    return [
        secret
        for secret, until in _opened(kept, tuple(settings.STORED_SECRET_KEYS))
        if until is None or until > now
    ]


def exchange(sent: Request, answer: Answer | None) -> Exchange:
    """What an attempt keeps. The event has the body: its size and digest say that it was that."""
    return Exchange(
        {
            "method": "POST",
            "url": sent.url,
            "headers": sent.shown,
            "body_bytes": len(sent.body),
            "body_sha256": sha256(sent.body).hexdigest(),
        },
        None
        if answer is None
        else {
            "status": answer.status,
            "headers": _shown(answer.headers),
            "body": answer.body,
            "truncated": answer.truncated,
            "address": answer.address,
        },
    )


def _shown(headers: Mapping[str, str]) -> Mapping[str, str]:
    if _SECRET_ANSWERS.isdisjoint(headers):
        return headers
    return {name: REDACTED if name in _SECRET_ANSWERS else value for name, value in headers.items()}


@lru_cache(maxsize=8192)
def _opened(kept: str, ring: tuple[str, ...]) -> list[tuple[str, float | None]]:
    """Each secret, and when it expires; remembered for as long as the key ring stays."""
    return [
        (secrets.decrypt(one["secret"]), _seconds(one.get("expires_at")))
        for one in orjson.loads(kept)
    ]


def _seconds(moment: str | None) -> float | None:
    return None if moment is None else datetime.fromisoformat(moment).timestamp()


@lru_cache(maxsize=8192)
def _custom(stored: str) -> Mapping[str, str]:
    """An endpoint's own headers; names in lower case, since they are the same in any."""
    found: dict[str, str] = orjson.loads(secrets.decrypt(stored))
    return {name.lower(): value for name, value in found.items()}
