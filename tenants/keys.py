"""API keys: making them, recognising them, ending them.

A key reads `slw_<prefix>_<secret>` (a tenant's) or `slp_<prefix>_<secret>` (the platform's). The
secret has 160 random bits, so a fast hash is enough. The database holds sha256(sha256(key)); what
we send it to be recognised by is sha256(key), the *proof*. Whoever reads the table can therefore
show no proof, and injected SQL can neither list keys nor use the functions that ask for one.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Generic, TypeVar

from django.db import DEFAULT_DB_ALIAS, connections, transaction
from django.utils import timezone

from tenants import audit
from tenants.context import TenantRef, tenant_context
from tenants.expiring import ExpiringMap
from tenants.models import ApiKey, PlatformKey
from tenants.problems import KeyNotFound
from tenants.scopes import PLATFORM_SCOPES, TENANT_SCOPES, check_scopes
from tenants.summary import TenantSummary, summary

K = TypeVar("K", ApiKey, PlatformKey)

_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
_PREFIX_LENGTH = 12
_SECRET_LENGTH = 32  # 160 bits.
_PATTERN = re.compile(rf"(slw|slp)_([a-z2-7]{{{_PREFIX_LENGTH}}})_[a-z2-7]{{{_SECRET_LENGTH}}}")

# A revoked key works on in *other* processes for at most this long.
CACHE_SECONDS = 3.0


class Kind(StrEnum):
    """Whose key it is; the value is how the key begins."""

    TENANT = "slw"
    PLATFORM = "slp"


@dataclass(frozen=True, slots=True)
class Proof:
    """That somebody holds a key: its prefix and sha256 of the whole."""

    kind: Kind
    prefix: str
    digest: bytes = field(repr=False)

    def stored(self) -> bytes:
        """What the database keeps of it."""
        return hashlib.sha256(self.digest).digest()


@dataclass(frozen=True, slots=True)
class KnownKey:
    """A key that was recognised."""

    proof: Proof
    scopes: frozenset[str]
    expires_at: datetime | None
    tenant: TenantSummary | None = None  # None for the platform's keys.
    per_minute: int | None = None  # A platform key's own limit.
    used: bool = True  # False for a tenant's key that nobody used yet.


@dataclass(frozen=True, slots=True)
class NewKey(Generic[K]):
    """A key that was made just now; `token` is shown once and stored nowhere."""

    key: K
    token: str = field(repr=False)


_known: ExpiringMap[tuple[Kind, str], KnownKey] = ExpiringMap(seconds=CACHE_SECONDS, size=10_000)


def parse(token: str) -> Proof | None:
    """The proof of a well-formed key; None for anything else."""
    found = _PATTERN.fullmatch(token)
    if found is None:
        return None
    return Proof(Kind(found[1]), found[2], hashlib.sha256(token.encode()).digest())


def recognise(token: str) -> KnownKey | None:
    """Who holds this key: None when it is malformed, unknown, expired or revoked."""
    proof = parse(token)
    if proof is None:
        return None
    known = _known.get((proof.kind, proof.prefix))
    if known is None:
        known = _find(proof)
        if known is None:
            return None
        _known.put((proof.kind, proof.prefix), known)
    # The cache is found by prefix alone: the secret is compared here, in constant time.
    if not hmac.compare_digest(known.proof.digest, proof.digest):
        return None
    if known.expires_at is not None and known.expires_at <= timezone.now():
        return None
    return known


def forget(prefix: str) -> None:
    """Let this process ask the database for the key again."""
    for kind in Kind:
        _known.forget((kind, prefix))


def forget_all() -> None:
    """As `forget`, for every key: a tenant's status is remembered with each of its keys."""
    _known.clear()


def create(
    *,
    tenant: TenantRef,
    name: str,
    scopes: Collection[str],
    actor: str,
    reason: str = "",
    expires_at: datetime | None = None,
    using: str = DEFAULT_DB_ALIAS,
) -> NewKey[ApiKey]:
    """Make a key of a tenant's.

    Raises UnknownScope.
    """
    check_scopes(scopes, among=TENANT_SCOPES)
    token, proof = _draw(Kind.TENANT)
    with tenant_context(tenant), transaction.atomic(using=using):
        key = ApiKey.objects.using(using).create(
            tenant_id=tenant.id, created_by=actor, **_columns(proof, name, scopes, expires_at)
        )
        audit.record(
            actor=actor,
            action="key.created",
            target=f"api_key:{proof.prefix}",
            tenant_id=tenant.id,
            reason=reason,
            after={"scopes": sorted(scopes)},
            using=using,
        )
    return NewKey(key, token)


def create_platform(
    *,
    name: str,
    scopes: Collection[str] = PLATFORM_SCOPES,
    actor: str,
    reason: str = "",
    expires_at: datetime | None = None,
    using: str = "operator",
) -> NewKey[PlatformKey]:
    """Make a key of the platform's. The app role cannot: it runs as operator or owner.

    Raises UnknownScope.
    """
    check_scopes(scopes, among=PLATFORM_SCOPES)
    token, proof = _draw(Kind.PLATFORM)
    with transaction.atomic(using=using):
        key = PlatformKey.objects.using(using).create(
            created_by=actor, **_columns(proof, name, scopes, expires_at)
        )
        audit.record(
            actor=actor,
            action="platform_key.created",
            target=f"platform_key:{proof.prefix}",
            reason=reason,
            after={"scopes": sorted(scopes)},
            using=using,
        )
    return NewKey(key, token)


def revoke(
    *,
    tenant: TenantRef,
    prefix: str,
    actor: str,
    reason: str = "",
    using: str = DEFAULT_DB_ALIAS,
) -> None:
    """End a tenant's key; ending it again changes nothing.

    Raises KeyNotFound.
    """
    with tenant_context(tenant), transaction.atomic(using=using):
        keys = ApiKey.objects.using(using).filter(tenant_id=tenant.id, prefix=prefix)
        if keys.filter(revoked_at=None).update(revoked_at=timezone.now()):
            _record_end([prefix], tenant=tenant, actor=actor, reason=reason, using=using)
        elif not keys.exists():
            raise KeyNotFound
    forget(prefix)


def revoke_all(
    *, tenant: TenantRef, actor: str, reason: str, using: str = DEFAULT_DB_ALIAS
) -> list[str]:
    """End all keys that a tenant has now. Returns their prefixes."""
    with tenant_context(tenant), transaction.atomic(using=using):
        live = ApiKey.objects.using(using).filter(tenant_id=tenant.id, revoked_at=None)
        prefixes = list(live.select_for_update().values_list("prefix", flat=True))
        live.filter(prefix__in=prefixes).update(revoked_at=timezone.now())
        _record_end(prefixes, tenant=tenant, actor=actor, reason=reason, using=using)
    for prefix in prefixes:
        forget(prefix)
    return prefixes


def revoke_platform(*, prefix: str, actor: str, reason: str, using: str = "operator") -> None:
    """End a key of the platform's; ending it again changes nothing.

    Raises KeyNotFound.
    """
    with transaction.atomic(using=using):
        keys = PlatformKey.objects.using(using).filter(prefix=prefix)
        if keys.filter(revoked_at=None).update(revoked_at=timezone.now()):
            audit.record(
                actor=actor,
                action="platform_key.revoked",
                target=f"platform_key:{prefix}",
                reason=reason,
                using=using,
            )
        elif not keys.exists():
            raise KeyNotFound
    forget(prefix)


def _record_end(
    prefixes: Iterable[str], *, tenant: TenantRef, actor: str, reason: str, using: str
) -> None:
    for prefix in prefixes:
        audit.record(
            actor=actor,
            action="key.revoked",
            target=f"api_key:{prefix}",
            tenant_id=tenant.id,
            reason=reason,
            using=using,
        )


def _draw(kind: Kind) -> tuple[str, Proof]:
    prefix, secret = (
        "".join(secrets.choice(_ALPHABET) for _ in range(length))
        for length in (_PREFIX_LENGTH, _SECRET_LENGTH)
    )
    token = f"{kind}_{prefix}_{secret}"
    proof = parse(token)
    assert proof is not None  # noqa: S101 - the line above made it well-formed.
    return token, proof


def _columns(
    proof: Proof, name: str, scopes: Collection[str], expires_at: datetime | None
) -> dict[str, Any]:
    return {
        "prefix": proof.prefix,
        "secret_hash": proof.stored(),
        "name": name,
        "scopes": sorted(scopes),
        "expires_at": expires_at,
    }


def _find(proof: Proof) -> KnownKey | None:
    """Ask the database, which compares the hashes of the proofs: what it says of a guess, if its
    timing said anything, would be about the guess's hash."""
    with connections[DEFAULT_DB_ALIAS].cursor() as cursor:
        if proof.kind is Kind.PLATFORM:
            cursor.execute(
                "select * from slipway.find_platform_key(%s, %s)",
                [proof.prefix, proof.digest],
            )
        else:
            cursor.execute(
                "select * from slipway.find_api_key(%s, %s)",
                [proof.prefix, proof.digest],
            )
        row = cursor.fetchone()
    if row is None:
        return None
    known = KnownKey(proof, frozenset(row[0]), row[1])
    if proof.kind is Kind.PLATFORM:
        return replace(known, per_minute=row[2])
    return replace(known, used=row[2], tenant=summary(row[3:]))
