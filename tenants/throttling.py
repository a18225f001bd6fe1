"""How often callers may call, and people may try a password."""

import hashlib

from django.http import HttpRequest

from config import limits
from config.limits import Limit
from config.proxies import client_address
from tenants.context import require_tenant

# A guesser gets a few tries at one account from anywhere, and more accounts from one address.
LOGIN_ACCOUNT = Limit("login-account", 10, 15 * 60)
LOGIN_ADDRESS = Limit("login-address", 60, 15 * 60)
ACTIVATION_ADDRESS = Limit("activation-address", 20, 15 * 60)
INVALID_KEY = Limit("invalid-key", 60, 60)
TENANT_KEY = Limit("tenant-key", 1200, 60)


def count_login(request: HttpRequest, email: str) -> None:
    """Raises RateLimited."""
    account = hashlib.sha256(email.strip().lower().encode()).hexdigest()[:32]
    limits.take(
        request,
        LOGIN_ACCOUNT.of(f"{require_tenant().id}:{account}"),
        LOGIN_ADDRESS.of(client_address(request)),
    )


def count_activation(request: HttpRequest) -> None:
    """Raises RateLimited."""
    limits.take(request, ACTIVATION_ADDRESS.of(client_address(request)))


def count_invalid_key(request: HttpRequest) -> None:
    """Raises RateLimited when an address has shown too many keys that are none."""
    limits.take(request, INVALID_KEY.of(client_address(request)))


def count_call(request: HttpRequest, *, prefix: str, per_minute: int | None) -> None:
    """Count a call with a key; `per_minute` is a platform key's own limit. Raises RateLimited."""
    limit = Limit("platform-key", per_minute, 60) if per_minute is not None else TENANT_KEY
    limits.take(request, limit.of(prefix))
