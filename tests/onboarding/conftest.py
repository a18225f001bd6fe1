"""Callers of the sign-up API, and a look at what their sign-ups left in the world."""

import json
import uuid
from dataclasses import dataclass, field

import pytest
from django.test import Client

from tests.onboarding import world
from tests.people import APEX, platform_key


@dataclass
class SignUpCaller:
    """Somebody who signs tenants up: the platform with its key, or a stranger at an address."""

    token: str = ""
    address: str = ""
    client: Client = field(default_factory=Client)

    def sign_up(self, *, key: str | None = None, **body):
        body = {
            "email": f"{uuid.uuid4().hex[:12]}@{uuid.uuid4().hex[:12]}.example",
            "tenant_name": "Acme",
            "plan": "free",
            **body,
        }
        return self.post("/v1/onboard", body, key=key)

    def post(self, path: str, body, *, key: str | None = None, **headers: str):
        raw = body if isinstance(body, (bytes, str)) else json.dumps(body)
        return self.client.post(
            path,
            raw,
            content_type=headers.pop("content_type", "application/json"),
            headers=self.headers(**({"Idempotency-Key": key} if key else {}), **headers),
            REMOTE_ADDR=self.address,
        )

    def get(self, path: str, **headers: str):
        return self.client.get(path, headers=self.headers(**headers), REMOTE_ADDR=self.address)

    def status(self, accepted, **headers: str):
        return self.get(f"/v1/onboard/{accepted.json()['request_id']}", **headers)

    def headers(self, **more: str) -> dict[str, str]:
        authorization = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        return {"Host": APEX, **authorization, **more}


@pytest.fixture
def platform():
    """The platform's back end."""
    return SignUpCaller(token=platform_key(), address=world.fresh_address())


@pytest.fixture
def stranger():
    """Somebody without a key, at an address of their own."""
    return SignUpCaller(address=world.fresh_address())


@pytest.fixture
def smtp(settings):
    """A mail server on loopback, and Django's mail set to it."""
    with world.MailServer() as server:
        settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
        settings.EMAIL_HOST, settings.EMAIL_PORT = server.host, server.port
        yield server
