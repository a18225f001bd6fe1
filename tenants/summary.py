"""What routing and access know of a tenant, as the functions of the `slipway` schema tell it."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from tenants.context import POOL, TenantRef
from tenants.states import Home


@dataclass(frozen=True, slots=True)
class TenantSummary:
    """A tenant without its row: enough to route, to enter its context, and to refuse."""

    ref: TenantRef
    uuid: UUID
    slug: str
    status: str


def summary(row: Iterable[Any]) -> TenantSummary:
    """The columns id, schema_name, home, uuid, slug, status as a value."""
    tenant_id, schema_name, home, uuid, slug, status = row
    schema = schema_name if home == Home.DEDICATED else POOL
    return TenantSummary(TenantRef(tenant_id, schema), uuid, slug, status)
