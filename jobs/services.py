"""The only writers of works besides the engine: enqueue, replay, retry, discard, cancel, skip.

`using` is `operator` for the console, commands and the engine. Inside a tenant's context it may be
`default`, the app role under RLS, where a migration granted it (jobs/0004 and the queue's own).
Shut lanes are in jobs.shutting, what a filter finds in jobs.replaying.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, cast
from uuid import UUID

from django.db import DEFAULT_DB_ALIAS, router, transaction
from django.db.models import F
from django.db.models.functions import Now

from jobs import hints, tallying
from jobs.errors import StaleState
from jobs.models import DeadLetter, Job, Work
from jobs.registry import kept
from jobs.registry import kind as kind_named
from jobs.registry import queue as queue_named
from jobs.resolving import Act, Resolution, record, resolve
from jobs.states import CANCELLABLE, Priority, State

OPERATOR = "operator"


def enqueue(
    kind: str,
    *,
    tenant_id: int,
    args: Mapping[str, Any] | None = None,
    lane: str | None = None,
    priority: Priority = Priority.FIRST,
    due_at: datetime | None = None,
    once: UUID | None = None,
    using: str | None = None,
) -> Job:
    """Have a job done for a tenant, in the caller's transaction: it stands or falls with that.

    Runs at `due_at`, or at once. Jobs of one `lane` share a window; by default a tenant's jobs do.
    `once` is an id for the job: while one of this id is kept, nothing is enqueued.
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
    if once is None:
        job.save(force_insert=True, using=using)
    else:
        job.id = once
        Job.objects.using(using).bulk_create([job], ignore_conflicts=True)
    wake_after_commit("jobs", tenant_id=tenant_id, using=using or router.db_for_write(Job))
    return job


def wake_after_commit(
    queue: str, *, tenant_id: int | None = None, using: str = DEFAULT_DB_ALIAS
) -> None:
    """Tell the drainers of new work once the transaction is committed; now, when there is none.

    `tenant_id` says whose it is, where it is one tenant's.
    """
    transaction.on_commit(lambda: hints.send(queue, tenant_id), using=using, robust=True)


def replay(*, dead_letter: DeadLetter, actor: str, reason: str, using: str = OPERATOR) -> None:
    """Do a dead work again: with a new budget of attempts, behind everything that is on time.

    Raises StaleState when it is not dead any more, or may not be done again; ReasonMissing.
    """
    work = dead_letter.work_id
    replay_work(queue=dead_letter.queue, work_id=work, actor=actor, reason=reason, using=using)


def replay_work(
    *, queue: str, work_id: UUID, actor: str, reason: str, using: str = OPERATOR
) -> None:
    """As `replay`, of a work that need not be dead: wherever its model says that it is replayable.

    Raises StaleState, ReasonMissing.
    """
    _resolve_one(queue, work_id, Act(Resolution.REPLAYED, actor, reason), using)


def retry_now(*, queue: str, work_id: UUID, actor: str, reason: str, using: str = OPERATOR) -> None:
    """Have a work that was tried and waits for its next time tried at once.

    Its budget of attempts and its place in the lane stay as they are, and what holds the lane back
    holds it too. Raises StaleState when it does not wait for that; ReasonMissing.
    """
    _resolve_one(queue, work_id, Act(Resolution.RETRIED, actor, reason), using)


def discard(*, dead_letter: DeadLetter, actor: str, reason: str, using: str = OPERATOR) -> None:
    """Give a dead work up: what it made is undone, which is work too, with attempts of its own.

    Raises StaleState when it is not dead any more, ReasonMissing.
    """
    act = Act(Resolution.DISCARDED, actor, reason)
    _resolve_one(dead_letter.queue, dead_letter.work_id, act, using)


def skip(*, queue: str, work_id: UUID, actor: str, reason: str, using: str = OPERATOR) -> None:
    """Give a work up wherever it waits: what is behind it in an ordered lane runs then.

    The dead are discarded, the others cancelled. Raises StaleState, ReasonMissing.
    """
    act = Act(Resolution.DISCARDED, actor, reason)
    if not _resolved(queue, work_id, act, using):
        cancel(queue=queue, work_id=work_id, actor=actor, reason=reason, using=using)


def cancel(*, queue: str, work_id: UUID, actor: str, reason: str, using: str = OPERATOR) -> None:
    """Withdraw a work that is not being done.

    One that was begun, in a queue whose works can be undone, is discarded instead: what it made
    would outlive it, and its address be free while it is not.
    Raises StaleState when it is being done, is finished, or of a kind that is kept (registry.kept);
    ReasonMissing.
    """
    with transaction.atomic(using=using):
        work = _locked(queue, work_id, *CANCELLABLE, using=using)
        if instead := kept().get(getattr(work, "kind", "")):
            raise StaleState(f"it cannot be withdrawn: {instead}.")
        undo = queue_named(queue).undo is not None and _was_begun(work)
        act = Act(Resolution.DISCARDED if undo else Resolution.CANCELLED, actor, reason)
        if undo:
            _move(
                work,
                act.after,
                using=using,
                due_at=Now(),
                losses=0,
                max_attempts=F("attempts") + queue_named(queue).undo_policy.attempts,
                forgiven=F("attempts"),
                throttled_since=None,
            )
        else:
            _move(work, act.after, using=using, finished_at=Now())
        if work.state == State.DEAD_LETTER:
            _close_letter(work, queue, act, using=using)
        record(queue, [(work.pk, cast("int", work.tenant_id), work.state)], act, using=using)
        tallying.tally(queue_named(queue), [(work.pk, work.state, act.after)], using)
        # To undo it; or its lane's next one may run.
        wake_after_commit(queue, using=using)


def _resolve_one(queue: str, work_id: UUID, act: Act, using: str) -> None:
    if not _resolved(queue, work_id, act, using):
        raise StaleState(f"{queue} {work_id} cannot be {act.resolution} as it stands.")


def _resolved(queue: str, work_id: UUID, act: Act, using: str) -> bool:
    with transaction.atomic(using=using):
        moved = resolve(queue=queue, ids=[work_id], act=act, using=using)
        if moved:
            wake_after_commit(queue, using=using)
    return bool(moved)


def _was_begun(work: Work) -> bool:
    """Whether its step ever ran: a snooze takes the attempt back, and leaves its reason."""
    return work.attempts > 0 or work.last_error != ""


def _locked(queue: str, work_id: UUID, *states: State, using: str) -> Work:
    model = queue_named(queue).model
    rows = model._default_manager.using(using).select_for_update()
    work = rows.filter(pk=work_id, state__in=states).first()
    if work is None:
        raise StaleState(f"{queue} {work_id} is not {' or '.join(states)}.")
    return work


def _move(work: Work, state: State, *, using: str, **columns: Any) -> None:
    rows = type(work)._default_manager.using(using)
    moved = rows.filter(pk=work.pk, state=work.state).update(state=state, **columns)
    if moved != 1:
        raise StaleState(f"{work} is not {work.state} any more.")


def _close_letter(work: Work, queue: str, act: Act, *, using: str) -> None:
    open_letter = DeadLetter.objects.using(using).filter(
        tenant_id=cast("int", work.tenant_id), queue=queue, work_id=work.pk, resolved_at=None
    )
    open_letter.update(
        resolved_at=Now(),
        resolved_by=act.actor,
        resolution=act.resolution,
        why=act.reason[:500],
    )
