"""How an endpoint fares: what its lane says, and how much waits there."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from django.db import connection

from jobs.states import Priority
from jobs.states import State as WorkState
from tenants.context import require_tenant
from webhooks.models import Endpoint

COUNTED_MOST = 10_000  # Nobody waits for a count of millions.
LOOKED_AT = 100  # Of the newest deliveries, for the last error.


class State(StrEnum):
    """An endpoint's state in one word; the first that holds."""

    DISABLED = "disabled"
    BLOCKED = "blocked"  # Ordered, and its head is dead: nothing goes on before somebody decides.
    PAUSED = "paused"  # By the breaker, a 429 or an operator; it goes on by itself.
    FAILING = "failing"  # Its last try failed.
    ENABLED = "enabled"


class Paused(StrEnum):
    """Who holds an endpoint back. What an operator wrote about it is the operators' own."""

    OPERATOR = "operator"
    BREAKER = "breaker"
    ASKED = "asked_to_wait"  # The receiver did, by a 429.


@dataclass(frozen=True, slots=True)
class Health:
    """How an endpoint fares."""

    state: State
    failing_since: datetime | None
    failures: int  # In a row.
    paused_until: datetime | None
    paused_why: Paused | None
    blocked_by: UUID | None  # The dead delivery at the head of an ordered endpoint.
    in_flight: int
    pending: int
    oldest_pending_at: datetime | None  # When the one that has waited longest was published.
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
    order by id desc nulls last limit {looked_at}) newest
    where last_error <> '' order by id desc limit 1), ''),
  (select min(first.created_at) from unnest(%(priorities)s::smallint[]) of (priority)
    cross join lateral (select created_at from webhooks_delivery
      where tenant_id = %(tenant)s and lane = %(lane)s and state = 'pending'
        and priority = of.priority order by id limit 1) first),
  l.failures, l.failing_since,
  case when greatest(l.paused_until, l.operator_paused_until) > now()
    then greatest(l.paused_until, l.operator_paused_until) end,
  case when l.operator_paused_until > now() then 'operator'
    when l.paused_until <= now() or l.paused_until is null then null
    when l.paused_until = l.opened_until then 'breaker' else 'asked_to_wait' end
from (select) one left join jobs_lane l on l.tenant_id = %(tenant)s and l.key = %(lane)s
"""
_HEAD = """
select id, state from webhooks_delivery
where tenant_id = %(tenant)s and lane = %(lane)s and seq is not null
  and state not in ('succeeded', 'discarded', 'cancelled')
order by seq limit 1
"""


def health(endpoint: Endpoint) -> Health:
    """How an endpoint of the current tenant fares."""
    values: dict[str, Any] = {
        "tenant": require_tenant().id,
        "lane": endpoint.lane,
        "endpoint": endpoint.pk,
        "priorities": Priority.values,
    }
    with connection.cursor() as cursor:
        cursor.execute(_READ.format(counts=_COUNTS, looked_at=LOOKED_AT), values)
        in_flight, pending, waiting, held, error, oldest, *lane = cursor.fetchone()
    failures, failing_since, paused_until, paused_why = lane
    is_shut, blocked_by = endpoint.disabled_at is not None, blocking(endpoint)
    return Health(
        state=_state(endpoint, failing_since, paused_until, blocked_by),
        failing_since=failing_since,
        failures=failures or 0,
        paused_until=None if is_shut else paused_until,
        paused_why=None if is_shut or paused_why is None else Paused(paused_why),
        blocked_by=blocked_by,
        in_flight=in_flight,
        pending=pending,
        oldest_pending_at=oldest,
        waiting=waiting,
        held=held,
        last_error=error,
    )


def blocking(endpoint: Endpoint) -> UUID | None:
    """The dead delivery that all others of an ordered endpoint wait for, if there is one."""
    if not endpoint.ordered:
        return None
    with connection.cursor() as cursor:
        cursor.execute(_HEAD, {"tenant": require_tenant().id, "lane": endpoint.lane})
        head = cursor.fetchone()
    return head[0] if head and head[1] == WorkState.DEAD_LETTER else None


def _state(
    endpoint: Endpoint, failing_since: Any, paused_until: Any, blocked_by: UUID | None
) -> State:
    if endpoint.disabled_at is not None:
        return State.DISABLED
    if blocked_by is not None:
        return State.BLOCKED
    if paused_until is not None:
        return State.PAUSED
    return State.FAILING if failing_since is not None else State.ENABLED
