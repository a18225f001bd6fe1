"""Secrets that are kept: made, encrypted at rest, and read again where they are used.

The key ring is settings.STORED_SECRET_KEYS, newest first: the first key encrypts, all of them
decrypt. `renew` moves a text to the newest key, so that an old one can be dropped.
"""

import secrets
from base64 import b64encode
from collections.abc import Sequence
from functools import lru_cache

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings

PREFIX = "whsec_"
_BYTES = 32  # Standard Webhooks asks for 24 to 64.


class KeyLost(Exception):
    """It was encrypted with a key that is not in STORED_SECRET_KEYS. Put that key back, last."""


def make() -> str:
    """A new signing secret, to be shown once."""
    return PREFIX + b64encode(secrets.token_bytes(_BYTES)).decode()


def encrypt(plain: str) -> str:
    """What may be stored of a secret."""
    return _ring(*settings.STORED_SECRET_KEYS).encrypt(plain.encode()).decode()


def decrypt(stored: str) -> str:
    """The secret again. Raises KeyLost.

    Remembered for a while: a delivery signs with the same few secrets again and again.
    """
    return _decrypted(stored, tuple(settings.STORED_SECRET_KEYS))


def renew(stored: str) -> str:
    """The same secret under the newest key. Raises KeyLost."""
    try:
        return _ring(*settings.STORED_SECRET_KEYS).rotate(stored.encode()).decode()
    except InvalidToken:
        raise KeyLost from None


@lru_cache(maxsize=8192)
def _decrypted(stored: str, keys: Sequence[str]) -> str:
    try:
        return _ring(*keys).decrypt(stored.encode()).decode()
    except InvalidToken:
        raise KeyLost from None


@lru_cache(maxsize=8)
def _ring(*keys: str) -> MultiFernet:
    return MultiFernet([Fernet(key) for key in keys])
