"""People, keys and browsers for tests: plain functions, through services where there are any."""

import re
import uuid

from django.test import Client
from django.utils import timezone

from tenants import keys
from tenants.models import Membership, Tenant, User
from tenants.routers import as_operator
from tenants.scopes import PLATFORM_SCOPES, TENANT_SCOPES

PASSWORD = "correct-horse-battery"
APEX = "slipway.localhost"


def tenant_key(tenant: Tenant, *scopes: str, **fields) -> str:
    """The text of a new key of the tenant's; all scopes unless some are named."""
    made = keys.create(
        tenant=tenant.ref,
        name="test",
        scopes=scopes or tuple(TENANT_SCOPES),
        actor="system:test",
        **fields,
    )
    return made.token


def platform_key(*scopes: str, **fields) -> str:
    """The text of a new key of the platform's; all scopes unless some are named."""
    made = keys.create_platform(
        name="test", scopes=scopes or tuple(PLATFORM_SCOPES), actor="system:test", **fields
    )
    return made.token


def prefix_of(token: str) -> str:
    return token.split("_")[1]


def bearer(token: str, **more: str) -> dict[str, str]:
    """Headers of an API call on the platform's own host."""
    return {"Authorization": f"Bearer {token}", "Host": APEX, **more}


def make_user(
    tenant: Tenant | None = None,
    *,
    email: str | None = None,
    role: str = "owner",
    activated: bool = True,
    accepted: bool = True,
    staff: bool = False,
) -> User:
    """A person with PASSWORD; the member of a tenant, or an operator."""
    now = timezone.now()
    with as_operator():
        user = User.objects.create_user(
            email or f"{uuid.uuid4().hex[:12]}@example.org",
            PASSWORD if activated else None,
            activated_at=now if activated else None,
            is_staff=staff,
            is_superuser=staff,
        )
        if tenant is not None:
            join(user, tenant, role=role, accepted=accepted)
    return user


def join(user: User, tenant: Tenant, *, role: str = "member", accepted: bool = True) -> Membership:
    with as_operator():
        return Membership.objects.create(
            tenant=tenant, user=user, role=role, accepted_at=timezone.now() if accepted else None
        )


def host_of(tenant: Tenant) -> str:
    return f"{tenant.slug}.slipway.localhost"


class Browser:
    """A browser at one host: it keeps cookies, asks for HTML and sends the forms' CSRF tokens."""

    def __init__(self, host: str = APEX) -> None:
        self.client = Client(enforce_csrf_checks=True)
        self.headers = {"Host": host, "Accept": "text/html"}

    def get(self, path: str, **headers: str):
        return self.client.get(path, headers={**self.headers, **headers})

    def post(self, path: str, form: str | None = None, **fields: str):
        """Fetch the page `form` (by default `path`), then post its form with these fields."""
        token = csrf_token(self.get(form or path).content.decode())
        return self.client.post(
            path, {"csrfmiddlewaretoken": token, **fields}, headers=self.headers
        )

    def login(self, user: User, password: str = PASSWORD):
        return self.post("/login", email=user.email, password=password)

    def cookie(self) -> str:
        return self.client.cookies["slipway"].value

    def take_cookie(self, value: str) -> None:
        self.client.cookies["slipway"] = value


def csrf_token(html: str) -> str:
    found = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', html)
    return found[1] if found else ""
