"""Events are published here, and nowhere else."""

from collections.abc import Mapping
from typing import Any

import orjson
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.transaction import TransactionManagementError

from webhooks.models import Event

# The conflict is named by its columns: another one, a used id, must not pass for a repetition.
_INSERT = """
insert into webhooks_event (id, tenant_id, type, payload, idempotency_key, created_at)
values (%s, %s, %s, %s::jsonb, %s, now())
on conflict (tenant_id, idempotency_key) do nothing
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
    event = Event(
        tenant_id=tenant_id, type=type, payload=dict(payload), idempotency_key=idempotency_key
    )
    with connections[using].cursor() as cursor:
        cursor.execute(_INSERT, _values(event))
        return event if cursor.rowcount else None


def _values(event: Event) -> list[Any]:
    return [
        event.pk,
        event.tenant_id,
        event.type,
        orjson.dumps(event.payload).decode(),
        event.idempotency_key,
    ]
