"""Replaying, discarding and their like by filter: counted first, done in the background.

`start` writes what is to be done and a job for it, in one transaction. The job goes through the
selection in chunks of one transaction each, which writes how far it is: killed anywhere, it goes on
behind the last chunk. The audit trail has one entry for the whole, and one for each work, as if it
had been the only one: whoever reads a work's history finds all of it there.

A replay runs for one tenant, as the app role under RLS. Only what the operator's login wrote runs
as the operator, in queues that no tenant may touch, and still for that one tenant.
"""

import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol
from uuid import UUID

import orjson
from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, connections, transaction
from django.db.models import F
from django.db.models.functions import Coalesce, Now
from django.utils.module_loading import import_string

from config.ids import uuid7
from jobs import selection as selecting
from jobs import services
from jobs.errors import ReasonMissing, StaleState
from jobs.fence import hold
from jobs.models import Job, Replay
from jobs.outcomes import Outcome, Snooze, Succeeded
from jobs.registry import queue as queue_named
from jobs.resolving import CHUNK, Act, Resolution, resolve
from jobs.selection import Found, Selection
from jobs.services import OPERATOR, enqueue, wake_after_commit
from jobs.states import State
from jobs.steps import Claim
from tenants import audit
from tenants.context import tenant_context

Action = Replay.Action
PACE = 2000.0  # Works a second: what replays write leaves the database room for all else.
STRETCH = 20.0  # Seconds at a time; then others' jobs have their turn.
SAMPLE = 5
MOST_COUNTED = 10_000
COUNTING = 2.0  # Seconds: who asks how many there are waits for the answer.

# The app role may not name the columns that it may not write: Django would name all.
_INSERT = """
insert into jobs_replay (id, tenant_id, queue, action, selection, actor, reason, total {more})
values (%s, %s, %s, %s, %s::jsonb, %s, %s, %s {values})
"""


@dataclass(frozen=True, slots=True)
class Preview:
    """What an action would move: how many, and the first few.

    `capped`: there may be more; counting ended at MOST_COUNTED, or took too long. `left_out` is how
    many the selection finds besides that cannot be moved as things stand: why → how many.
    """

    count: int
    sample: Sequence[Found]
    capped: bool = False
    left_out: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Chunk:
    """What one transaction did; `place` is where the next one goes on, None at the end."""

    done: int
    skipped: int
    place: str | None


class Missing(Protocol):
    """What finds the works that should be in a queue and are not: SLIPWAY["MISSING"][queue]."""

    def preview(self, selection: Selection, *, size: int, using: str) -> Preview:
        """How many are missing, and what the first few would be."""

    def fill(self, selection: Selection, *, place: str, most: int, using: str) -> Chunk:
        """Make the next of them, in the caller's transaction."""


def preview(selection: Selection, *, action: Action, using: str, size: int = SAMPLE) -> Preview:
    """Count what the action would move, and change nothing.

    Raises LookupError when the queue knows nothing of what may be missing.
    """
    if action == Action.MISSING:
        return _missing(selection.queue).preview(selection, size=size, using=using)
    counted: list[UUID] = []
    left_out: Counter[str] = Counter()
    place: str | None = ""
    ends_at = time.monotonic() + COUNTING
    while place is not None and len(counted) <= MOST_COUNTED and time.monotonic() < ends_at:
        looked = selecting.look(selection, place=place, most=CHUNK, using=using)
        unmoved: Mapping[UUID, str] = {}
        if action in _CONDITIONAL and looked.ids:
            unmoved = selecting.left_out(selection, looked.ids, action=action, using=using)
        counted += [id_ for id_ in looked.ids if id_ not in unmoved]
        left_out.update(unmoved.values())
        place = looked.place
    shown = selecting.sample(selection, counted[:size], using=using) if size else []
    return Preview(min(len(counted), MOST_COUNTED), shown, place is not None, dict(left_out))


def start(*, selection: Selection, action: Action, actor: str, reason: str, using: str) -> Replay:
    """Have it done in the background, in the caller's transaction or one of its own.

    Raises ReasonMissing, and LookupError as `preview` does.
    """
    if not reason.strip():
        raise ReasonMissing("Say why: the audit trail keeps it.")
    total = preview(selection, action=action, using=using, size=0).count
    replay = Replay(
        id=uuid7(),
        tenant_id=selection.tenant_id,
        queue=selection.queue,
        action=action,
        selection=selection.as_json(),
        actor=actor,
        reason=reason[:500],
        total=total,
    )
    with transaction.atomic(using=using):
        _insert(replay, using=using)
        enqueue(
            "jobs.resolve",
            tenant_id=selection.tenant_id,
            args={"replay": str(replay.pk)},
            once=replay.pk,  # So that `stuck` finds it.
            lane="replays",  # Its own window: the tenant's other jobs have their room beside it.
            using=using,
        )
        _record(replay, _BEGUN[action], {"selection": replay.selection, "total": total}, using)
    replay.refresh_from_db(using=using)
    return replay


_BEGUN = {
    Action.REPLAY: "works.replayed",
    Action.DISCARD: "works.discarded",
    Action.MISSING: "works.filled",
    Action.RETRY: "works.retried",
    Action.CANCEL: "works.cancelled",
}
_CONDITIONAL = (Action.REPLAY, Action.RETRY)  # Not whatever stands in the right state.


def cancel(*, replay: Replay, actor: str, reason: str, using: str) -> None:
    """Do no more of it: what was done stays done. The chunk that runs just now is the last.

    Raises StaleState when it is at its end already, ReasonMissing.
    """
    if not reason.strip():
        raise ReasonMissing("Say why: the audit trail keeps it.")
    with transaction.atomic(using=using):
        rows = Replay.objects.using(using).filter(pk=replay.pk, finished_at=None)
        if not rows.update(cancelled_at=Now(), finished_at=Now()):
            raise StaleState(f"{replay} is at its end.")
        replay.refresh_from_db(using=using)
        replay.actor, replay.reason = actor, reason
        _record(replay, "works.replay_cancelled", {"done": replay.done}, using)


class Begun(Protocol):
    """What a job with the same id goes through: a Replay, or what another app has of the sort."""

    @property
    def pk(self) -> Any: ...

    @property
    def finished_at(self) -> Any: ...


def stuck(replays: Sequence[Begun], *, using: str) -> set[UUID]:
    """Which of them nobody goes on with, though they are not at their end: their job is dead.

    Once that is replayed they go on where they were.
    """
    open_ones = [replay.pk for replay in replays if replay.finished_at is None]
    if not open_ones:
        return set()
    jobs = Job.objects.using(using).filter(pk__in=open_ones, state__in=_NOBODYS)
    return set(jobs.values_list("pk", flat=True))


_NOBODYS = (State.DEAD_LETTER, State.DISCARDING, State.DISCARDED, State.CANCELLED)


def run(claim: Claim) -> Outcome:
    """The job `jobs.resolve`."""
    ends_at = min(time.monotonic() + STRETCH, claim.deadline - STRETCH)
    replay_id = UUID(claim.data["args"]["replay"])
    using = _alias(claim, replay_id)
    with tenant_context(claim.tenant):
        while time.monotonic() < ends_at:
            began_at = time.monotonic()
            if _one_chunk(claim, replay_id, using):
                return Succeeded()
            time.sleep(max(0.0, CHUNK / PACE - (time.monotonic() - began_at)))
    return Snooze(0.0, "there is more to do")


def _alias(claim: Claim, replay_id: UUID) -> str:
    """As whom it runs. The row says, in a column that the app role cannot write."""
    rows = Replay.objects.using(OPERATOR).filter(pk=replay_id, tenant_id=claim.tenant_id)
    return OPERATOR if rows.filter(by_operator=True).exists() else DEFAULT_DB_ALIAS


def _one_chunk(claim: Claim, replay_id: UUID, using: str) -> bool:
    """Do the next chunk; whether that was the end."""
    with transaction.atomic(using=using):
        hold(claim, using=using)
        rows = Replay.objects.using(using).filter(pk=replay_id, tenant_id=claim.tenant_id)
        replay = rows.select_for_update().first()
        if replay is None or replay.finished_at is not None:
            return True
        chunk = _ACTIONS[Action(replay.action)](replay, using)
        ended = chunk.place is None
        rows.update(
            done=F("done") + chunk.done,
            skipped=F("skipped") + chunk.skipped,
            place=chunk.place or replay.place,
            started_at=Coalesce("started_at", Now()),
            finished_at=Now() if ended else None,
        )
        if chunk.done and replay.action == Action.MISSING:
            wake_after_commit(replay.queue, using=using)
    return ended


def move(
    *, queue: str, ids: Collection[UUID], action: Action, actor: str, reason: str, using: str
) -> int:
    """Do this to at most CHUNK works, in the caller's transaction; how many it moved.

    The others stand elsewhere by now. Drainers hear of it once that transaction is committed.
    """
    done = 0
    for resolution in _RESOLUTIONS[action]:
        act = Act(resolution, actor, reason)
        done += len(resolve(queue=queue, ids=ids, act=act, using=using))
    if action == Action.CANCEL and queue_named(queue).undo is not None:
        done += _withdraw_each(queue, ids, actor=actor, reason=reason, using=using)
    if done:
        wake_after_commit(queue, using=using)
    return done


def _withdraw_each(
    queue: str, ids: Collection[UUID], *, actor: str, reason: str, using: str
) -> int:
    """What was begun is undone, what was not is cancelled: services.cancel looks at each."""
    done = 0
    for id_ in sorted(ids):
        with suppress(StaleState):
            services.cancel(queue=queue, work_id=id_, actor=actor, reason=reason, using=using)
            done += 1
    return done


_RESOLUTIONS: Mapping[Action, Sequence[Resolution]] = {
    Action.REPLAY: (Resolution.REPLAYED,),
    # The dead are discarded; what waits is withdrawn, where there is nothing to undo.
    Action.DISCARD: (Resolution.DISCARDED, Resolution.CANCELLED),
    Action.RETRY: (Resolution.RETRIED,),
    Action.CANCEL: (Resolution.CANCELLED,),
}


def _move(replay: Replay, using: str) -> Chunk:
    selection = selecting.read(replay.selection)
    looked = selecting.look(selection, place=replay.place, most=CHUNK, using=using)
    done = move(
        queue=replay.queue,
        ids=looked.ids,
        action=Action(replay.action),
        actor=replay.actor,
        reason=replay.reason,
        using=using,
    )
    return Chunk(done, len(looked.ids) - done, looked.place)


def _fill(replay: Replay, using: str) -> Chunk:
    selection = selecting.read(replay.selection)
    missing = _missing(replay.queue)
    return missing.fill(selection, place=replay.place, most=CHUNK, using=using)


_ACTIONS: Mapping[Action, Callable[[Replay, str], Chunk]] = {
    **dict.fromkeys(_RESOLUTIONS, _move),
    Action.MISSING: _fill,
}


def _missing(queue: str) -> Missing:
    try:
        path = settings.SLIPWAY["MISSING"][queue]
    except KeyError:
        raise LookupError(f"Nobody knows what {queue} may be missing.") from None
    found: Missing = import_string(path)()
    return found


def _insert(replay: Replay, *, using: str) -> None:
    operator = using == OPERATOR
    statement = _INSERT.format(
        more=", by_operator" if operator else "", values=", true" if operator else ""
    )
    values: list[Any] = [
        replay.pk,
        replay.tenant_id,
        replay.queue,
        replay.action,
        orjson.dumps(replay.selection).decode(),
        replay.actor,
        replay.reason,
        replay.total,
    ]
    with connections[using].cursor() as cursor:
        cursor.execute(statement, values)


def _record(replay: Replay, action: str, after: dict[str, Any], using: str) -> None:
    audit.record(
        actor=replay.actor,
        action=action,
        target=f"replay:{replay.pk}",
        tenant_id=replay.tenant_id,
        reason=replay.reason,
        after={"queue": replay.queue, **after},
        using=using,
    )
