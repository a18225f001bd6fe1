"""Events are published here, and nowhere else."""

from collections.abc import Mapping
from typing import Any

import orjson
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.transaction import TransactionManagementError

from webhooks.models import Event

# The conflict is named by its columns: another one, a used id, must not pass for a repetition.
_INSERT = """
with new as (
  insert into webhooks_event (id, tenant_id, type, idempotency_key)
  values (%s, %s, %s, %s)
  on conflict (tenant_id, idempotency_key) do nothing
  returning id, tenant_id, created_at
)
insert into webhooks_payload (event_id, tenant_id, created_at, data)
select id, tenant_id, created_at, %s from new
"""


def publish(
    *,
    tenant_id: int,
    type: str,
    payload: Mapping[str, Any],
    idempotency_key: str | None = None,
    using: str = DEFAULT_DB_ALIAS,
) -> Event | None:
    """Write an event in the caller's transaction: it happened if, and only if, the deed did.

    Returns None when this tenant's `idempotency_key` was published before. Raises
    TransactionManagementError outside a transaction, where a deed without its event could commit.
    """
    if not connections[using].in_atomic_block:
        raise TransactionManagementError(
            "Publish in the transaction of the deed: transaction.atomic()."
        )
    event = Event(tenant_id=tenant_id, type=type, idempotency_key=idempotency_key)
    data = orjson.dumps(dict(payload)).decode()
    with connections[using].cursor() as cursor:
        cursor.execute(_INSERT, [event.pk, tenant_id, type, idempotency_key, data])
        return event if cursor.rowcount else None
