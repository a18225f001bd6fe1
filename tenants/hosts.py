"""From a host name to its tenant.

Three places are asked in turn: this process (some seconds), Redis (15 seconds; the onboarding
step `cache` puts a new tenant there), and Postgres through `slipway.tenant_by_host`. What Redis
says is signed by us: whoever can write there can make us ask again, and nothing else.
"""

import re
import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import redis
import structlog
from django.conf import settings
from django.core import signing
from django.db import DEFAULT_DB_ALIAS, connections
from django.http import HttpRequest

from config import redis as shared_redis
from tenants.context import TenantRef
from tenants.expiring import ExpiringMap
from tenants.states import TenantStatus
from tenants.summary import TenantSummary, summary

KNOWN_SECONDS = 3.0
UNKNOWN_SECONDS = 2.0
CHANGING_SECONDS = 0.5  # While a tenant is made, its page is about to change.
SHARED_SECONDS = 15
_REDIS_PAUSE = 10.0  # After an error Redis is left alone for this long.
_REDIS_TIMEOUT = 0.25

# Nothing that a URL parser could read in two ways: no user, no path, one port at most.
_HOST = re.compile(
    r"(?:\[(?P<address>[0-9a-fA-F:.]+)\]|(?P<name>[^\s:/?#@\[\]\\]+))(?::[0-9]{1,5})?"
)
_NAME = re.compile(r"[a-z0-9_-][a-z0-9._-]{0,252}")

_log = structlog.get_logger(__name__)
_signer = signing.Signer(salt="tenants.hosts")
_remembered: ExpiringMap[str, tuple[TenantSummary | None]] = ExpiringMap(
    seconds=KNOWN_SECONDS, size=10_000
)
_redis_again_at = 0.0


def host_of(request: HttpRequest) -> str:
    """The host that a request asks for, normalised; "" when it names none that could exist.

    Only the Host header counts: X-Forwarded-Host is anybody's to write.
    """
    return normalise(request.META.get("HTTP_HOST") or request.META.get("SERVER_NAME", ""))


def normalise(host: str) -> str:
    """A Host header as the lower-case ASCII name without port, trailing dot and `www.`.

    Names beyond ASCII become their `xn--` form; "" for what is no host name.
    """
    found = _HOST.fullmatch(host)
    if found is None:
        return ""
    if found["address"]:
        return found["address"].lower()
    try:
        name = found["name"].removesuffix(".").encode("idna").decode("ascii").lower()
    except UnicodeError:
        return ""
    return name.removeprefix("www.") if _NAME.fullmatch(name) else ""


def is_apex(host: str) -> bool:
    """Whether it is the platform's own address and no tenant's."""
    return host in settings.APEX_HOSTS or f"www.{host}" in settings.APEX_HOSTS


def tenant_url(slug: str, path: str = "/") -> str:
    """The address of a tenant's page; scheme and port are PUBLIC_URL's, never a request's."""
    public = urlsplit(settings.PUBLIC_URL)
    port = f":{public.port}" if public.port else ""
    return f"{public.scheme}://{slug}.{settings.TENANT_DOMAIN}{port}{path}"


def find(host: str) -> TenantSummary | None:
    """The tenant that lives at `host` (normalised), in whatever status it is; None: nobody."""
    remembered = _remembered.get(host)
    if remembered is not None:
        return remembered[0]
    tenant = _from_redis(host)
    if tenant is None:
        tenant = _from_database(host)
        if tenant is not None:
            _to_redis(host, tenant)
    _remembered.put(host, (tenant,), seconds=_lifetime(tenant))
    return tenant


def warm(hosts: Sequence[str]) -> None:
    """Put hosts where every process finds them. Read by `find`; called by onboarding's `cache`."""
    for host in hosts:
        _remembered.forget(host)
        tenant = _from_database(host)
        if tenant is not None:
            _to_redis(host, tenant)


def forget(hosts: Sequence[str]) -> None:
    """Make `find` ask Postgres: at once here, in other processes after KNOWN_SECONDS."""
    for host in hosts:
        _remembered.forget(host)
    _ask_redis("del", *[_redis_key(host) for host in hosts])


def forget_all_here() -> None:
    """Empty this process's memory."""
    _remembered.clear()


def _lifetime(tenant: TenantSummary | None) -> float:
    if tenant is None:
        return UNKNOWN_SECONDS
    return CHANGING_SECONDS if tenant.status == TenantStatus.PROVISIONING else KNOWN_SECONDS


def _from_database(host: str) -> TenantSummary | None:
    with connections[DEFAULT_DB_ALIAS].cursor() as cursor:
        cursor.execute("select * from slipway.tenant_by_host(%s)", [host])
        row = cursor.fetchone()
    return summary(row) if row else None


def _from_redis(host: str) -> TenantSummary | None:
    signed = _ask_redis("get", _redis_key(host))
    if not signed:
        return None
    try:
        named, tenant_id, schema, uuid, slug, status = _signer.unsign_object(signed.decode())
    except (signing.BadSignature, ValueError, TypeError):
        return None
    if named != host:  # A true entry under another's name.
        return None
    return TenantSummary(TenantRef(tenant_id, schema), UUID(uuid), slug, status)


def _to_redis(host: str, tenant: TenantSummary) -> None:
    if tenant.status == TenantStatus.PROVISIONING:
        return
    entry = [host, *tenant.ref, str(tenant.uuid), tenant.slug, tenant.status]
    _ask_redis("set", _redis_key(host), _signer.sign_object(entry), "ex", SHARED_SECONDS)


def _redis_key(host: str) -> str:
    return f"slipway:host:{host}"


def _ask_redis(command: str, *arguments: Any) -> Any:
    """Redis's answer; None when it has none, or is away. Routing never waits for it twice."""
    global _redis_again_at
    if not arguments or time.monotonic() < _redis_again_at:
        return None
    try:
        client = shared_redis.client(timeout=_REDIS_TIMEOUT)
        return client.execute_command(command, *arguments)  # type: ignore[no-untyped-call]
    except redis.RedisError as error:
        _redis_again_at = time.monotonic() + _REDIS_PAUSE
        _log.warning("Redis is away; hosts are looked up in Postgres", error=type(error).__name__)
        return None
