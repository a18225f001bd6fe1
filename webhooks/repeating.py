"""Endpoints that are asked for twice with one Idempotency-Key: the id of the first knows it again.

An endpoint is made once, and its key is good for a day: that is worth no columns. The random part
of the UUIDv7 (RFC 9562, 5.7) is made of the key and of what was asked for with it; its time, to the
millisecond, is that of the first secret.
"""

import hashlib
import hmac
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from django.db.models import TextField
from django.db.models.functions import Cast, Right
from django.utils import timezone

from config.idempotency import KEPT
from webhooks.errors import EndpointChanged, EndpointKeyReused
from webhooks.models import Endpoint

_KEY_DIGITS = 12  # In hexadecimal, at the end of the id: 48 bits.
_VERSION_AND_VARIANT = 7 << 76 | 2 << 62


class Repeatable(NamedTuple):
    """What a caller may send twice: the digest of its key, and the body that goes with it."""

    key: bytes
    body: bytes  # Of it 26 bits are remembered: it is a mistake that they find, and no attack.

    def id(self, made_at: datetime) -> UUID:
        """The id of the endpoint that it makes at that time."""
        body = int.from_bytes(hmac.digest(self.key, self.body, hashlib.sha256)[:4]) >> 6
        said = (body >> 14) << 64 | (body & 0x3FFF) << 48 | int(self.tail, 16)
        return UUID(int=_milliseconds(made_at) << 80 | _VERSION_AND_VARIANT | said)

    @property
    def tail(self) -> str:
        """The last digits of its id, which are the key's."""
        return hashlib.sha256(b"endpoint\0" + self.key).hexdigest()[:_KEY_DIGITS]


def made_before(wish: Repeatable) -> Endpoint | None:
    """What the current tenant made with this key in the last 24 hours, if there is any.

    Raises EndpointKeyReused when that was something else, and EndpointChanged when its first secret
    is not there to be shown any more. Two at once are told apart by the caller's lock.
    """
    since = _milliseconds(timezone.now() - KEPT) << 80
    rows = Endpoint.objects.filter(pk__gte=UUID(int=since))
    rows = rows.annotate(tail=Right(Cast("pk", TextField()), _KEY_DIGITS))
    found = rows.filter(tail=wish.tail).order_by("-id").first()
    if found is None:
        return None
    if not _is_same(found.pk, wish):
        raise EndpointKeyReused
    if found.deleted_at is not None:
        raise EndpointChanged("It was made, and deleted since.")
    newest = datetime.fromisoformat(found.secrets[0]["made_at"])
    if _milliseconds(newest) != found.pk.int >> 80:
        raise EndpointChanged("It was made, and given another secret since.")
    return found


def _is_same(id_: UUID, wish: Repeatable) -> bool:
    """Whether all but the time of the id is what this wish would make of it."""
    mask = (1 << 80) - 1
    return id_.int & mask == wish.id(timezone.now()).int & mask


def _milliseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
