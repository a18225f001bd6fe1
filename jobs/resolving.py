"""Works moved by the chunk: how jobs.services moves them, one or ten thousand.

A chunk is one transaction of a few statements, whatever its size. Locks are taken as everywhere:
works in the order of their ids, then their letters.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from uuid import UUID

import orjson
from django.db import connections, transaction
from structlog.contextvars import get_contextvars

from config.ids import uuid7
from config.proxies import current_address
from jobs import columns, tallying
from jobs.errors import ReasonMissing
from jobs.models import DeadLetter
from jobs.registry import Queue, kept
from jobs.registry import queue as queue_named
from jobs.states import CANCELLABLE, FINISHED, WAITING, Priority, State

CHUNK = 500  # Works in one transaction, so that nobody waits long for its locks.
MOST_ATTEMPTS = 32_767  # What the column holds.

LOCK = """
select w.id, w.tenant_id, w.state from {table} w
where w.id = any(%s) and w.state = any(%s) and ({condition}) order by w.id for update of w
"""

MOVE = """
update {table} w set state = %s, due_at = now(), losses = 0,
  finished_at = case when {finished} then now() end,
  priority = coalesce(%s, w.priority), max_attempts = least(w.attempts + g.budget, {most}),
  forgiven = w.attempts, throttled_since = null{place}
from json_to_recordset(%s::json) g(id uuid, budget int) where w.id = g.id
"""

# Its budget stays as it is: what was to be tried later is tried now.
HURRY = """
update {table} w set state = 'pending', due_at = now() where w.id = any(%s)
"""

# Its place in an ordered lane is past: with it, it would be the head, before all fresh work. A dead
# one keeps its place, since what is behind it still waits for it.
NO_PLACE = ", seq = case when w.state = any('{{{finished}}}') then null else w.seq end"

RESOLVE = """
update jobs_deadletter set resolved_at = now(), resolved_by = %s, resolution = %s, why = %s
where queue = %s and work_id = any(%s) and tenant_id = any(%s) and resolved_at is null
"""

RECORD = """
insert into tenants_auditentry
  (id, at, tenant_id, actor, action, target, reason, before, after, request_id, address)
select g.id, now(), g.tenant_id, %s, %s, g.target, %s, g.before, g.after, %s, %s::inet
from json_to_recordset(%s::json) g(id uuid, tenant_id bigint, target text, before jsonb,
  after jsonb)
"""


class Resolution(StrEnum):
    """What is done to works. All but RETRIED end their dead letter, which has the same word."""

    REPLAYED = DeadLetter.Resolution.REPLAYED.value
    DISCARDED = DeadLetter.Resolution.DISCARDED.value
    CANCELLED = DeadLetter.Resolution.CANCELLED.value
    RETRIED = "retried"  # Tried before its time; none of these is dead.


WITHDRAWN = tuple(state for state in CANCELLABLE if state != State.DEAD_LETTER)


@dataclass(frozen=True, slots=True)
class Act:
    """What is done to works, by whom and why."""

    resolution: Resolution
    actor: str
    reason: str

    def __post_init__(self) -> None:
        """Raises ReasonMissing."""
        if not self.reason.strip():
            raise ReasonMissing("Say why: the audit trail keeps it.")

    @property
    def after(self) -> State:
        """The state that it moves a work to."""
        return AFTER[self.resolution]

    def start(self, queue: Queue) -> tuple[State, ...]:
        """The states that it moves works from."""
        if self.resolution == Resolution.REPLAYED:
            return queue.model.replayable
        if self.resolution == Resolution.RETRIED:
            return WAITING
        if self.resolution == Resolution.DISCARDED:
            return (State.DEAD_LETTER,)
        # What was begun may have to be undone first: services.cancel looks at each.
        return () if queue.undo else WITHDRAWN

    def condition(self, queue: Queue) -> str:
        """What must hold besides: SQL over a work `w`."""
        if self.resolution == Resolution.RETRIED:
            return queue.model.retriable_if
        if self.resolution == Resolution.REPLAYED:
            return queue.model.replayable_if
        return _no_kept(queue)


def _no_kept(queue: Queue) -> str:
    """SQL over a work `w`: it is of no kind that is kept. The names are ours, of the settings."""
    names = ", ".join(f"'{name}'" for name in kept())
    return f"w.kind not in ({names})" if queue.name == "jobs" and names else "true"


AFTER = {
    Resolution.REPLAYED: State.PENDING,
    Resolution.DISCARDED: State.DISCARDING,
    Resolution.CANCELLED: State.CANCELLED,
    Resolution.RETRIED: State.PENDING,
}


def resolve(*, queue: str, ids: Collection[UUID], act: Act, using: str) -> list[UUID]:
    """Do this to these works, all at once; says which: the others stand elsewhere by now.

    `ids` are at most CHUNK. Under `default` only the current tenant's are there.
    """
    of = queue_named(queue)
    with transaction.atomic(using=using, savepoint=False):
        works = _locked(of, ids, act, using)
        if not works:
            return []
        moved = [id_ for id_, _, _ in works]
        _move(of, moved, act, using)
        if act.resolution != Resolution.RETRIED:
            tenants = sorted({tenant for _, tenant, _ in works})
            values = [act.actor, act.resolution, act.reason[:500], queue, moved, tenants]
            _execute(using, RESOLVE, values)
        record(queue, works, act, using=using)
        moves = [(id_, before, str(act.after)) for id_, _, before in works]
        tallying.tally(of, moves, using)
    return moved


def record(queue: str, works: Sequence[tuple[UUID, int, str]], act: Act, *, using: str) -> None:
    """One audit entry for each work (id, tenant, state before), as if it had been the only one."""
    entries = [
        {
            "id": uuid7(),
            "tenant_id": tenant_id,
            "target": f"{queue}:{work_id}",
            "before": {"state": before},
            "after": {"state": str(act.after)},
        }
        for work_id, tenant_id, before in works
    ]
    request_id = str(get_contextvars().get("request_id", ""))[:64]
    action = f"work.{act.resolution}"
    values = [act.actor, action, act.reason[:500], request_id, current_address()]
    _execute(using, RECORD, [*values, orjson.dumps(entries).decode()])


def _locked(of: Queue, ids: Collection[UUID], act: Act, using: str) -> list[Any]:
    statement = LOCK.format(table=of.table, condition=act.condition(of))
    states = [str(state) for state in act.start(of)]
    with connections[using].cursor() as cursor:
        cursor.execute(statement, [list(ids), states])
        return list(cursor.fetchall())


def _move(of: Queue, ids: Sequence[UUID], act: Act, using: str) -> None:
    if act.resolution == Resolution.RETRIED:
        _execute(using, HURRY.format(table=of.table), [list(ids)])
        return
    replayed = act.resolution == Resolution.REPLAYED
    rows = [{"id": id_, "budget": n} for id_, n in _budgets(of, ids, act, using).items()]
    place = NO_PLACE.format(finished=",".join(FINISHED)) if replayed and of.model.ordered else ""
    statement = MOVE.format(
        table=of.table, most=MOST_ATTEMPTS, finished=act.after in FINISHED, place=place
    )
    priority = int(Priority.REPLAY) if replayed else None
    _execute(using, statement, [str(act.after), priority, orjson.dumps(rows).decode()])


def _budgets(of: Queue, ids: Sequence[UUID], act: Act, using: str) -> dict[UUID, int]:
    """The attempts that each gets on top of those it had."""
    if act.resolution != Resolution.REPLAYED:
        return dict.fromkeys(ids, of.undo_policy.attempts)
    carried = columns.of_works(of, ids, using=using)
    return {id_: of.policy_of(carried[id_]).attempts for id_ in ids}


def _execute(using: str, statement: str, values: Sequence[Any] | Mapping[str, Any]) -> int:
    with connections[using].cursor() as cursor:
        cursor.execute(statement, values)
        return int(cursor.rowcount)
