"""Settling: attempts, next states, dead letters, lanes and notices, one transaction a batch.

Every write is fenced by (id, lease): a work that was rescued meanwhile stays as it is. What cannot
be written never blocks what can: refused data splits the batch until the culprit stands alone, and
an attempt that finds no partition is logged instead, while its work moves on.
"""

from collections.abc import Sequence
from datetime import UTC, date
from typing import Any

import orjson
import psycopg
import structlog
from psycopg import AsyncConnection

from config.ids import uuid7
from jobs import hints, tallying
from jobs.engine import clean, health, notices
from jobs.engine.link import LOST
from jobs.engine.verdict import Settlement, unsettled
from jobs.models import Attempt
from jobs.registry import queue as queue_named
from jobs.states import FINISHED, State

log = structlog.get_logger(__name__)

PROCESSING, DISCARDING = State.PROCESSING, State.DISCARDING
REFUSED = (psycopg.DataError, psycopg.IntegrityError)
# Operational errors that the batch itself may be the cause of: the same batch would meet them for
# ever. The connection is none the worse for them.
OVERDONE = (
    psycopg.errors.ProgramLimitExceeded,
    psycopg.errors.StatementTooComplex,
    psycopg.errors.QueryCanceled,  # statement_timeout, or somebody's pg_cancel_backend.
    psycopg.errors.OutOfMemory,
)
PATIENCE = 3  # Tries at a settlement alone that meets one of these: the server may be at fault too.

SETTLE = """
update {table} w set
  state = g.state,
  due_at = case when g.delay is null then w.due_at
           else now() + make_interval(secs => least(g.delay, 3e9)) end,
  attempts = w.attempts - g.uncounted,
  max_attempts = coalesce(g.most, w.max_attempts + g.lost),
  forgiven = w.forgiven + g.lost,
  throttled_since = case when g.throttled then coalesce(w.throttled_since, now())
                    else w.throttled_since end,
  -- Handed back, it was not begun; snoozed, no drainer died of it.
  losses = case when g.lost = 1 then w.losses + 1
           when g.uncounted = 1 and g.error is null then w.losses else 0 end,
  priority = case when g.state in ('failed', 'pending') and g.uncounted = 0
             then greatest(w.priority, 1) else w.priority end,
  last_error = coalesce(g.error, w.last_error),
  finished_at = case when g.state in ({finished}) then now() end,
  lease = null, drainer = null
  {patches}
from json_to_recordset(%s::json) g(id uuid, lease bigint, state text, delay float8, error text,
  uncounted smallint, lost smallint, most smallint, throttled boolean, patch jsonb)
where w.id = g.id and w.lease = g.lease and w.state in ('processing', 'discarding')
returning g.id, g.lease
"""

ATTEMPTS = """
insert into jobs_attempt
  (id, tenant_id, queue, work_id, number, started_at, duration_ms, outcome, error, request,
   response, drainer)
select * from json_to_recordset(%s::json) a(id uuid, tenant_id bigint, queue text, work_id uuid,
  number smallint, started_at timestamptz, duration_ms int, outcome text, error text,
  request jsonb, response jsonb, drainer bigint)
"""

# An audit entry names the letter's work, as every entry about a work does.
LETTERS = """
with given as materialized (
  select * from json_to_recordset(%s::json) g(id uuid, entry uuid, tenant_id bigint, queue text,
    work_id uuid, reason text, error text, request jsonb, response jsonb)
),
letter as (
  insert into jobs_deadletter
    (id, tenant_id, queue, work_id, reason, error, request, response)
  select id, tenant_id, queue, work_id, reason, error, request, response from given
  on conflict do nothing
  returning id
)
insert into tenants_auditentry
  (id, at, tenant_id, actor, action, target, reason, before, after, request_id)
select entry, now(), tenant_id, 'system:engine', 'work.dead_lettered', queue || ':' || work_id,
  reason, '{"state": "processing"}', '{"state": "dead_letter"}', ''
from letter join given using (id)
"""

Held = tuple[Any, int]  # A work's id and the lease it was settled under.


async def settle(
    connection: AsyncConnection[Any], batch: Sequence[Settlement], *, nth: int = 1
) -> set[Held]:
    """Write a batch; the (id, lease) of those that were still ours.

    Raises one of link.LOST when the connection is lost or two transactions got in each
    other's way: settle the same batch again then, the fence makes that safe. What the batch itself
    may have caused (OVERDONE) splits it, as refused data does.
    """
    try:
        return await _commit(connection, batch)
    except psycopg.Error as error:
        if _is_passing(error):
            raise
        if len(batch) > 1:
            middle = len(batch) // 2
            first = await settle(connection, batch[:middle])
            return first | await settle(connection, batch[middle:])
        if isinstance(error, OVERDONE) and nth < PATIENCE:
            return await settle(connection, batch, nth=nth + 1)
        return await _settle_without(connection, batch[0], error)


async def _settle_without(
    connection: AsyncConnection[Any], settlement: Settlement, error: psycopg.Error
) -> set[Held]:
    """Write what can be written of the one whose data was refused."""
    claim, said = settlement.claim, _said(error)
    log.error("settlement_refused", queue=claim.queue, work=str(claim.id), error=said)
    try:
        queue = queue_named(claim.queue)
        return await _commit(connection, [unsettled(settlement, said, queue=queue)])
    except psycopg.Error as again:
        if _is_passing(again):
            raise
        # The drainer's sweep closes it as lost in a minute: it stays work, whatever is wrong here.
        log.critical("settlement_impossible", work=str(claim.id), error=_said(again))
        return set()


def _is_passing(error: psycopg.Error) -> bool:
    """Whether the same batch may get through the next time."""
    return isinstance(error, LOST) and not isinstance(error, OVERDONE)


def _said(error: psycopg.Error) -> str:
    """The server's sentence without the details, which quote the row."""
    sentence = error.diag.message_primary or type(error).__name__
    return clean.text(sentence, 200).encode("ascii", "replace").decode()


async def _commit(connection: AsyncConnection[Any], batch: Sequence[Settlement]) -> set[Held]:
    async with connection.transaction():
        batch = await health.spare(connection, batch)
        settled: set[Held] = set()
        for name in sorted({one.claim.queue for one in batch}):
            of_queue = [one for one in batch if one.claim.queue == name]
            settled |= await _move(connection, name, of_queue)
        ours = [one for one in batch if (one.claim.id, one.claim.lease) in settled]
        await _write(connection, ours)
        told = await _tell(connection, ours)
        told |= await _count(connection, ours)
    if told:
        hints.send("jobs")
    return settled


async def _tell(connection: AsyncConnection[Any], ours: Sequence[Settlement]) -> bool:
    """Write what the batch says of its lanes, and notices; whether there are any notices."""
    told = False
    for name in sorted({one.claim.queue for one in ours}):
        queue = queue_named(name)
        of_queue = [one for one in ours if one.claim.queue == name]
        changes = await health.watch(connection, queue, of_queue)
        told |= await notices.tell(connection, queue, of_queue, changes)
    return told


async def _count(connection: AsyncConnection[Any], ours: Sequence[Settlement]) -> bool:
    """Have the moves counted where somebody counts them; whether jobs came of it."""
    told = False
    for name in sorted({one.claim.queue for one in ours}):
        moves = [
            (
                one.claim.id,
                State.DISCARDING if one.claim.discarding else State.PROCESSING,
                one.state,
            )
            for one in ours
            if one.claim.queue == name
        ]
        told |= await tallying.count(connection, queue_named(name), moves)
    return told


async def _write(connection: AsyncConnection[Any], ours: Sequence[Settlement]) -> None:
    if dead := [one for one in ours if one.dead]:
        await _execute(connection, LETTERS, [_letter(one) for one in dead])
    if tried := [one for one in ours if one.came]:
        await _record(connection, tried)


async def _move(
    connection: AsyncConnection[Any], name: str, batch: Sequence[Settlement]
) -> set[Held]:
    # Rows are locked in the order of ids, as everywhere.
    rows = [_row(one) for one in sorted(batch, key=lambda one: one.claim.id)]
    cursor = await _execute(connection, settle_statement(name), rows)
    return {(id_, lease) for id_, lease in await cursor.fetchall()}


def settle_statement(name: str) -> str:
    """SETTLE for a queue."""
    queue = queue_named(name)
    # Keys that the patch lacks keep the row's value.
    patches = "".join(
        f', "{column}" = (jsonb_populate_record(w, g.patch))."{column}"'
        for column in queue.model.patchable
    )
    finished = ", ".join(f"'{state}'" for state in FINISHED)
    return SETTLE.format(table=queue.table, finished=finished, patches=patches)


async def _record(connection: AsyncConnection[Any], tried: Sequence[Settlement]) -> None:
    """Insert attempts; those that cannot be written go to the log, and block nothing."""
    try:
        async with connection.transaction():
            await _execute(connection, ATTEMPTS, [_attempt(one) for one in tried])
    except REFUSED as error:
        parts = _parts(tried, error)
        if len(parts) > 1:
            for part in parts:
                await _record(connection, part)
            return
        for one in tried:
            log.error(
                "attempt_unwritten",
                queue=one.claim.queue,
                work=str(one.claim.id),
                number=one.claim.attempt,
                outcome=str(one.came),
                error=_said(error),
            )


def _parts(tried: Sequence[Settlement], error: psycopg.Error) -> list[Sequence[Settlement]]:
    """What to try apart from each other; one part when that would change nothing."""
    if isinstance(error, psycopg.errors.CheckViolation):  # A day has no partition.
        days: dict[date, list[Settlement]] = {}
        for one in tried:
            days.setdefault(one.claim.started_at.astimezone(UTC).date(), []).append(one)
        return list(days.values())
    middle = len(tried) // 2
    return [part for part in (tried[:middle], tried[middle:]) if part]


def _row(one: Settlement) -> dict[str, Any]:
    return {
        "id": one.claim.id,
        "lease": one.claim.lease,
        "state": one.state,
        "delay": one.delay,
        "error": _last_error(one),
        "uncounted": 0 if one.counted else 1,
        "lost": 1 if one.lost else 0,
        "most": one.most,
        "throttled": one.came == Attempt.Came.THROTTLED,
        "patch": _encoded(one.patch),
    }


def _attempt(one: Settlement) -> dict[str, Any]:
    return {
        "id": uuid7(),
        "tenant_id": one.claim.tenant_id,
        "queue": one.claim.queue,
        "work_id": one.claim.id,
        "number": one.claim.attempt,
        "started_at": one.claim.started_at,
        "duration_ms": one.duration_ms,
        "outcome": one.came,
        "error": clean.text(one.error or "", clean.ATTEMPT_ERROR_LENGTH),
        "drainer": one.claim.drainer,
        **_exchange(one),
    }


def _letter(one: Settlement) -> dict[str, Any]:
    return {
        "id": uuid7(),
        "entry": uuid7(),
        "tenant_id": one.claim.tenant_id,
        "queue": one.claim.queue,
        "work_id": one.claim.id,
        "reason": one.dead,
        "error": _last_error(one),
        **_exchange(one),
    }


def _last_error(one: Settlement) -> str | None:
    return None if one.error is None else clean.text(one.error, clean.LAST_ERROR_LENGTH)


def _exchange(one: Settlement) -> dict[str, Any]:
    return {"request": _encoded(one.request), "response": _encoded(one.response)}


def _encoded(document: bytes | None) -> orjson.Fragment | None:
    return None if document is None else orjson.Fragment(document)


async def _execute(
    connection: AsyncConnection[Any], statement: str, rows: Sequence[dict[str, Any]]
) -> Any:
    # One JSON document: psycopg's arrays of text cost more than everything else here together.
    return await connection.execute(statement, [orjson.dumps(rows).decode()], prepare=False)
