"""Endpoints that nobody delivers to: what publishing writes for them is all there is to see."""

import uuid

from django.db import transaction

from tenants.context import TenantRef, tenant_context
from webhooks import services
from webhooks.models import Endpoint


def listen(owner: TenantRef, *types: str, **fields) -> Endpoint:
    """An endpoint of the owner's that hears these types, or all."""
    host = f"{uuid.uuid4().hex[:12]}.example:443"
    with tenant_context(owner):
        return Endpoint.objects.create(
            url=f"https://{host}/", host=host, event_types=list(types), **fields
        )


def publish_in(tenant, **fields):
    """Publish an event of a tenant's, in a transaction of its own."""
    with tenant_context(tenant.ref), transaction.atomic():
        return services.publish(
            tenant_id=tenant.pk, **{"type": "a.b", "payload": {"n": 1}, **fields}
        )


def deliveries_of(operator, endpoint, columns: str = "e.type") -> list:
    """What is told to an endpoint, in the order in which it would be."""
    rows = operator.execute(
        f"select {columns} from webhooks_delivery d join webhooks_event e on e.id = d.event_id"
        " where d.endpoint_id = %s order by d.id",
        [endpoint.pk],
    ).fetchall()
    return [row[0] if len(row) == 1 else row for row in rows]
