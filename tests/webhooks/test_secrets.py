"""Secrets at rest: made at random, unreadable without a key, and moved to a new one."""

from base64 import b64decode

import pytest
from cryptography.fernet import Fernet

from webhooks import secrets
from webhooks.secrets import KeyLost


@pytest.fixture
def ring(settings):
    """Sets the keys that encrypt and decrypt, newest first."""

    def use(*keys):
        settings.STORED_SECRET_KEYS = list(keys)

    return use


def test_a_secret_is_32_random_bytes_with_the_standards_prefix():
    made = {secrets.make() for _ in range(100)}
    assert len(made) == 100
    for secret in made:
        assert secret.startswith("whsec_")
        assert len(b64decode(secret.removeprefix("whsec_"), validate=True)) == 32


def test_what_is_stored_does_not_show_the_secret_and_gives_it_back():
    secret = secrets.make()
    stored, again = secrets.encrypt(secret), secrets.encrypt(secret)
    assert stored != again
    assert stored.isascii()
    assert secret.removeprefix("whsec_") not in stored
    assert secrets.decrypt(stored) == secrets.decrypt(again) == secret


def test_a_new_key_encrypts_and_the_old_one_still_decrypts(ring):
    old, new = Fernet.generate_key().decode(), Fernet.generate_key().decode()
    ring(old)
    before = secrets.encrypt("whsec_a")
    ring(new, old)
    after = secrets.encrypt("whsec_b")
    assert secrets.decrypt(before) == "whsec_a"
    ring(new)
    assert secrets.decrypt(after) == "whsec_b"
    with pytest.raises(KeyLost):
        secrets.decrypt(before)


def test_a_renewed_secret_outlives_the_old_key(ring):
    old, new = Fernet.generate_key().decode(), Fernet.generate_key().decode()
    ring(old)
    stored = secrets.encrypt("whsec_a")
    ring(new, old)
    renewed = secrets.renew(stored)
    ring(new)
    assert secrets.decrypt(renewed) == "whsec_a"
    with pytest.raises(KeyLost):
        secrets.renew(stored)


def test_what_is_remembered_of_a_secret_is_forgotten_with_its_key(ring):
    key = Fernet.generate_key().decode()
    ring(key)
    stored = secrets.encrypt("whsec_a")
    assert secrets.decrypt(stored) == "whsec_a"
    ring(Fernet.generate_key().decode())
    with pytest.raises(KeyLost):
        secrets.decrypt(stored)


def test_what_was_tampered_with_is_not_decrypted():
    stored = secrets.encrypt(secrets.make())
    for text in ("", "x", stored[:-4] + "AAA=", "é"):
        with pytest.raises(KeyLost):
            secrets.decrypt(text)
