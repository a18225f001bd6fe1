"""The moment in which a tenant changes its home: one transaction, the only one that writers feel.

It takes the lock that writers share. Those that are under way are waited for, not for long; those
that come are refused (503 `tenant_moving`), and come again. What was written last is copied, both
homes are compared, and with the commit every connection that enters the tenant's context, whatever
it remembers, is led to the new home (lifecycle/sql/home.sql).
"""

import time
from collections.abc import Sequence
from typing import Any
from uuid import uuid5

from django.db import connections
from django.db.models import F, Value
from django.db.models.functions import Coalesce
from psycopg import sql

from lifecycle.errors import MoveDelayed, MoveFailed
from lifecycle.models import Phase
from lifecycle.moving import capture, checking, copying
from lifecycle.moving.shapes import Shape
from lifecycle.moving.way import OPERATOR, OWNER, Way, briefly, fenced
from onboarding.models import PendingOnboarding, ProvisionedResource
from tenants import audit, services
from tenants.models import Tenant
from tenants.services import CLOSABLE, ClockTimestamp, Door
from tenants.states import Home

SHORT = 200  # Changes: few enough to be copied while writers wait.
MANY = 20_000  # Rows: more are compared by what was written since they were compared in full.
_PATIENCE = (1.0, 2.0, 4.0, 8.0)  # Seconds to wait for writers, try by try.


class _Unarmed(MoveDelayed):
    """Nothing would refuse those who entered the old home before the switch."""


def switch(way: Way, shapes: Sequence[Shape], reach: copying.Reach) -> None:
    """Move the tenant. Raises MoveDelayed when writers hold it up, MoveFailed, LeaseLost."""
    began_at = time.monotonic()
    try:
        with briefly(), fenced(way) as cursor:
            _lock(cursor, way)
            changes = copying.catch_up(cursor, way, shapes, reach)
            checks = _compared(cursor, way, shapes)
            _carry_sequences_on(cursor, way, shapes)
            if not capture.is_armed(cursor, way, shapes):
                raise _Unarmed("Triggers in the old home are gone: it begins anew.")
            _lead(way)
            way.write(
                phase=Phase.KEEP,
                moved_at=ClockTimestamp(),
                checks=checks,
                changes=F("changes") + changes,
                refused_ms=_refused_since(began_at),
                error="",
            )
    except MoveDelayed as delay:
        phase = Phase.PREPARE if isinstance(delay, _Unarmed) else Phase.SWITCH
        with fenced(way):  # It cost writers as much.
            way.write(refused_ms=_refused_since(began_at), error=str(delay), phase=phase)
        raise
    services.forget(way.tenant_id, door=Door())


def _lock(cursor: Any, way: Way) -> None:
    """Wait for the writers that are under way; the others are refused from here on."""
    attempt = way.claim.attempt if way.claim else 1
    patience = _PATIENCE[min(attempt, len(_PATIENCE)) - 1]
    cursor.execute(f"set local lock_timeout = {int(patience * 1000)}")
    cursor.execute(
        "select pg_advisory_xact_lock(hashtextextended('slipway move ' || %s::bigint, 0))",
        [way.tenant_id],
    )


def _compared(cursor: Any, way: Way, shapes: Sequence[Shape]) -> checking.Checks:
    checks: checking.Checks = way.move.checks
    if sum(check["rows"] for check in checks.values()) <= MANY:
        return checking.whole(cursor, way, shapes)
    checking.fresh(cursor, way, shapes, horizon=way.move.horizon)
    return checks


def _refused_since(began_at: float) -> Any:
    milliseconds = int((time.monotonic() - began_at) * 1000)
    return Coalesce(F("refused_ms"), Value(0)) + milliseconds


def _lead(way: Way) -> None:
    """The tenant lives in the new home, by the new plan."""
    move = way.move
    rows = Tenant.objects.using(OPERATOR).filter(
        pk=way.tenant_id, home=move.home_before, plan=move.plan_before, status__in=CLOSABLE
    )
    if rows.update(home=move.home_after, plan=move.plan_after) != 1:
        raise MoveFailed("The tenant's plan, home or status was changed by somebody else.")
    _enter_in_ledger(way)
    audit.record(
        actor=move.actor,
        action="tenant.moved",
        target=way.name,
        tenant_id=way.tenant_id,
        reason=move.reason,
        before={"plan": move.plan_before, "home": move.home_before},
        after={"plan": move.plan_after, "home": move.home_after},
        using=OPERATOR,
    )


def _enter_in_ledger(way: Way) -> None:
    """What undoing and reconciling a sign-up go by: whether there is a schema."""
    sign_ups = PendingOnboarding.objects.using(OPERATOR).filter(tenant_id=way.tenant_id)
    sign_up = sign_ups.values_list("pk", flat=True).first()
    if sign_up is None:
        return
    sign_ups.update(home=way.move.home_after)
    ledger = ProvisionedResource.objects.using(OPERATOR)
    if way.move.home_after == Home.DEDICATED:
        ledger.bulk_create(
            [
                ProvisionedResource(
                    id=uuid5(sign_up, "schema"),
                    tenant_id=way.tenant_id,
                    step="schema",
                    name=way.own,
                    lease=way.claim.lease if way.claim else 0,
                )
            ],
            ignore_conflicts=True,
        )
    else:
        ledger.filter(tenant_id=way.tenant_id, step="schema").delete()


def _carry_sequences_on(cursor: Any, way: Way, shapes: Sequence[Shape]) -> None:
    """Where a table numbers its rows itself, the new one goes on behind the highest number."""
    for shape in shapes:
        for column in shape.columns:
            cursor.execute(
                "select pg_get_serial_sequence(quote_ident(%s) || '.' || quote_ident(%s), %s)",
                [way.target, shape.name, column],
            )
            (sequence,) = cursor.fetchone()
            if sequence is None:
                continue
            highest = sql.SQL("select max({}) from {}")
            cursor.execute(highest.format(sql.Identifier(column), way.new(shape.name)))
            _advance(sequence, cursor.fetchone()[0])


def _advance(sequence: str, number: int | None) -> None:
    """Never back: another tenant's rows may be numbered by it too. The owner alone may."""
    if number is None:
        return
    with connections[OWNER].cursor() as cursor:
        cursor.execute(
            "select setval(%s::regclass, %s) where %s >"
            " coalesce(pg_sequence_last_value(%s::regclass), 0)",
            [sequence, number, number, sequence],
        )
