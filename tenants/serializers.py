"""What tenants, keys and audit entries look like outside."""

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any, Literal, TypedDict
from uuid import UUID

import msgspec
from django.utils import timezone
from msgspec import UNSET, UnsetType

from config.ids import format_id
from config.moments import Moment
from config.problems import FieldError
from config.spelling import unseen_flaw
from tenants import currencies, hosts
from tenants.allowances import allowances
from tenants.models import ApiKey, AuditEntry, Tenant

REASON_LEAST, REASON_MOST = 3, 500

Reason = Annotated[str, msgspec.Meta(min_length=REASON_LEAST, max_length=REASON_MOST)]
KeyName = Annotated[str, msgspec.Meta(max_length=100)]
Scopes = Annotated[list[str], msgspec.Meta(min_length=1, max_length=20)]


class Because(msgspec.Struct, forbid_unknown_fields=True):
    """The body of an act that must be explained; blanks around the reason are none of it."""

    reason: Reason

    def __post_init__(self) -> None:
        self.reason = self.reason.strip()

    @staticmethod
    def flaws(read: Any) -> Iterator[FieldError]:
        """What the types cannot say."""
        if not isinstance(read.reason, str):
            return
        if len(read.reason.strip()) < REASON_LEAST:
            yield FieldError("/reason", "too_short", f"Use at least {REASON_LEAST} characters.")
        elif flaw := unseen_flaw(read.reason):
            yield FieldError("/reason", *flaw)


class ReopenWish(Because, forbid_unknown_fields=True):
    """Why a tenant is to be reopened; `from` says what is to be lifted, where both were there."""

    source: Literal["suspended", "closing"] | None = msgspec.field(default=None, name="from")


Amount = Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]
Seconds = Annotated[int, msgspec.Meta(ge=1, le=86_400)]


class LimitsWish(msgspec.Struct, forbid_unknown_fields=True):
    """Limits to set; null is the plan's again, and what is left out stays as it is."""

    endpoints: Amount | UnsetType | None = UNSET
    events: tuple[Amount, Seconds] | UnsetType | None = UNSET

    def given(self) -> dict[str, Any]:
        """The limits that the body names."""
        values = {name: getattr(self, name) for name in self.__struct_fields__}
        return {name: value for name, value in values.items() if value is not UNSET}


Currency = Annotated[
    str,
    msgspec.Meta(
        description="An active code of ISO 4217.",
        examples=["EUR"],
        # Not `pattern`: what is wrong is said once, and by `flaws`.
        extra_json_schema={"pattern": "^[A-Z]{3}$"},
    ),
]


class TenantChange(msgspec.Struct, forbid_unknown_fields=True):
    """The body of PATCH /v1/tenants/{id or slug}: limits, the currency of its amounts, or both.

    A currency is one of ISO 4217, needs a reason, and null is that of the sign-up again.
    """

    limits: LimitsWish | UnsetType = UNSET
    currency: Currency | UnsetType | None = UNSET
    reason: Annotated[str, msgspec.Meta(max_length=REASON_MOST)] = ""

    @staticmethod
    def flaws(read: Any) -> Iterator[FieldError]:
        """What the types cannot say."""
        if isinstance(read.currency, str) and (unknown := currencies.flaw(read.currency)):
            yield FieldError("/currency", *unknown)
        if not isinstance(read.reason, str):
            return
        if flaw := unseen_flaw(read.reason):
            yield FieldError("/reason", *flaw)
        elif read.currency is not UNSET and len(read.reason.strip()) < REASON_LEAST:
            yield FieldError("/reason", "too_short", f"Use at least {REASON_LEAST} characters.")


class KeyWish(msgspec.Struct, forbid_unknown_fields=True):
    """The body of POST /v1/keys."""

    scopes: Scopes
    name: KeyName = ""
    expires_at: datetime | None = None

    @staticmethod
    def flaws(read: Any) -> Iterator[FieldError]:
        """What the types cannot say."""
        if isinstance(read.name, str) and (flaw := unseen_flaw(read.name)):
            yield FieldError("/name", *flaw)
        expires_at = read.expires_at
        is_whole = isinstance(expires_at, datetime) and expires_at.tzinfo is not None
        if is_whole and expires_at <= timezone.now():
            yield FieldError("/expires_at", "in_the_past", "It is in the past.")


class LimitsAnswer(TypedDict):
    """What a tenant may have and do: endpoints; events published, in how many seconds."""

    endpoints: int
    events: tuple[int, int]


class TenantAnswer(TypedDict):
    """A tenant, as the platform sees it."""

    id: str
    slug: str
    name: str
    url: str
    plan: str
    home: str
    status: str
    external_id: str | None
    metadata: dict[str, Any]
    locale: str
    time_zone: str
    currency: str | None
    limits: LimitsAnswer
    created_at: Moment
    activated_at: Moment | None
    suspended_at: Moment | None
    closes_at: Moment | None
    closed_at: Moment | None


class KeyAnswer(TypedDict):
    """A tenant's API key, without its secret."""

    id: str
    prefix: str
    name: str
    scopes: list[str]
    created_at: Moment
    created_by: str
    expires_at: Moment | None
    revoked_at: Moment | None
    last_used_at: Moment | None


class NewKeyAnswer(KeyAnswer):
    """A key that was just made: the only time that it is shown whole."""

    key: str


class AuditAnswer(TypedDict):
    """An entry of the audit trail."""

    id: str
    at: Moment
    tenant: str | None
    actor: str
    action: str
    target: str
    reason: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    request_id: str
    address: str | None


def tenant_as_json(tenant: Tenant) -> TenantAnswer:
    return {
        "id": format_id("tnt", tenant.uuid),
        "slug": tenant.slug,
        "name": tenant.name,
        "url": hosts.tenant_url(tenant.slug),
        "plan": tenant.plan,
        "home": tenant.home,
        "status": tenant.status,
        "external_id": tenant.external_id,
        "metadata": tenant.metadata,
        "locale": tenant.locale,
        "time_zone": tenant.time_zone,
        "currency": currencies.currency_of(said=tenant.currency, metadata=tenant.metadata),
        "limits": _limits_as_json(tenant),
        "created_at": tenant.created_at,
        "activated_at": tenant.activated_at,
        "suspended_at": tenant.suspended_at,
        "closes_at": tenant.closes_at,
        "closed_at": tenant.closed_at,
    }


def _limits_as_json(tenant: Tenant) -> LimitsAnswer:
    held = allowances(plan=tenant.plan, limits=tenant.limits)
    return {"endpoints": held["endpoints"], "events": tuple(held["events"])}


def key_as_json(key: ApiKey) -> KeyAnswer:
    return {
        "id": format_id("key", key.pk),
        "prefix": f"slw_{key.prefix}",
        "name": key.name,
        "scopes": key.scopes,
        "created_at": key.created_at,
        "created_by": key.created_by,
        "expires_at": key.expires_at,
        "revoked_at": key.revoked_at,
        "last_used_at": key.last_used_at,
    }


def audit_entry_as_json(entry: AuditEntry) -> AuditAnswer:
    """An entry as slipway.platform_audit() gives it: with its tenant's public id."""
    tenant: UUID | None = entry.tenant_uuid  # type: ignore[attr-defined]
    return {
        "id": format_id("aud", entry.pk),
        "at": entry.at,
        "tenant": format_id("tnt", tenant) if tenant else None,
        "actor": entry.actor,
        "action": entry.action,
        "target": entry.target,
        "reason": entry.reason,
        "before": entry.before,
        "after": entry.after,
        "request_id": entry.request_id,
        "address": entry.address,
    }
