"""The ledger of what was made for a tenant: written under the lease, read before each step."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid5

from django.db import DEFAULT_DB_ALIAS, connections, transaction

from jobs.fence import hold
from jobs.steps import Claim
from onboarding.models import ProvisionedResource


@dataclass(frozen=True, slots=True)
class Resource:
    """A thing in the world: its name there, and what undoing it needs to know."""

    name: str
    detail: Mapping[str, Any] = field(default_factory=dict)


@contextmanager
def fenced(claim: Claim) -> Iterator[None]:
    """One transaction, open only to the holder of the lease.

    Raises LeaseLost.
    """
    with transaction.atomic():
        hold(claim)
        yield


def recorded(tenant_id: int) -> dict[str, Resource]:
    """What the ledger holds for a tenant, by step."""
    rows = ProvisionedResource.objects.filter(tenant_id=tenant_id)
    return {row.step: Resource(row.name, row.detail) for row in rows}


def record(claim: Claim, *, root: UUID, step: str, resource: Resource) -> None:
    """Enter what a step made; entering it again changes nothing. Call it inside `fenced`."""
    row = ProvisionedResource(
        id=uuid5(root, step),
        tenant_id=claim.tenant_id,
        step=step,
        name=resource.name,
        detail=dict(resource.detail),
        lease=claim.lease,
    )
    ProvisionedResource.objects.bulk_create([row], ignore_conflicts=True)


def strike(claim: Claim, *, step: str) -> None:
    """Take out what a step made and has undone. Call it inside `fenced`."""
    ProvisionedResource.objects.filter(tenant_id=claim.tenant_id, step=step).delete()


def close(claim: Claim) -> bool:
    """Close the tenant that is to be undone, if it may be: nobody joins it from here on."""
    with fenced(claim), connections[DEFAULT_DB_ALIAS].cursor() as cursor:
        cursor.execute("select slipway.begin_undo()")
        (closed,) = cursor.fetchone()
    return bool(closed)


def resume(claim: Claim) -> None:
    """Go on with a tenant whose undoing had begun, and failed, and was not wanted after all."""
    with fenced(claim), connections[DEFAULT_DB_ALIAS].cursor() as cursor:
        cursor.execute("select slipway.resume_sign_up()")


def let_go() -> None:
    """Give the database connection back: nobody is to wait for it while we wait for others."""
    connections[DEFAULT_DB_ALIAS].close()
