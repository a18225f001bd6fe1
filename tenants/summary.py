"""What routing and access know of a tenant, as the functions of the `slipway` schema tell it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import orjson

from tenants.allowances import allowances
from tenants.context import POOL, TenantRef
from tenants.states import Home


@dataclass(frozen=True, slots=True)
class TenantSummary:
    """A tenant without its row: enough to route, to enter its context, and to refuse."""

    ref: TenantRef
    uuid: UUID
    slug: str
    status: str
    # Only where a key was shown: routing has no use for them.
    plan: str = ""
    limits: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def allowance(self, name: str) -> Any:
        """One of tenants.allowances: what this tenant may have or do."""
        return allowances(plan=self.plan, limits=self.limits)[name]


def summary(row: Iterable[Any]) -> TenantSummary:
    """The columns id, schema_name, home, uuid, slug, status[, plan, limits] as a value."""
    tenant_id, schema_name, home, uuid, slug, status, *rest = row
    plan, limits = rest or ("", "{}")
    schema = schema_name if home == Home.DEDICATED else POOL
    return TenantSummary(
        TenantRef(tenant_id, schema), uuid, slug, status, plan, orjson.loads(limits)
    )
