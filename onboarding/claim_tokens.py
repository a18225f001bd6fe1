"""Claim tokens: what the caller of a sign-up shows to be given the tenant's first API key.

A token is made from the request id and the time of the sign-up alone, so that a replay answers with
the same one and nothing of it is ever stored. It has keys (settings.CLAIM_KEYS, newest first) and a
purpose of its own: no other signature of ours can be passed off as one.
"""

import hashlib
import hmac
from base64 import urlsafe_b64encode
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings

LIFETIME = timedelta(days=7)  # As long as an unverified tenant is kept.
_PURPOSE = b"slipway onboarding claim v1"


def make(request_id: UUID, *, created_at: datetime) -> str:
    """The claim token of a sign-up, good for LIFETIME from `created_at`."""
    expires_at = int((created_at + LIFETIME).timestamp())
    return f"clm_{expires_at:x}_{_mac(settings.CLAIM_KEYS[0], request_id, expires_at)}"


def is_valid(token: str, request_id: UUID, *, now: datetime) -> bool:
    """Whether `token` was made for this sign-up and is still good. In constant time."""
    prefix, _, rest = token.partition("_")
    expiry, _, mac = rest.partition("_")
    if prefix != "clm" or not mac.isascii() or len(expiry) > 12:
        return False
    try:
        expires_at = int(expiry, 16)
    except ValueError:
        return False
    matches = [
        hmac.compare_digest(_mac(k, request_id, expires_at), mac) for k in settings.CLAIM_KEYS
    ]
    return any(matches) and now.timestamp() < expires_at


def _mac(key: bytes, request_id: UUID, expires_at: int) -> str:
    message = b"%s.%s.%d" % (_PURPOSE, request_id.bytes.hex().encode(), expires_at)
    return urlsafe_b64encode(hmac.digest(key, message, hashlib.sha256)).rstrip(b"=").decode()
