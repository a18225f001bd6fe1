"""A move that is given up before its switch: the tenant goes on where it was.

After its switch a move is finished, whatever becomes of its job.
"""

from collections.abc import Iterator
from contextlib import suppress

from django.db.models.functions import Now

from jobs.errors import LeaseLost
from jobs.models import Job
from jobs.services import enqueue
from jobs.states import State
from lifecycle.errors import MoveFailed
from lifecycle.models import Phase, PlanMove
from lifecycle.moving import capture, homes
from lifecycle.moving.way import OPERATOR, Way, fenced
from tenants import audit
from tenants.models import Tenant

ACTOR = "system:lifecycle"
_GIVEN_UP = (State.DISCARDED, State.CANCELLED)


def halt(way: Way, *, why: str) -> None:
    """Take the triggers and the copy away; the move's job begins anew if it is replayed.

    Raises MoveDelayed, and LeaseLost when the move is in other hands by now.
    """
    with fenced(way):
        way.write(phase=Phase.PREPARE, error=why[:500], place=None, table="")
    capture.disarm(way)
    with suppress(MoveFailed):  # What is in the way is not ours, or lived in.
        homes.empty(way)


def abandon(way: Way) -> None:
    """Give the move up for good. Raises MoveFailed when the tenant has moved already."""
    if way.move.moved_at is not None:
        raise MoveFailed("The tenant has moved.")
    halt(way, why="It was given up.")
    with fenced(way):
        way.write(abandoned_at=Now(), finished_at=Now())
        audit.record(
            actor=ACTOR,
            action="tenant.plan_kept",
            target=way.name,
            tenant_id=way.tenant_id,
            reason=f"The move {way.move.pk} was given up.",
            using=OPERATOR,
        )


def end(*, tenant_id: int) -> None:
    """Before a tenant is purged: no trigger refuses what is to be deleted."""
    capture.disarm_for_good(tenant_id)
    rows = PlanMove.objects.using(OPERATOR).filter(tenant_id=tenant_id, finished_at=None)
    rows.update(abandoned_at=Now(), finished_at=Now())


def tend() -> int:
    """Bring moves to an end whose job will not: how many were touched.

    A dead job's is halted, one that was given up is abandoned or, past its switch, finished.
    """
    touched = 0
    for move, state in _left():
        way = Way(move, Tenant.objects.using(OPERATOR).filter(pk=move.tenant_id).first())
        with suppress(LeaseLost):  # Replayed just now.
            _tend(way, state)
            touched += 1
    return touched


def left() -> int:
    """How many `tend` would touch."""
    return sum(1 for _ in _left())


def _left() -> Iterator[tuple[PlanMove, str | None]]:
    for move in PlanMove.objects.using(OPERATOR).filter(finished_at=None):
        state = state_of_job(move)
        is_halted = move.moved_at is not None or move.phase == Phase.PREPARE
        if state in {*_GIVEN_UP, None} or (state == State.DEAD_LETTER and not is_halted):
            yield move, state


def _tend(way: Way, state: str | None) -> None:
    if state == State.DEAD_LETTER:
        halt(way, why="Its job is dead.")
    elif way.move.moved_at is None:
        abandon(way)
    else:
        enqueue(
            "tenants.move",
            tenant_id=way.tenant_id,
            args={"move": str(way.move.pk)},
            lane="moves",
            using=OPERATOR,
        )


def state_of_job(move: PlanMove) -> str | None:
    """The state of its job, or of the last one that was made in its place; None: there is none."""
    jobs = Job.objects.using(OPERATOR).filter(kind="tenants.move", tenant=move.tenant_id)
    newest = jobs.filter(pk__gte=move.pk).order_by("-id").values_list("state", flat=True)
    return newest.first()
