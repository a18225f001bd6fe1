"""The moves of a tenant that the platform and its operators make."""

from dataclasses import dataclass

from django.db import DEFAULT_DB_ALIAS, connections, transaction
from django.utils import timezone

from config.ids import format_id
from tenants import audit, hosts, keys, problems
from tenants.context import NOWHERE, TenantRef, tenant_context
from tenants.keys import Proof
from tenants.models import Domain, Tenant
from tenants.states import TenantStatus

OPERATOR = "operator"


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
            suspended_at = timezone.now() if target == TenantStatus.SUSPENDED else None
            rows = Tenant.objects.using(OPERATOR).filter(pk=tenant_id, status=source)
            count: int = rows.update(status=target, suspended_at=suspended_at)
            return count
        with connections[DEFAULT_DB_ALIAS].cursor() as cursor:
            cursor.execute(
                "select slipway.platform_move_tenant(%s, %s, %s, %s, %s)",
                [self.proof.prefix, self.proof.digest, tenant_id, source, target],
            )
            moved: int = cursor.fetchone()[0]
            return moved

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


def reopen(*, tenant_id: int, actor: str, reason: str, door: Door | None = None) -> bool:
    """Let a suspended tenant work again. As `suspend`, the other way round."""
    return _move(
        tenant_id,
        source=TenantStatus.SUSPENDED,
        target=TenantStatus.ACTIVE,
        action="tenant.reopened",
        actor=actor,
        reason=reason,
        door=door or Door(),
    )


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
    # Routing and keys remember the status for some seconds.
    hosts.forget(door.domains(tenant_id))
    keys.forget_all()
    return True


def _refuse_unless(tenant_id: int, status: str, *, door: Door) -> None:
    current = Tenant.objects.using(door.alias).filter(pk=tenant_id).values_list("status", flat=True)
    found = current.first()
    if found is None:
        raise problems.TenantNotFound
    if found != status:
        raise problems.StaleState(f"It is {found}.")
