"""The only writer of endpoints. Each service works for one owner, as the app role under RLS.

Every change takes the endpoint's row first, so that no two cross; then works in the order of their
ids, then the lane, as everywhere. Nothing else locks an endpoint while it holds works.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import connection, transaction
from django.utils import timezone

from config.ids import format_id
from tenants import audit
from tenants.allowances import allowances
from tenants.context import TenantRef, tenant_context
from tenants.models import Tenant
from webhooks import custom_headers, lanes, moving, repeating, secrets, testing
from webhooks.addresses import policy
from webhooks.destinations import destination
from webhooks.errors import (
    EndpointDisabled,
    EndpointNotFound,
    SecretInUse,
    TooManyEndpoints,
    TooManyHeaders,
    TooManySecrets,
)
from webhooks.models import Endpoint
from webhooks.moving import Move
from webhooks.repeating import Repeatable

MOST_OLD_SECRETS = 10
LONGEST_OVERLAP = 7 * 86400  # Seconds.
# The columns that a caller's fields are written to as they are.
_PLAIN = ("description", "event_types", "rate", "max_in_flight", "timeout", "schedule", "ordered")

_PACE = frozenset({"rate", "max_in_flight"})  # The lane says them too.


@dataclass(frozen=True, slots=True)
class NewEndpoint:
    """An endpoint that was just made; its secret is shown once, and kept encrypted."""

    endpoint: Endpoint
    secret: str = field(repr=False)
    replayed: bool = False  # It was made before, by the same call.


def create(
    *,
    tenant: TenantRef,
    fields: Mapping[str, Any],
    actor: str,
    secret: str | None = None,
    once: Repeatable | None = None,
) -> NewEndpoint:
    """Make an endpoint of these `fields`: `url` and others of the model, `headers`, `disabled`.

    `once` makes a single one of all calls that it comes with, in 24 hours.
    Raises BadUrl, TooManyEndpoints, EndpointKeyReused, EndpointChanged.
    """
    secret = secret or secrets.make()
    endpoint = _unsaved(tenant, fields, secret, once)
    with tenant_context(tenant), transaction.atomic():
        _wait_for_turn(tenant)
        if once is not None and (found := repeating.made_before(once)) is not None:
            return NewEndpoint(found, secrets.decrypt(found.secrets[0]["secret"]), replayed=True)
        _refuse_too_many(tenant)
        endpoint.save(force_insert=True)
        lanes.mirror(endpoint)
        if endpoint.disabled_at is not None:
            lanes.shut(endpoint, why="the endpoint is disabled")
        _record(endpoint, "endpoint.created", actor, after=_told(endpoint))
        endpoint.refresh_from_db()  # The database's own times.
    return NewEndpoint(endpoint, secret)


def change(
    *, tenant: TenantRef, endpoint_id: UUID, fields: Mapping[str, Any], actor: str
) -> Endpoint:
    """Change the named fields and no others. What waits goes to the new URL, in the new order.

    Raises EndpointNotFound, BadUrl, TooManyHeaders, TooManyUnfinished.
    """
    with tenant_context(tenant), transaction.atomic():
        endpoint = _locked(endpoint_id, from_publishers="ordered" in fields)
        before = _told(endpoint)
        was_ordered, host, url = endpoint.ordered, endpoint.host, endpoint.url
        _assign(endpoint, fields)
        if endpoint.ordered and not was_ordered:
            moving.put_in_order(endpoint)
        _save(endpoint, *_PLAIN, "url", "host", "custom_headers", "next_seq")
        if was_ordered and not endpoint.ordered:
            moving.begin(endpoint, Move.UNORDER, actor=actor)
        if endpoint.host != host:
            moving.begin(endpoint, Move.RETARGET, actor=actor)
        if endpoint.url != url:
            lanes.begin_afresh(endpoint)
        if not _PACE.isdisjoint(fields):
            lanes.mirror(endpoint)
        after = _told(endpoint) | {"changed": sorted(fields)}
        _record(endpoint, "endpoint.changed", actor, before=before, after=after)
    return endpoint


def delete(*, tenant: TenantRef, endpoint_id: UUID, actor: str, reason: str = "") -> None:
    """Tell an endpoint nothing any more, for good. What was told stays to be read about.

    What waits is cancelled; dead letters wait on for whoever resolves them.
    Raises EndpointNotFound.
    """
    with tenant_context(tenant), transaction.atomic():
        endpoint = _locked(endpoint_id)
        endpoint.deleted_at = timezone.now()
        # Nobody has a use for them any more.
        endpoint.secrets, endpoint.custom_headers = [], ""
        _save(endpoint, "deleted_at", "secrets", "custom_headers")
        cancelled = moving.begin(endpoint, Move.CANCEL, actor=actor, reason=reason)
        lanes.shut(endpoint, why="the endpoint was deleted")
        after = {"cancelled_at_once": cancelled}
        _record(endpoint, "endpoint.deleted", actor, reason, before=_told(endpoint), after=after)


def disable(
    *,
    tenant: TenantRef,
    endpoint_id: UUID,
    actor: str,
    reason: str = "",
    because: Endpoint.Disabled = Endpoint.Disabled.REQUESTED,
) -> bool:
    """Tell an endpoint nothing for now; what there is to tell is held, and so is what comes.

    Says whether it changed anything: a disabled endpoint stays disabled.
    Raises EndpointNotFound.
    """
    with tenant_context(tenant), transaction.atomic():
        endpoint = _locked(endpoint_id)
        if endpoint.disabled_at is not None:
            return False
        endpoint.disabled_at = timezone.now()
        endpoint.disabled_reason = because
        _save(endpoint, "disabled_at", "disabled_reason")
        moving.begin(endpoint, Move.HOLD, actor=actor, reason=reason)
        lanes.shut(endpoint, why="the endpoint is disabled")
        after = {"disabled": True, "because": str(because)}
        _record(endpoint, "endpoint.disabled", actor, reason, {"disabled": False}, after)
    return True


def enable(
    *, tenant: TenantRef, endpoint_id: UUID, actor: str, discard: bool = False, reason: str = ""
) -> bool:
    """Tell an endpoint again. What was held is delivered, the oldest first, or given up.

    It begins with a clean slate: what failed before counts no more. Says whether it changed
    anything. Raises EndpointNotFound.
    """
    with tenant_context(tenant), transaction.atomic():
        endpoint = _locked(endpoint_id)
        if endpoint.disabled_at is None:
            return False
        because = endpoint.disabled_reason
        endpoint.disabled_at, endpoint.disabled_reason = None, ""
        if discard:
            endpoint.discarded_until = moving.newest_waiting(endpoint) or endpoint.discarded_until
        _save(endpoint, "disabled_at", "disabled_reason", "discarded_until")
        # What was given up before, and is not all cancelled yet, stays given up.
        moves = [Move.DISCARD] if endpoint.discarded_until is not None else []
        moves += [] if discard else [Move.RELEASE]
        count = 0
        for move in moves:
            count += moving.begin(endpoint, move, actor=actor, reason=reason)
        lanes.open_again(endpoint)
        before = {"disabled": True, "because": because}
        held = Move.DISCARD if discard else Move.RELEASE
        after = {"disabled": False, "held": str(held), "at_once": count}
        _record(endpoint, "endpoint.enabled", actor, reason, before, after)
    return True


def rotate_secret(
    *,
    tenant: TenantRef,
    endpoint_id: UUID,
    overlap: timedelta,
    actor: str,
    secret: str | None = None,
) -> NewEndpoint:
    """Sign with a new secret; for `overlap`, with those from before as well.

    Raises EndpointNotFound, SecretInUse, TooManySecrets.
    """
    secret = secret or secrets.make()
    with tenant_context(tenant), transaction.atomic():
        endpoint = _locked(endpoint_id)
        old = _ageing(endpoint.secrets, overlap)
        if len(old) > MOST_OLD_SECRETS:
            raise TooManySecrets(f"At most {MOST_OLD_SECRETS} old ones; one ends soon.")
        if any(secrets.decrypt(one["secret"]) == secret for one in endpoint.secrets):
            raise SecretInUse
        endpoint.secrets = [_kept(secret, timezone.now()), *old]
        _save(endpoint, "secrets")
        after = {"overlap_seconds": int(overlap.total_seconds()), "signing": 1 + len(old)}
        _record(endpoint, "endpoint.secret_rotated", actor, after=after)
    return NewEndpoint(endpoint, secret)


def send_test(*, tenant: TenantRef, endpoint_id: UUID, actor: str) -> testing.Test:
    """Have `webhook.test` delivered to this endpoint alone: its attempts tell the rest.

    Raises EndpointNotFound, EndpointDisabled.
    """
    with tenant_context(tenant), transaction.atomic():
        endpoint = find(endpoint_id)
        if endpoint.disabled_at is not None:
            raise EndpointDisabled
        test = testing.send(endpoint)
        after = {"delivery": format_id("dlv", test.delivery_id)}
        _record(endpoint, "endpoint.tested", actor, after=after)
    return test


def find(endpoint_id: UUID) -> Endpoint:
    """An endpoint of the current tenant's. Raises EndpointNotFound."""
    endpoint = Endpoint.objects.filter(pk=endpoint_id, deleted_at=None).first()
    if endpoint is None:
        raise EndpointNotFound
    return endpoint


def limit(tenant: TenantRef) -> int:
    """How many endpoints this owner may have (tenants.allowances)."""
    rows = Tenant.objects.filter(pk=tenant.id).values_list("plan", "limits")
    plan, limits = rows.first() or ("", {})  # The platform has no row, and everybody's limit.
    return int(allowances(plan=plan, limits=limits)["endpoints"])


def _unsaved(
    tenant: TenantRef, fields: Mapping[str, Any], secret: str, once: Repeatable | None
) -> Endpoint:
    """An endpoint that is to be. Raises BadUrl, TooManyHeaders."""
    now = timezone.now()
    endpoint = Endpoint(tenant_id=tenant.id, secrets=[_kept(secret, now)])
    if once is not None:
        endpoint.id = once.id(now)
    _assign(endpoint, fields)
    if fields.get("disabled"):
        endpoint.disabled_at = now
        endpoint.disabled_reason = Endpoint.Disabled.REQUESTED
    return endpoint


def _wait_for_turn(tenant: TenantRef) -> None:
    """Two that are made at once are made one after the other: each is counted, and looked for."""
    with connection.cursor() as cursor:
        key = f"webhooks_endpoint:{tenant.id}"
        cursor.execute("select pg_advisory_xact_lock(hashtextextended(%s, 7))", [key])


def _refuse_too_many(tenant: TenantRef) -> None:
    """Raises TooManyEndpoints."""
    most = limit(tenant)
    if Endpoint.objects.filter(deleted_at=None).count() >= most:
        raise TooManyEndpoints(f"There may be {most}.", limit=most)


def _locked(endpoint_id: UUID, *, from_publishers: bool = False) -> Endpoint:
    """Lock the row. Deliveries that are being published point to it, and need not wait, unless it
    is locked `from_publishers` as well: then all that they publish is there to be seen.
    """
    rows = Endpoint.objects.select_for_update(no_key=not from_publishers)
    endpoint = rows.filter(pk=endpoint_id, deleted_at=None).first()
    if endpoint is None:
        raise EndpointNotFound
    return endpoint


def _assign(endpoint: Endpoint, fields: Mapping[str, Any]) -> None:
    """Set the fields that a caller named. Raises BadUrl, TooManyHeaders."""
    for name in _PLAIN:
        if name in fields:
            setattr(endpoint, name, fields[name])
    if "url" in fields:
        # The same reading of the URL as each connection will make.
        where = destination(fields["url"], policy())
        endpoint.url, endpoint.host = str(where.url), f"{where.host}:{where.port}"
    if "headers" in fields:
        kept = custom_headers.merged(endpoint.custom_headers, fields["headers"])
        if len(custom_headers.names(kept)) > custom_headers.MOST:
            raise TooManyHeaders(f"At most {custom_headers.MOST}.")
        endpoint.custom_headers = kept


def _save(endpoint: Endpoint, *names: str) -> None:
    endpoint.updated_at = timezone.now()
    endpoint.save(update_fields=[*names, "updated_at"])


def _kept(secret: str, now: datetime) -> dict[str, Any]:
    made_at = now.astimezone(UTC).isoformat()
    return {"secret": secrets.encrypt(secret), "made_at": made_at, "expires_at": None}


def _ageing(kept: list[dict[str, Any]], overlap: timedelta) -> list[dict[str, Any]]:
    """The secrets from before, each ending with the overlap at the latest; what has ended goes."""
    now = timezone.now()
    ends = [
        min(datetime.fromisoformat(one["expires_at"]), now + overlap)
        if one["expires_at"]
        else now + overlap
        for one in kept
    ]
    return [
        one | {"expires_at": end.astimezone(UTC).isoformat()}
        for one, end in zip(kept, ends, strict=True)
        if end > now
    ]


def _told(endpoint: Endpoint) -> dict[str, Any]:
    """What the audit trail keeps: a URL's path, headers and secrets are credentials to somebody."""
    return {"host": endpoint.host, "ordered": endpoint.ordered}


def _record(
    endpoint: Endpoint,
    action: str,
    actor: str,
    reason: str = "",
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
) -> None:
    audit.record(
        actor=actor,
        action=action,
        target=format_id("ep", endpoint.pk),
        tenant_id=endpoint.tenant_id,
        reason=reason,
        before=before,
        after=after,
    )
