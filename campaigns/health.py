"""How a provider account fares: what its lane says."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from django.db import connection

from campaigns.models import ProviderAccount
from campaigns.states import AccountStatus
from tenants.context import require_tenant


class State(StrEnum):
    """An account's state in one word; the first that holds."""

    PAUSED = "paused"  # By its tenant, or for its provider's sake: somebody must resume it.
    HELD = "held"  # By a 429, the breaker or an operator; it goes on by itself at held_until.
    FAILING = "failing"  # Its last try failed.
    ACTIVE = "active"


class Held(StrEnum):
    """Who holds an account back. What an operator wrote about it is the operators' own."""

    OPERATOR = "operator"
    BREAKER = "breaker"
    ASKED = "asked_to_wait"  # The provider did, by a 429.


@dataclass(frozen=True, slots=True)
class Health:
    """How an account fares."""

    state: State
    failing_since: datetime | None
    failures: int  # In a row.
    held_until: datetime | None
    held_why: Held | None
    learnt_rate: float | None  # Messages a second.
    learnt_max_in_flight: int | None
    learnt_at: datetime | None


_READ = """
select coalesce(l.failures, 0), l.failing_since,
  case when greatest(l.paused_until, l.operator_paused_until) > now()
    then greatest(l.paused_until, l.operator_paused_until) end,
  case when l.operator_paused_until > now() then 'operator'
    when l.paused_until <= now() or l.paused_until is null then null
    when l.paused_until = l.opened_until then 'breaker' else 'asked_to_wait' end,
  l.learnt_rate, l.learnt_window, l.learnt_at
from (select) one left join jobs_lane l on l.tenant_id = %s and l.key = %s
"""


def health(account: ProviderAccount) -> Health:
    """How an account of the current tenant fares."""
    with connection.cursor() as cursor:
        cursor.execute(_READ, [require_tenant().id, account.key])
        failures, failing_since, held_until, held_why, *learnt = cursor.fetchone()
    paused = account.status == AccountStatus.PAUSED
    return Health(
        _state(paused, failing_since, held_until),
        failing_since,
        failures,
        None if paused else held_until,
        None if paused or held_why is None else Held(held_why),
        *learnt,
    )


def _state(paused: bool, failing_since: Any, held_until: Any) -> State:
    if paused:
        return State.PAUSED
    if held_until is not None:
        return State.HELD
    return State.FAILING if failing_since is not None else State.ACTIVE
