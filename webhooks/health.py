"""How an endpoint fares: what its lane says, and how much waits there."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from django.db import connection

from tenants.context import require_tenant
from webhooks.models import Endpoint

COUNTED_MOST = 10_000  # Nobody waits for a count of millions.
LOOKED_AT = 100  # Of the newest deliveries, for the last error.


class State(StrEnum):
    """An endpoint's state in one word; the first that holds."""

    DISABLED = "disabled"
    PAUSED = "paused"  # By the breaker, a 429 or an operator; it goes on by itself.
    FAILING = "failing"  # Its last try failed.
    ENABLED = "enabled"


@dataclass(frozen=True, slots=True)
class Health:
    """How an endpoint fares."""

    state: State
    failing_since: datetime | None
    failures: int  # In a row.
    paused_until: datetime | None
    paused_why: str
    in_flight: int
    pending: int
    waiting: int  # For their time, or their next try.
    held: int
    last_error: str


_COUNT = """
(select count(*) from (select from webhooks_delivery
  where tenant_id = %(tenant)s and lane = %(lane)s and {state} limit {most}) counted)"""
_COUNTS = ", ".join(
    _COUNT.format(state=state, most=COUNTED_MOST)
    for state in (
        "state = 'processing'",
        "state = 'pending'",
        "state in ('scheduled', 'failed')",
        "state = 'held'",
    )
)
_READ = """
select {counts},
  coalesce((select last_error from (
    select id, last_error from webhooks_delivery
    where tenant_id = %(tenant)s and endpoint_id = %(endpoint)s
    order by id desc limit {looked_at}) newest
    where last_error <> '' order by id desc limit 1), ''),
  l.failures, l.failing_since,
  case when l.paused_until > now() then l.paused_until end,
  case when l.paused_until > now() then l.paused_why end
from (select) one left join jobs_lane l on l.tenant_id = %(tenant)s and l.key = %(lane)s
"""


def health(endpoint: Endpoint) -> Health:
    """How an endpoint of the current tenant fares."""
    values: dict[str, Any] = {
        "tenant": require_tenant().id,
        "lane": endpoint.lane,
        "endpoint": endpoint.pk,
    }
    with connection.cursor() as cursor:
        cursor.execute(_READ.format(counts=_COUNTS, looked_at=LOOKED_AT), values)
        in_flight, pending, waiting, held, error, *lane = cursor.fetchone()
    failures, failing_since, paused_until, paused_why = lane
    is_shut = endpoint.disabled_at is not None
    return Health(
        state=_state(endpoint, failing_since, paused_until),
        failing_since=failing_since,
        failures=failures or 0,
        paused_until=None if is_shut else paused_until,
        paused_why="" if is_shut else paused_why or "",
        in_flight=in_flight,
        pending=pending,
        waiting=waiting,
        held=held,
        last_error=error,
    )


def _state(endpoint: Endpoint, failing_since: Any, paused_until: Any) -> State:
    if endpoint.disabled_at is not None:
        return State.DISABLED
    if paused_until is not None:
        return State.PAUSED
    return State.FAILING if failing_since is not None else State.ENABLED
