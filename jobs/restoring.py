"""After a restore: what may have been sent since is marked, and then drainers may go on.

The database shows a past, `since`. What it shows as not yet done may have been done after that, by
drainers whose claims it has lost. In queues whose works must not happen twice each such work
becomes `unknown`, to be resolved as any other that nobody can tell of; in the others it is simply
done again, which they promise no more than that. What was made after `since` was made by those who
already use the restored database: no drainer has seen it, for the gate is shut.

Each chunk is a transaction of its own and the gate is opened last: killed anywhere, it is called
again with the same moment.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from django.conf import settings
from django.db import DatabaseError, connections, transaction
from django.utils.module_loading import import_string

from jobs import tallying
from jobs.engine.gate import CLUSTER, ROOM
from jobs.engine.memory import recalled
from jobs.errors import ReasonMissing
from jobs.models import GATE, Gate
from jobs.registry import Queue, queues
from jobs.resolving import CHUNK
from jobs.services import OPERATOR
from tenants import audit

DOUBT = "perhaps sent: the database was restored to a time before it"
_NIL = UUID(int=0)

# Made by then and not finished, unless it was to begin after the drainers had stopped. Where nobody
# had noticed, a drainer that lives holds what it claimed from this very database.
_MAYBE = """
w.created_at <= %(since)s and (w.state = 'pending'
  or w.state in ('failed', 'scheduled') and w.due_at <= %(until)s
  or w.state = 'processing' and (%(held)s or not exists (
    select from jobs_drainer d where d.id = w.drainer and d.dead_at is null
      and d.beat_at > clock_timestamp() - interval '15 seconds')))
"""
_COUNT = "select count(*) from {table} w where {maybe}"
_MARK = """
with found as materialized (
  select w.id, w.state from {table} w where {maybe} and w.id > %(after)s
  order by w.id limit {most} for update
)
update {table} w set state = 'unknown', due_at = now(), lease = null, drainer = null,
  last_error = %(doubt)s
from found where w.id = found.id returning w.id, found.state, w.tenant_id
"""
_ABOVE = """
select setval('jobs_lease_seq',
    greatest((select last_value from jobs_lease_seq), %(known)s) + {room}),
  setval('jobs_drainer_id_seq', (select last_value from jobs_drainer_id_seq) + {room})
"""
# Tenants made since have files under their numbers: who signs up now is to draw none of these. A
# drainer that shut the gate did the same; where nobody had noticed, nobody did.
_BEYOND = """
select max(nextval('public.tenants_tenant_id_seq')) from generate_series(1, {room})
"""
_KNOWN = "select coalesce(max(lease), 0) from jobs_drainer"
_SHUT = """
update jobs_gate set held_since = clock_timestamp(), held_why = %s
where id = 1 and held_since is null
"""
_OPEN = """
update jobs_gate set held_since = null, held_why = '', remembered = 0,
  lease = (select last_value from jobs_lease_seq),
  server = %s || ':' || (select oid::text from pg_database where datname = current_database())
where id = 1
"""


class GateMissing(Exception):
    """The gate has no row: the restore is under way, or did not bring everything."""


class Restorer(Protocol):
    """What else may have been begun since, and would begin again; SLIPWAY["RESTORED"] names it.

    Says how many of what it stopped, or would stop: {"campaigns paused": 2}.
    """

    def __call__(
        self, *, since: datetime, until: datetime, actor: str, reason: str, dry_run: bool
    ) -> dict[str, int]: ...


@dataclass
class Restored:
    """What was found, or done."""

    held: bool  # The gate was shut before.
    why: str
    until: datetime
    marked: dict[str, int] = field(default_factory=dict)  # By queue.
    stopped: dict[str, int] = field(default_factory=dict)


def never_twice() -> list[Queue]:
    """The queues whose works must not happen twice."""
    return [queue for queue in queues().values() if queue.model.never_twice]


def find(*, since: datetime) -> Restored:
    """What `release` would mark and stop; changes nothing. Raises GateMissing."""
    found = _found()
    for queue in never_twice():
        values = {"since": since, "until": found.until, "held": found.held}
        found.marked[queue.name] = int(
            _ask(_COUNT.format(table=queue.table, maybe=_MAYBE), values)[0][0]
        )
    found.stopped = _stop(since=since, until=found.until, actor="", reason="", dry_run=True)
    return found


def release(
    *,
    since: datetime,
    actor: str,
    reason: str,
    tell: Callable[[int], None] = lambda marked: None,
) -> Restored:
    """Mark what may have been sent since, and open the gate. `tell` hears of each chunk.

    Raises GateMissing, ReasonMissing.
    """
    if not reason.strip():
        raise ReasonMissing("Say why: the audit trail keeps it.")
    was_held = _found().held
    _run(_SHUT, [f"marked by {actor}"])
    found = _found()
    found.held = was_held
    for queue in never_twice():
        found.marked[queue.name] = 0
        for count in _mark(queue, found, since):
            found.marked[queue.name] += count
            tell(count)
    found.stopped = _stop(since=since, until=found.until, actor=actor, reason=reason, dry_run=False)
    _open(found, since=since, actor=actor, reason=reason)
    return found


def _found() -> Restored:
    gate = Gate.objects.using(OPERATOR).filter(pk=GATE).first()
    if gate is None:
        raise GateMissing(
            "jobs_gate has no row: the restore is under way, or did not bring everything. Let it"
            " end, or restore again; then call this again."
        )
    until = gate.held_since or _ask("select clock_timestamp()", {})[0][0]
    return Restored(gate.held_since is not None, gate.held_why, until)


def _mark(queue: Queue, found: Restored, since: datetime) -> Iterator[int]:
    """Each chunk in a transaction of its own, with its counting."""
    statement = _MARK.format(table=queue.table, maybe=_MAYBE, most=CHUNK)
    values: dict[str, Any] = {"since": since, "until": found.until, "held": found.held}
    values |= {"doubt": DOUBT, "after": _NIL}
    while True:
        with transaction.atomic(using=OPERATOR):
            moved = _ask(statement, values)
            moves = [(id_, before, "unknown") for id_, before, _ in moved]
            tallying.tally(queue, moves, OPERATOR)
        yield len(moved)
        if len(moved) < CHUNK:
            return
        values["after"] = max(id_ for id_, _, _ in moved)


def _stop(**given: Any) -> dict[str, int]:
    stopped: dict[str, int] = {}
    for path in settings.SLIPWAY["RESTORED"]:
        restorer: Restorer = import_string(path)
        stopped |= restorer(**given)
    return stopped


def _open(found: Restored, *, since: datetime, actor: str, reason: str) -> None:
    """Let drainers claim, under leases and numbers that nobody bears who was there before.

    Nor does a new tenant get the number of one whom the database has forgotten.
    """
    with transaction.atomic(using=OPERATOR):
        gate = Gate.objects.using(OPERATOR).select_for_update().get(pk=GATE)
        known = max(gate.lease, gate.remembered, int(_ask(_KNOWN, {})[0][0]))
        if gate.lineage is not None:
            known = max(known, recalled(gate.lineage))
        _ask(_ABOVE.format(room=ROOM), {"known": known})
        _ask(_BEYOND.format(room=ROOM), {})
        _run(_OPEN, [_cluster()])
        audit.record(
            actor=actor,
            action="gate.opened",
            target="gate:drainers",
            reason=reason,
            before={"held_since": found.until.isoformat(), "why": found.why},
            after={"since": since.isoformat(), "marked": found.marked, "stopped": found.stopped},
            using=OPERATOR,
        )


def _cluster() -> str:
    """The cluster's name; "" where it cannot be told (jobs.engine.gate)."""
    try:
        with transaction.atomic(using=OPERATOR):
            return str(_ask(CLUSTER, {})[0][0])
    except DatabaseError:
        return ""


def _ask(statement: str, values: Any) -> list[Any]:
    with connections[OPERATOR].cursor() as cursor:
        cursor.execute(statement, values)
        return list(cursor.fetchall())


def _run(statement: str, values: list[Any]) -> None:
    with connections[OPERATOR].cursor() as cursor:
        cursor.execute(statement, values)
