"""Holding a lane back, and letting it go: what an operator, or its own tenant, says about it.

With `using="default"` the app role does it, inside the tenant's context. What an operator says has
columns of its own, which the app role may not write: a tenant that changes an endpoint lifts
nothing that was laid upon it, and of the two the narrower holds. The lane's health is the engine's
and the operator's alone.
"""

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.db import connections, transaction

from jobs.errors import PaceRefused, ReasonMissing
from jobs.models import Lane
from jobs.services import OPERATOR, wake_after_commit
from tenants import audit

# A pause that ends so late is no pause: whoever shut the lane opens it (webhooks.lanes).
SHUT_FROM = datetime(9000, 1, 1, tzinfo=UTC)
_WRITE = """
insert into jobs_lane (tenant_id, key, {columns}) values (%s, %s, {places})
on conflict (tenant_id, key) do update set {changes}
"""
# What a lane that has never failed looks like: an operator who intervenes starts it afresh.
HEALTHY: Mapping[str, Any] = {
    "failures": 0,
    "trips": 0,
    "failing_since": None,
    "failed_at": None,
    "opened_at": None,
    "opened_until": None,
}


def pause(
    *,
    key: str,
    tenant_id: int,
    until: datetime,
    actor: str,
    reason: str,
    using: str = OPERATOR,
) -> None:
    """Claim nothing from a lane before `until`. What already runs goes on.

    Raises ReasonMissing.
    """
    _insist_on(reason)
    said = {"paused_until": until, _why(using): reason[:200]}
    told = {"until": until.isoformat()}
    _change(key, tenant_id, said, "lane.paused", actor, reason, told, using)


def resume(
    *, key: str, tenant_id: int, actor: str, reason: str = "", using: str = OPERATOR
) -> None:
    """Claim from a lane again; an operator's word also closes its breaker, and ends what a
    Retry-After asked for. What the tenant shut itself stays shut.
    """
    said: dict[str, Any] = {"paused_until": None, _why(using): ""}
    _change(key, tenant_id, said, "lane.resumed", actor, reason, {"until": None}, using)


def set_window(
    *,
    key: str,
    tenant_id: int,
    window: int | None,
    actor: str,
    reason: str,
    using: str = OPERATOR,
) -> None:
    """Have at most `window` works of a lane in progress; None for as many as the queue allows.

    Raises PaceRefused, ReasonMissing.
    """
    _insist_on(reason)
    check_window(window)
    told = {"window": window}
    _change(key, tenant_id, told, "lane.window_set", actor, reason, told, using)


def set_rate(
    *,
    key: str,
    tenant_id: int,
    rate: float | None,
    actor: str,
    reason: str,
    using: str = OPERATOR,
) -> None:
    """Start at most `rate` works of a lane a second, in all drainers together; None: no limit.

    What was saved up under another rate stays, up to a second's worth of the new one.
    Raises PaceRefused, ReasonMissing.
    """
    _insist_on(reason)
    check_rate(rate)
    told = {"rate": rate}
    _change(key, tenant_id, told, "lane.rate_set", actor, reason, told, using)


def check_window(window: int | None) -> None:
    """Raises PaceRefused where it is none."""
    if window is not None and not 1 <= window < 2**31:
        raise PaceRefused("A window is a whole number, and at least 1.")


def check_rate(rate: float | None) -> None:
    """Raises PaceRefused where it is none."""
    if rate is not None and not (math.isfinite(rate) and rate > 0):
        raise PaceRefused("A rate is a number of works a second, and above 0.")


def _why(using: str) -> str:
    return "why" if using == OPERATOR else "paused_why"


def _insist_on(reason: str) -> None:
    if not reason.strip():
        raise ReasonMissing("Say why: the audit trail keeps it.")


def _change(
    key: str,
    tenant_id: int,
    said: Mapping[str, Any],
    action: str,
    actor: str,
    reason: str,
    told: Mapping[str, Any],
    using: str,
) -> None:
    columns = {f"operator_{name}" if using == OPERATOR else name: said[name] for name in said}
    with transaction.atomic(using=using):
        _write(key, tenant_id, columns, using)
        if action == "lane.resumed" and using == OPERATOR:
            _forgive(key, tenant_id)
        audit.record(
            actor=actor,
            action=action,
            target=f"lane:{key}"[:100],
            tenant_id=tenant_id,
            reason=reason,
            after=told,
            using=using,
        )
        for name in settings.SLIPWAY["QUEUES"]:  # Which of them the lane is in, its key knows.
            wake_after_commit(name, using=using)


def _write(key: str, tenant_id: int, columns: Mapping[str, Any], using: str) -> None:
    """Let the lane's row say this, and name no other column: not the engine's, nor another's."""
    quoted = [f'"{name}"' for name in columns]
    statement = _WRITE.format(
        columns=", ".join(quoted),
        places=", ".join(["%s"] * len(quoted)),
        changes=", ".join(f"{name} = excluded.{name}" for name in quoted),
    )
    with connections[using].cursor() as cursor:
        cursor.execute(statement, [tenant_id, key, *columns.values()])


def _forgive(key: str, tenant_id: int) -> None:
    rows = Lane.objects.using(OPERATOR).filter(tenant_id=tenant_id, key=key)
    rows.filter(paused_until__lt=SHUT_FROM).update(paused_until=None, paused_why="")
    rows.update(**HEALTHY)
