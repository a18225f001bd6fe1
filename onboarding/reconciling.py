"""Does the world hold what the ledger says, and nothing else that bears a tenant's number?"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from django.db import connections, transaction

from jobs.services import enqueue
from onboarding import files, steps
from onboarding.models import RELEASED, PendingOnboarding, ProvisionedResource
from tenants import audit, schemas
from tenants.context import tenant_context
from tenants.models import Tenant
from tenants.routers import as_operator
from tenants.states import TenantStatus

_NUMBERED = re.compile(r"t_([0-9]{1,19})")


class Finding(NamedTuple):
    """One difference. `missing`: the ledger has it, the world has not. `orphan`: the reverse."""

    what: str
    step: str
    name: str
    tenant_id: int


def compare(*, tenant_id: int | None = None) -> list[Finding]:
    """All differences, or those of one tenant."""
    found = list(_missing(tenant_id))
    orphans = [*_orphan_schemas(), *_orphan_files()]
    return found + [one for one in orphans if tenant_id is None or one.tenant_id == tenant_id]


def mend(finding: Finding, *, actor: str, reason: str = "", remove_orphans: bool = False) -> bool:
    """Have it put right; says whether it is being. Orphans hold somebody's data: only when told."""
    if finding.what == "missing":
        _make_again(finding, actor=actor, reason=reason)
        return True
    if remove_orphans:
        _remove(finding, actor=actor, reason=reason)
    return remove_orphans


def _missing(tenant_id: int | None) -> Iterator[Finding]:
    """What the ledgers of tenants in use hold and nobody can see."""
    for row in _in_use(tenant_id):
        ctx = steps.context_for(row)
        with tenant_context(ctx.ref):
            for entry in ProvisionedResource.objects.filter(tenant_id=ctx.tenant_id):
                step = steps.step_named(entry.step)
                if step is not None and step.observable and step.observe(ctx) is None:
                    yield Finding("missing", entry.step, entry.name, ctx.tenant_id)


def _in_use(tenant_id: int | None) -> list[PendingOnboarding]:
    with as_operator():
        rows = PendingOnboarding.objects.exclude(state__in=RELEASED).filter(
            tenant_id__in=Tenant.objects.filter(
                status__in=[TenantStatus.ACTIVE, TenantStatus.SUSPENDED]
            ).values("pk")
        )
        return list(rows if tenant_id is None else rows.filter(tenant_id=tenant_id))


def _orphan_schemas() -> Iterator[Finding]:
    names = schemas.dedicated_schemas() if "owner" in connections.settings else []
    for name, number in _numbered(names):
        if not _belongs_to_somebody(number):
            yield Finding("orphan", "schema", name, number)


def _orphan_files() -> Iterator[Finding]:
    for name, number in _numbered(files.prefixes()):
        if not _belongs_to_somebody(number):
            yield Finding("orphan", "storage", name, number)


def _numbered(names: list[str]) -> Iterator[tuple[str, int]]:
    for name in names:
        if match := _NUMBERED.fullmatch(name):
            yield name, int(match[1])


def _belongs_to_somebody(number: int) -> bool:
    """Whether a tenant has this number, or a sign-up that is not given up."""
    with as_operator():
        if Tenant.objects.filter(pk=number).exists():
            return True
        sign_ups = PendingOnboarding.objects.filter(tenant_id=number)
        return sign_ups.exclude(state__in=RELEASED).exists()


def _make_again(finding: Finding, *, actor: str, reason: str) -> None:
    with as_operator(), transaction.atomic(using="operator"):
        request_id = PendingOnboarding.objects.get(tenant_id=finding.tenant_id).pk
        enqueue(
            "onboarding.step",
            tenant_id=finding.tenant_id,
            args={"request_id": str(request_id), "step": finding.step},
            using="operator",
        )
        _record(finding, "resource.restored", actor, reason)


def _remove(finding: Finding, *, actor: str, reason: str) -> None:
    if finding.step == "schema":
        schemas.drop_schema(finding.name)
    else:
        files.remove(finding.name)
    _record(finding, "resource.orphan_removed", actor, reason)


def _record(finding: Finding, action: str, actor: str, reason: str) -> None:
    audit.record(
        actor=actor,
        action=action,
        target=f"{finding.step}:{finding.name}"[:100],
        tenant_id=finding.tenant_id,
        reason=reason,
        using="operator",
    )
