"""The only writers of works besides the engine: enqueue, replay, discard, cancel, skip."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, cast
from uuid import UUID

from django.db import DEFAULT_DB_ALIAS, router, transaction
from django.db.models import F
from django.db.models.functions import Now

from jobs import hints
from jobs.errors import ReasonMissing, StaleState
from jobs.models import DeadLetter, Job, Work
from jobs.registry import kind as kind_named
from jobs.registry import queue as queue_named
from jobs.states import CANCELLABLE, Priority, State
from tenants import audit

OPERATOR = "operator"
AFTER = {  # The state that a resolution moves a work to.
    DeadLetter.Resolution.REPLAYED: State.PENDING,
    DeadLetter.Resolution.DISCARDED: State.DISCARDING,
    DeadLetter.Resolution.CANCELLED: State.CANCELLED,
}


def enqueue(
    kind: str,
    *,
    tenant_id: int,
    args: Mapping[str, Any] | None = None,
    lane: str | None = None,
    priority: Priority = Priority.FIRST,
    due_at: datetime | None = None,
    using: str | None = None,
) -> Job:
    """Have a job done for a tenant, in the caller's transaction: it stands or falls with that.

    Runs at `due_at`, or at once. Jobs of one `lane` share a window; by default a tenant's jobs do.
    The app role can do this only inside the tenant's context.
    Raises UnknownKind.
    """
    policy = kind_named(kind).policy
    job = Job(
        tenant_id=tenant_id,
        kind=kind,
        args=dict(args or {}),
        lane=lane or f"jobs:{tenant_id}",
        priority=priority,
        state=State.SCHEDULED if due_at else State.PENDING,
        max_attempts=policy.attempts,
    )
    if due_at is not None:
        job.due_at = due_at
    job.save(force_insert=True, using=using)
    wake_after_commit("jobs", using=using or router.db_for_write(Job))
    return job


def wake_after_commit(queue: str, *, using: str = DEFAULT_DB_ALIAS) -> None:
    """Tell the drainers of new work once the transaction is committed; now, when there is none."""
    transaction.on_commit(lambda: hints.send(queue), using=using, robust=True)


def replay(*, dead_letter: DeadLetter, actor: str, reason: str) -> None:
    """Do a dead work again: with a new budget of attempts, behind everything that is on time.

    Raises StaleState when it is not dead any more, ReasonMissing.
    """
    queue = queue_named(dead_letter.queue)
    with transaction.atomic(using=OPERATOR):
        work = _locked(dead_letter.queue, dead_letter.work_id, State.DEAD_LETTER)
        columns = {name: getattr(work, name) for name in queue.model.claimed}
        _move(
            work,
            State.PENDING,
            priority=Priority.REPLAY,
            due_at=Now(),
            finished_at=None,
            losses=0,
            max_attempts=F("attempts") + queue.policy_of(columns).attempts,
        )
        _resolve(work, dead_letter.queue, DeadLetter.Resolution.REPLAYED, actor, reason)
        wake_after_commit(dead_letter.queue, using=OPERATOR)


def discard(*, dead_letter: DeadLetter, actor: str, reason: str) -> None:
    """Give a dead work up: what it made is undone, which is work too, with attempts of its own.

    Raises StaleState when it is not dead any more, ReasonMissing.
    """
    with transaction.atomic(using=OPERATOR):
        work = _locked(dead_letter.queue, dead_letter.work_id, State.DEAD_LETTER)
        _move_to_discarding(work, dead_letter.queue)
        _resolve(work, dead_letter.queue, DeadLetter.Resolution.DISCARDED, actor, reason)


def cancel(*, queue: str, work_id: UUID, actor: str, reason: str) -> None:
    """Withdraw a work that is not being done.

    One that was begun, in a queue whose works can be undone, is discarded instead: what it made
    would outlive it, and its address be free while it is not.
    Raises StaleState when it is being done, or is finished; ReasonMissing.
    """
    with transaction.atomic(using=OPERATOR):
        work = _locked(queue, work_id, *CANCELLABLE)
        if queue_named(queue).undo is not None and _was_begun(work):
            _move_to_discarding(work, queue)
            resolution = DeadLetter.Resolution.DISCARDED
        else:
            _move(work, State.CANCELLED, finished_at=Now())
            resolution = DeadLetter.Resolution.CANCELLED
        if work.state == State.DEAD_LETTER:
            _resolve(work, queue, resolution, actor, reason)
        else:
            _record(work, queue, f"work.{resolution}", AFTER[resolution], actor, reason)


def _was_begun(work: Work) -> bool:
    """Whether its step ever ran: a snooze takes the attempt back, and leaves its reason."""
    return work.attempts > 0 or work.last_error != ""


def _locked(queue: str, work_id: UUID, *states: State) -> Work:
    model = queue_named(queue).model
    rows = model._default_manager.using(OPERATOR).select_for_update()
    work = rows.filter(pk=work_id, state__in=states).first()
    if work is None:
        raise StaleState(f"{queue} {work_id} is not {' or '.join(states)}.")
    return work


def _move(work: Work, state: State, **columns: Any) -> None:
    rows = type(work)._default_manager.using(OPERATOR)
    moved = rows.filter(pk=work.pk, state=work.state).update(state=state, **columns)
    if moved != 1:
        raise StaleState(f"{work} is not {work.state} any more.")


def _move_to_discarding(work: Work, queue: str) -> None:
    _move(
        work,
        State.DISCARDING,
        due_at=Now(),
        losses=0,
        max_attempts=F("attempts") + queue_named(queue).undo_policy.attempts,
    )
    wake_after_commit(queue, using=OPERATOR)


def _resolve(
    work: Work, queue: str, resolution: DeadLetter.Resolution, actor: str, reason: str
) -> None:
    open_letter = DeadLetter.objects.using(OPERATOR).filter(
        tenant_id=cast("int", work.tenant_id), queue=queue, work_id=work.pk, resolved_at=None
    )
    open_letter.update(
        resolved_at=Now(), resolved_by=actor, resolution=resolution, why=reason[:500]
    )
    _record(work, queue, f"work.{resolution}", AFTER[resolution], actor, reason)


def _record(work: Work, queue: str, action: str, after: State, actor: str, reason: str) -> None:
    if not reason.strip():
        raise ReasonMissing("Say why: the audit trail keeps it.")
    audit.record(
        actor=actor,
        action=action,
        target=f"{queue}:{work.pk}",
        tenant_id=work.tenant_id,
        reason=reason,
        before={"state": work.state},
        after={"state": str(after)},
        using=OPERATOR,
    )
