"""The currency of a tenant's amounts: what `lifetime_value` is in. Nothing is ever converted."""

import re
from collections.abc import Mapping
from typing import Any

from django.conf import settings

from tenants.context import require_tenant
from tenants.models import Tenant

NAME = "currency"  # The member of a tenant's metadata that says so.
_CODE = re.compile(r"[A-Z]{3}")  # ISO 4217.


def currency() -> str | None:
    """The current tenant's, as ISO 4217 writes it; None where nobody has said."""
    rows = Tenant.objects.filter(pk=require_tenant().id)
    return of(rows.values_list("metadata", flat=True).first() or {})


def of(metadata: Mapping[str, Any]) -> str | None:
    """What a tenant's metadata say; else what SLIPWAY["CUSTOMERS"]["currency"] says for all."""
    said = metadata.get(NAME)
    if isinstance(said, str) and _CODE.fullmatch(said):
        return said
    default: str | None = settings.SLIPWAY["CUSTOMERS"][NAME]
    return default
