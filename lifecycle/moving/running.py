"""The job `tenants.move`: phase after phase, a stretch at a time."""

import time
from collections.abc import Callable, Mapping
from uuid import UUID

from django.db import connections
from django.db.models import F
from django.db.models.functions import Now

from jobs.outcomes import Fail, Outcome, Retry, Snooze, Succeeded, Withdrawn
from jobs.retry import RetryPolicy
from jobs.steps import Claim
from lifecycle.errors import MoveDelayed, MoveFailed
from lifecycle.models import Phase, PlanMove
from lifecycle.moving import capture, checking, copying, homes, shapes, switching, undoing
from lifecycle.moving.copying import Reach
from lifecycle.moving.shapes import Shape
from lifecycle.moving.way import OPERATOR, Way, fenced, option, snapshot
from tenants.models import Tenant
from tenants.services import CLOSABLE

POLICY = RetryPolicy(attempts=12, base=2.0, cap=600.0)
STRETCH = 10.0  # Seconds at a time; then others' jobs have their turn.

_Shapes = Mapping[str, Shape]


def run(claim: Claim) -> Outcome:
    """The job `tenants.move`. What cannot go on is undone, and waits for an operator."""
    way = _way(claim)
    if way is None or way.move.finished_at is not None:
        return Succeeded()
    try:
        if way.move.moved_at is None and _is_leaving(way.tenant):
            undoing.abandon(way)
            return Withdrawn("Its tenant is closed.")
        return _stretch(way)
    except MoveDelayed as delay:
        return Retry(str(delay), healthy=True)
    except MoveFailed as failure:
        if way.move.moved_at is None:
            undoing.halt(way, why=str(failure))
        return Fail(str(failure), healthy=True)


def _stretch(way: Way) -> Outcome:
    """One phase, or as much of it as there is time for.

    The engine hears of each that no drainer died of it: three deaths in a row would be poison.
    """
    phase = Phase(way.move.phase)
    ends_at = time.monotonic() + STRETCH
    while True:
        delay = _PHASES[phase](way)
        if way.move.finished_at is not None:
            return Succeeded()
        if delay > 0:
            return Snooze(delay, "the old home is kept for a while")
        if way.move.phase != phase or time.monotonic() > ends_at:
            return Snooze(0.0, "there is more to do")


def _is_leaving(tenant: Tenant | None) -> bool:
    return tenant is None or tenant.status not in CLOSABLE


def _way(claim: Claim) -> Way | None:
    move_id = UUID(claim.data["args"].get("move") or str(claim.id))
    rows = PlanMove.objects.using(OPERATOR).filter(pk=move_id, tenant_id=claim.tenant_id)
    move = rows.first()
    if move is None:
        return None
    return Way(move, Tenant.objects.using(OPERATOR).filter(pk=claim.tenant_id).first(), claim)


# ---- The phases: each says in how many seconds it is to be asked again, 0 at once ----


def _prepare(way: Way) -> float:
    capture.disarm(way)
    homes.make(way)
    with fenced(way) as cursor:
        found = shapes.read_both(cursor, way.source, way.target)
        way.write(
            phase=Phase.CAPTURE,
            shape=shapes.digest(found),
            table="",
            place=None,
            rows_done=0,
            changes=0,
            checks={},
            started_at=way.move.started_at or Now(),
        )
    return 0.0


def _capture(way: Way) -> float:
    found = _shapes_of(way)
    if found is None:
        return 0.0
    capture.arm(way, found.values())
    with snapshot(way) as cursor:
        total = copying.count(cursor, way, list(found.values()))
        way.write(phase=Phase.COPY, rows_total=total)
    return 0.0


def _copy(way: Way) -> float:
    """A chunk. Which tables are behind it, the order says; so only one name is kept."""
    found = _shapes_of(way)
    if found is None:
        return 0.0
    began_at = time.monotonic()
    order = shapes.units(found)
    flat = [shape for unit in order for shape in unit]
    heads = [unit[0].name for unit in order]
    at = heads.index(way.move.table) if way.move.table else 0
    with snapshot(way) as cursor:
        before = [shape.name for unit in order[:at] for shape in unit]
        reach = Reach(frozenset(before), heads[at], way.move.place)
        changes = copying.catch_up(cursor, way, flat, reach)
        if shapes.is_whole(order[at]):
            copied = sum(
                copying.copy(cursor, way, shape, after=None, limit=None)[0] for shape in order[at]
            )
            ended, last = True, None
        else:
            copied, last = copying.copy(
                cursor, way, order[at][0], after=way.move.place, limit=option("chunk")
            )
            # Not when there is nothing left: a busy tenant always has one more.
            ended = copied < option("chunk")
        over = ended and at + 1 == len(order)
        way.write(
            phase=Phase.VERIFY if over else Phase.COPY,
            table=heads[at] if not ended else "" if over else heads[at + 1],
            place=None if ended else last,
            rows_done=F("rows_done") + copied,
            changes=F("changes") + changes,
        )
    time.sleep(max(0.0, copied / option("pace") - (time.monotonic() - began_at)))
    return 0.0


def _verify(way: Way) -> float:
    found = _shapes_of(way)
    if found is None:
        return 0.0
    flat, reach = _all_of(found)
    with snapshot(way) as cursor:
        changes = copying.catch_up(cursor, way, flat, reach)
        checks = checking.whole(cursor, way, flat)
        cursor.execute("select pg_snapshot_xmin(pg_current_snapshot())::xid::text")
        way.write(
            phase=Phase.SWITCH,
            checks=checks,
            horizon=cursor.fetchone()[0],
            changes=F("changes") + changes,
        )
    return 0.0


def _switch(way: Way) -> float:
    found = _shapes_of(way)
    if found is None:
        return 0.0
    flat, reach = _all_of(found)
    for _ in range(20):  # Writers that are faster than this for long are refused for longer.
        with snapshot(way) as cursor:
            changes = copying.catch_up(cursor, way, flat, reach)
            way.write(changes=F("changes") + changes)
        if changes <= switching.SHORT:
            break
    switching.switch(way, flat, reach)
    return 0.0


def _keep(way: Way) -> float:
    """Until whoever entered the old home before the switch has had to enter anew."""
    with connections[OPERATOR].cursor() as cursor:
        cursor.execute(
            "select extract(epoch from moved_at - clock_timestamp()) + %s"
            " from lifecycle_planmove where id = %s",
            [option("keep"), way.move.pk],
        )
        left = float(cursor.fetchone()[0])
    if left <= 0:
        with fenced(way):
            way.write(phase=Phase.CLEAR)
    return max(left, 0.0)


def _clear(way: Way) -> float:
    capture.disarm(way)
    began_at = time.monotonic()
    if homes.clear_some(way):
        with fenced(way):
            way.write(phase=Phase.DONE, finished_at=Now())
    time.sleep(max(0.0, option("chunk") / option("pace") - (time.monotonic() - began_at)))
    return 0.0


_PHASES: Mapping[Phase, Callable[[Way], float]] = {
    Phase.PREPARE: _prepare,
    Phase.CAPTURE: _capture,
    Phase.COPY: _copy,
    Phase.VERIFY: _verify,
    Phase.SWITCH: _switch,
    Phase.KEEP: _keep,
    Phase.CLEAR: _clear,
}


def _all_of(found: _Shapes) -> tuple[list[Shape], Reach]:
    flat = [shape for unit in shapes.units(found) for shape in unit]
    return flat, Reach(frozenset(found))


def _shapes_of(way: Way) -> _Shapes | None:
    """The tables; None when a column changed since the move began, and it begins anew."""
    with fenced(way) as cursor:
        found = shapes.read_both(cursor, way.source, way.target)
        if shapes.digest(found) == way.move.shape:
            return found
        way.write(phase=Phase.PREPARE)
    return None
