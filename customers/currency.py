"""The currency of a tenant's amounts: what `lifetime_value` is in. Nothing is ever converted."""

from tenants.context import require_tenant
from tenants.currencies import currency_of
from tenants.models import Tenant


def currency() -> str | None:
    """The current tenant's, as ISO 4217 writes it; None where nobody has said."""
    rows = Tenant.objects.filter(pk=require_tenant().id)
    said, metadata = rows.values_list("currency", "metadata").first() or ("", {})
    return currency_of(said=said, metadata=metadata)
