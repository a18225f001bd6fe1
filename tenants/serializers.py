"""What tenants, keys and audit entries look like outside."""

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any

import msgspec
from django.utils import timezone

from config.ids import format_id
from config.problems import FieldError
from tenants import hosts
from tenants.models import ApiKey, AuditEntry, Tenant

Reason = Annotated[str, msgspec.Meta(min_length=3, max_length=500)]
KeyName = Annotated[str, msgspec.Meta(max_length=100)]
Scopes = Annotated[list[str], msgspec.Meta(min_length=1, max_length=20)]


class Because(msgspec.Struct, forbid_unknown_fields=True):
    """The body of an act that must be explained."""

    reason: Reason


class KeyWish(msgspec.Struct, forbid_unknown_fields=True):
    """The body of POST /v1/keys."""

    scopes: Scopes
    name: KeyName = ""
    expires_at: datetime | None = None

    @staticmethod
    def flaws(read: Any) -> Iterator[FieldError]:
        """What the types cannot say."""
        expires_at = read.expires_at
        if not isinstance(expires_at, datetime):
            return
        if expires_at.tzinfo is None:
            yield FieldError("/expires_at", "no_time_zone", "Name the time zone: …Z or …+02:00.")
        elif expires_at <= timezone.now():
            yield FieldError("/expires_at", "in_the_past", "It is in the past.")


def tenant_as_json(tenant: Tenant) -> dict[str, Any]:
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
        "created_at": tenant.created_at,
        "activated_at": tenant.activated_at,
        "suspended_at": tenant.suspended_at,
    }


def key_as_json(key: ApiKey) -> dict[str, Any]:
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


def audit_entry_as_json(entry: AuditEntry) -> dict[str, Any]:
    return {
        "id": format_id("aud", entry.pk),
        "at": entry.at,
        "actor": entry.actor,
        "action": entry.action,
        "target": entry.target,
        "reason": entry.reason,
        "before": entry.before,
        "after": entry.after,
        "request_id": entry.request_id,
    }
