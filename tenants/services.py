"""The moves of a tenant that the platform and its operators make."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import orjson
from django.db import DEFAULT_DB_ALIAS, connections, transaction
from django.db.models import DateTimeField, DurationField, Func, Value
from django.db.models.functions import Now

from config.ids import format_id
from tenants import audit, hosts, keys, problems
from tenants.context import NOWHERE, TenantRef, tenant_context
from tenants.currencies import currency_of
from tenants.keys import Proof
from tenants.models import AuditEntry, Domain, Tenant
from tenants.states import TenantStatus

OPERATOR = "operator"
CLOSABLE = (TenantStatus.ACTIVE, TenantStatus.SUSPENDED)  # From where lifecycle.closing closes.


class ClockTimestamp(Func):
    """The database's clock, which goes on within a transaction."""

    function = "clock_timestamp"
    output_field = DateTimeField()


@dataclass(frozen=True, slots=True)
class Door:
    """By what right a tenant is moved: a platform key's proof or, without, the operator's alias.

    A web process without the operator's alias can still serve the platform: the database checks the
    proof in `slipway.platform_move_tenant`.
    """

    proof: Proof | None = None

    @property
    def alias(self) -> str:
        return OPERATOR if self.proof is None else DEFAULT_DB_ALIAS

    def move(self, tenant_id: int, *, source: str, target: str) -> int:
        """One guarded UPDATE; how many rows it moved."""
        if self.proof is None:
            rows = Tenant.objects.using(OPERATOR).filter(pk=tenant_id, status=source)
            suspended = target == TenantStatus.SUSPENDED
            if source == TenantStatus.CLOSING:
                # Afterwards, the purge may have begun; and what was suspended is so again.
                rows = rows.filter(
                    closes_at__gt=ClockTimestamp(), suspended_at__isnull=not suspended
                )
                return int(rows.update(status=target, closes_at=None))
            return int(rows.update(status=target, suspended_at=Now() if suspended else None))
        with connections[DEFAULT_DB_ALIAS].cursor() as cursor:
            cursor.execute(
                "select slipway.platform_move_tenant(%s, %s, %s, %s, %s)",
                [self.proof.prefix, self.proof.digest, tenant_id, source, target],
            )
            moved: int = cursor.fetchone()[0]
            return moved

    def close(self, tenant_id: int, *, grace: timedelta) -> datetime | None:
        """Close a tenant that is open or suspended: when its grace ends; None: it is neither.

        `suspended_at` stays, and says to where it would be reopened.
        """
        if self.proof is None:
            rows = Tenant.objects.using(OPERATOR).filter(pk=tenant_id, status__in=CLOSABLE)
            ends_at = ClockTimestamp() + Value(grace, DurationField())
            if not rows.update(status=TenantStatus.CLOSING, closes_at=ends_at):
                return None
            closing = Tenant.objects.using(OPERATOR).values_list("closes_at", flat=True)
            ends: datetime | None = closing.get(pk=tenant_id)
            return ends
        with connections[DEFAULT_DB_ALIAS].cursor() as cursor:
            cursor.execute(
                "select slipway.platform_close_tenant(%s, %s, %s, %s)",
                [self.proof.prefix, self.proof.digest, tenant_id, grace.total_seconds()],
            )
            found: datetime | None = cursor.fetchone()[0]
            return found

    def limit(self, tenant_id: int, given: Mapping[str, Any]) -> dict[str, Any] | None:
        """Set a tenant's own limits; what they were, None when there is no such tenant."""
        if self.proof is None:
            rows = Tenant.objects.using(OPERATOR).select_for_update().filter(pk=tenant_id)
            former: dict[str, Any] | None = rows.values_list("limits", flat=True).first()
            if former is not None:
                kept = {
                    name: each for name, each in {**former, **given}.items() if each is not None
                }
                rows.update(limits=kept)
            return former
        with connections[DEFAULT_DB_ALIAS].cursor() as cursor:
            cursor.execute(
                "select slipway.platform_limit_tenant(%s, %s, %s, %s::jsonb)",
                [self.proof.prefix, self.proof.digest, tenant_id, orjson.dumps(given).decode()],
            )
            (text,) = cursor.fetchone()
            found: dict[str, Any] | None = None if text is None else orjson.loads(text)
        return found

    def set_currency(self, tenant_id: int, said: str) -> str | None:
        """Set what the platform says of a tenant's currency; what it was, None: no such tenant."""
        if self.proof is None:
            rows = Tenant.objects.using(OPERATOR).select_for_update().filter(pk=tenant_id)
            former: str | None = rows.values_list("currency", flat=True).first()
            if former is not None:
                rows.update(currency=said)
            return former
        with connections[DEFAULT_DB_ALIAS].cursor() as cursor:
            cursor.execute(
                "select slipway.platform_set_currency(%s, %s, %s, %s)",
                [self.proof.prefix, self.proof.digest, tenant_id, said],
            )
            found: str | None = cursor.fetchone()[0]
        return found

    def domains(self, tenant_id: int) -> list[str]:
        """The addresses of a tenant."""
        if self.proof is None:
            rows = Domain.objects.using(OPERATOR).filter(tenant_id=tenant_id)
            return list(rows.values_list("domain", flat=True))
        with connections[DEFAULT_DB_ALIAS].cursor() as cursor:
            cursor.execute(
                "select domain from slipway.platform_domains(%s, %s, %s)",
                [self.proof.prefix, self.proof.digest, tenant_id],
            )
            return [domain for (domain,) in cursor.fetchall()]


def suspend(*, tenant_id: int, actor: str, reason: str, door: Door | None = None) -> bool:
    """Close a tenant for now: its pages and keys answer 403, its data stays.

    Says whether it changed anything: a suspended tenant stays suspended.
    Raises StaleState when it is neither active nor suspended.
    """
    return _move(
        tenant_id,
        source=TenantStatus.ACTIVE,
        target=TenantStatus.SUSPENDED,
        action="tenant.suspended",
        actor=actor,
        reason=reason,
        door=door or Door(),
    )


def reopen(
    *,
    tenant_id: int,
    actor: str,
    reason: str,
    source: str | None = None,
    door: Door | None = None,
) -> bool:
    """Let a suspended tenant work again, or one that is closing, while its days of grace last.

    As `suspend`, the other way round: what waited meanwhile goes on. What was suspended when it was
    closed is suspended again, and stays so however often that is asked for: its suspension is
    lifted by whoever says that it is the `source`, which is `suspended` or `closing`.
    """
    door = door or Door()
    with tenant_context(TenantRef(tenant_id, NOWHERE)):
        tenant = Tenant.objects.using(door.alias).filter(pk=tenant_id).first()
        if tenant is None:
            raise problems.TenantNotFound
        if source is None:
            source = _held_by(tenant, using=door.alias)
    returns = source == TenantStatus.CLOSING and tenant.suspended_at is not None
    return _move(
        tenant_id,
        source=TenantStatus(source),
        target=TenantStatus.SUSPENDED if returns else TenantStatus.ACTIVE,
        action="tenant.reopened",
        actor=actor,
        reason=reason,
        door=door,
    )


def _held_by(tenant: Tenant, *, using: str) -> TenantStatus:
    """What whoever says no more than `reopen` means: its closing, or its suspension.

    Its closing, too, where that was taken back already and left it suspended: it may be the same
    wish that is sent again, and whoever sent it need not know of the suspension.
    """
    if tenant.status == TenantStatus.CLOSING and tenant.closes_at is not None:
        return TenantStatus.CLOSING
    told = AuditEntry.objects.using(using).filter(
        target=format_id("tnt", tenant.uuid), action__in=("tenant.suspended", "tenant.reopened")
    )
    last = told.order_by("-at").first()
    again = last is not None and (last.after or {}).get("status") == TenantStatus.SUSPENDED
    if last is not None and last.action == "tenant.reopened" and again:
        return TenantStatus.CLOSING
    return TenantStatus.SUSPENDED


def set_limits(
    *,
    tenant_id: int,
    limits: Mapping[str, Any],
    actor: str,
    reason: str = "",
    door: Door | None = None,
) -> None:
    """Let a tenant have and do more, or less, than its plan says; None is the plan's again.

    Other processes go by the former limits for as long as they remember a key.
    Raises TenantNotFound.
    """
    door = door or Door()
    with tenant_context(TenantRef(tenant_id, NOWHERE)), transaction.atomic(using=door.alias):
        former = door.limit(tenant_id, limits)
        if former is None:
            raise problems.TenantNotFound
        tenant = Tenant.objects.using(door.alias).only("uuid", "limits").get(pk=tenant_id)
        if tenant.limits != former:
            audit.record(
                actor=actor,
                action="tenant.limited",
                target=format_id("tnt", tenant.uuid),
                tenant_id=tenant_id,
                reason=reason,
                before={"limits": former},
                after={"limits": tenant.limits},
                using=door.alias,
            )
    keys.forget_all()


def set_currency(
    *,
    tenant_id: int,
    currency: str | None,
    actor: str,
    reason: str,
    door: Door | None = None,
) -> bool:
    """Let a tenant's amounts be in this currency (currencies.ACTIVE); None: in its sign-up's.

    The amounts stay the numbers that they are. Says whether it changed anything.
    Raises TenantNotFound.
    """
    door = door or Door()
    with tenant_context(TenantRef(tenant_id, NOWHERE)), transaction.atomic(using=door.alias):
        said = currency or ""
        former = door.set_currency(tenant_id, said)
        if former is None:
            raise problems.TenantNotFound
        if former == said:
            return False
        tenant = Tenant.objects.using(door.alias).only("uuid", "metadata").get(pk=tenant_id)
        audit.record(
            actor=actor,
            action="tenant.currency_changed",
            target=format_id("tnt", tenant.uuid),
            tenant_id=tenant_id,
            reason=reason,
            before={"currency": currency_of(said=former, metadata=tenant.metadata)},
            after={"currency": currency_of(said=said, metadata=tenant.metadata)},
            using=door.alias,
        )
    return True


def _move(
    tenant_id: int,
    *,
    source: TenantStatus,
    target: TenantStatus,
    action: str,
    actor: str,
    reason: str,
    door: Door,
) -> bool:
    ref = TenantRef(tenant_id, NOWHERE)
    with tenant_context(ref), transaction.atomic(using=door.alias):
        moved = door.move(tenant_id, source=source, target=target)
        if not moved:
            _refuse_unless(tenant_id, target, door=door)
            return False
        uuid = Tenant.objects.using(door.alias).values_list("uuid", flat=True).get(pk=tenant_id)
        audit.record(
            actor=actor,
            action=action,
            target=format_id("tnt", uuid),
            tenant_id=tenant_id,
            reason=reason,
            before={"status": source},
            after={"status": target},
            using=door.alias,
        )
    forget(tenant_id, door=door)
    return True


def forget(tenant_id: int, *, door: Door) -> None:
    """Have a tenant's status asked for anew: routing and keys remember it for some seconds."""
    hosts.forget(door.domains(tenant_id))
    keys.forget_all()


def _refuse_unless(tenant_id: int, status: str, *, door: Door) -> None:
    current = Tenant.objects.using(door.alias).filter(pk=tenant_id).values_list("status", flat=True)
    found = current.first()
    if found is None:
        raise problems.TenantNotFound
    if found != status:
        raise problems.StaleState(f"It is {found}.")
