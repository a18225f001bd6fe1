"""The ring that signs sessions and activation links: SECRET_KEY, and SECRET_KEY_FALLBACKS.

Nobody is signed out: Django accepts what a fallback signed, and here each stored session is signed
again by the new key while the old one is still accepted. What it remembers of the password has no
key in it (tenants.models.User).
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.core import signing

from tenants.activation import LINK_SECONDS
from tenants.models import Session
from tenants.rings import OPERATOR, Ring, Tell, _silent
from tenants.sessions import SessionStore

CHUNK = 500


class SessionRing(Ring):
    """SECRET_KEY signs, SECRET_KEY_FALLBACKS are accepted."""

    name = "sessions"
    lasting = timedelta(seconds=LINK_SECONDS)
    lasting_why = "Activation links that the old key signed are good for three days."

    def keys(self) -> list[str]:
        return [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS]

    def variables(self, keys: Sequence[str]) -> dict[str, str]:
        return {"SECRET_KEY": keys[0], "SECRET_KEY_FALLBACKS": ",".join(keys[1:])}

    def shown(self, keys: Sequence[str], new: str | None) -> dict[str, str]:
        there = self.keys()
        names = dict.fromkeys(there[:1], "<SECRET_KEY of now>")
        names |= {
            key: f"<key {n} of SECRET_KEY_FALLBACKS of now>" for n, key in enumerate(there[1:], 1)
        }
        said = [key if key == new else names[key] for key in keys]
        return self.variables(said)

    def carry(self, tell: Tell = _silent) -> int:
        carried, after = 0, ""
        while True:
            rows = Session.objects.using(OPERATOR).filter(session_key__gt=after)
            chunk = list(rows.order_by("session_key")[:CHUNK])
            count = sum(_signed_again(row) for row in chunk)
            carried += count
            tell(count)
            if len(chunk) < CHUNK:
                return carried
            after = chunk[-1].session_key

    def needs_old(self) -> str:
        count = sum(
            _needs_old(row) for row in Session.objects.using(OPERATOR).iterator(chunk_size=CHUNK)
        )
        return f"{count} sessions are signed by the old key: run it without --finish." * bool(count)


SESSIONS = SessionRing()


def _needs_old(row: Session) -> bool:
    """Whether it can be read, and not by the first key alone."""
    try:
        _read(row, fallback_keys=[])
    except signing.BadSignature:
        return _plain(row) is not None
    return False


def _signed_again(row: Session) -> bool:
    """Sign one anew, unless it was, or somebody changed it meanwhile."""
    if not _needs_old(row) or (data := _plain(row)) is None:
        return False
    rows = Session.objects.using(OPERATOR).filter(pk=row.pk, session_data=row.session_data)
    return bool(rows.update(session_data=SessionStore().encode(data)))


def _plain(row: Session) -> dict[str, Any] | None:
    try:
        return _read(row, fallback_keys=None)
    except signing.BadSignature:
        return None  # Of a key that is gone: nobody is signed in by it.


def _read(row: Session, *, fallback_keys: list[str | bytes] | None) -> dict[str, Any]:
    store = SessionStore()
    data: dict[str, Any] = signing.loads(
        row.session_data,
        salt=store.key_salt,
        serializer=store.serializer,
        fallback_keys=fallback_keys,
    )
    return data
