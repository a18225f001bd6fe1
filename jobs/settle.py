"""Settling: attempts, next states, dead letters and their audit entries, one transaction a batch.

Every write is fenced by (id, lease): a work that was rescued meanwhile stays as it is. What cannot
be written never blocks what can: refused data splits the batch until the culprit stands alone, and
an attempt that finds no partition is logged instead, while its work moves on.
"""

import json
from collections.abc import Sequence
from datetime import UTC, date
from typing import Any

import psycopg
import structlog
from psycopg import AsyncConnection

from config.ids import uuid7
from jobs import clean
from jobs.link import LOST
from jobs.registry import queue as queue_named
from jobs.states import FINISHED
from jobs.verdict import Settlement, unsettled

log = structlog.get_logger(__name__)

REFUSED = (psycopg.DataError, psycopg.IntegrityError)

SETTLE = """
update {table} w set
  state = g.state,
  due_at = case when g.delay is null then w.due_at
           else now() + make_interval(secs => least(g.delay, 3e9)) end,
  attempts = w.attempts - g.uncounted,
  max_attempts = w.max_attempts + g.lost,
  losses = case when g.lost = 1 then w.losses + 1 when g.uncounted = 1 then w.losses else 0 end,
  priority = case when g.state in ('failed', 'pending') and g.uncounted = 0
             then greatest(w.priority, 1) else w.priority end,
  last_error = coalesce(g.error, w.last_error),
  finished_at = case when g.state in ({finished}) then now() end,
  lease = null, drainer = null
  {patches}
from unnest(%(ids)s::uuid[], %(leases)s::bigint[], %(states)s::text[], %(delays)s::float8[],
            %(errors)s::text[], %(uncounted)s::smallint[], %(lost)s::smallint[],
            %(patches)s::text[])
  g(id, lease, state, delay, error, uncounted, lost, patch)
where w.id = g.id and w.lease = g.lease and w.state in ('processing', 'discarding')
returning g.id, g.lease
"""

ATTEMPTS = """
insert into jobs_attempt
  (id, tenant_id, queue, work_id, number, started_at, duration_ms, outcome, error, request,
   response, drainer)
select * from unnest(%(ids)s::uuid[], %(tenants)s::bigint[], %(queues)s::text[], %(works)s::uuid[],
  %(numbers)s::smallint[], %(started)s::timestamptz[], %(durations)s::int[], %(outcomes)s::text[],
  %(errors)s::text[], %(requests)s::jsonb[], %(responses)s::jsonb[], %(drainers)s::bigint[])
"""

# The entry names the letter's work, as every audit entry about a work does.
LETTERS = """
with letter as (
  insert into jobs_deadletter
    (id, tenant_id, queue, work_id, reason, error, request, response)
  select * from unnest(%(ids)s::uuid[], %(tenants)s::bigint[], %(queues)s::text[],
    %(works)s::uuid[], %(reasons)s::text[], %(errors)s::text[], %(requests)s::jsonb[],
    %(responses)s::jsonb[])
  on conflict do nothing
  returning id, tenant_id, queue, work_id, reason
)
insert into tenants_auditentry
  (id, at, tenant_id, actor, action, target, reason, before, after, request_id)
select entry.id, now(), letter.tenant_id, 'system:engine', 'work.dead_lettered',
  letter.queue || ':' || letter.work_id, letter.reason, '{"state": "processing"}',
  '{"state": "dead_letter"}', ''
from letter join unnest(%(ids)s::uuid[], %(entries)s::uuid[]) entry(letter, id)
  on entry.letter = letter.id
"""

Held = tuple[Any, int]  # A work's id and the lease it was settled under.


async def settle(connection: AsyncConnection[Any], batch: Sequence[Settlement]) -> set[Held]:
    """Write a batch; the (id, lease) of those that were still ours.

    Raises one of link.LOST when the connection is lost or two transactions got in each
    other's way: settle the same batch again then, the fence makes that safe.
    """
    try:
        async with connection.transaction():
            return await _write(connection, batch)
    except LOST:
        raise
    except psycopg.Error as error:
        if len(batch) > 1:
            middle = len(batch) // 2
            first = await settle(connection, batch[:middle])
            return first | await settle(connection, batch[middle:])
        return await _settle_without(connection, batch[0], error)


async def _settle_without(
    connection: AsyncConnection[Any], settlement: Settlement, error: psycopg.Error
) -> set[Held]:
    """Write what can be written of the one whose data was refused."""
    claim, said = settlement.claim, _said(error)
    log.error("settlement_refused", queue=claim.queue, work=str(claim.id), error=said)
    try:
        async with connection.transaction():
            return await _write(connection, [unsettled(settlement, said)])
    except LOST:
        raise
    except psycopg.Error as again:
        # The drainer's sweep hands it back in a minute: it stays work, whatever is wrong here.
        log.critical("settlement_impossible", work=str(claim.id), error=_said(again))
        return set()


def _said(error: psycopg.Error) -> str:
    """The server's sentence without the details, which quote the row."""
    sentence = error.diag.message_primary or type(error).__name__
    return clean.text(sentence, 200).encode("ascii", "replace").decode()


async def _write(connection: AsyncConnection[Any], batch: Sequence[Settlement]) -> set[Held]:
    settled: set[Held] = set()
    for name in sorted({settlement.claim.queue for settlement in batch}):
        of_queue = [settlement for settlement in batch if settlement.claim.queue == name]
        settled |= await _move(connection, name, of_queue)
    ours = [one for one in batch if (one.claim.id, one.claim.lease) in settled]
    if dead := [one for one in ours if one.dead]:
        await _execute(connection, LETTERS, _letter_columns(dead))
    if tried := [one for one in ours if one.came]:
        await _record(connection, tried)
    return settled


async def _move(
    connection: AsyncConnection[Any], name: str, batch: Sequence[Settlement]
) -> set[Held]:
    # Rows are locked in the order of ids, as everywhere.
    rows = sorted(batch, key=lambda one: one.claim.id)
    cursor = await _execute(
        connection,
        settle_statement(name),
        {
            "ids": [one.claim.id for one in rows],
            "leases": [one.claim.lease for one in rows],
            "states": [str(one.state) for one in rows],
            "delays": [one.delay for one in rows],
            "errors": [_last_error(one) for one in rows],
            "uncounted": [0 if one.counted else 1 for one in rows],
            "lost": [1 if one.lost else 0 for one in rows],
            "patches": [_json(one.patch) for one in rows],
        },
    )
    return {(id_, lease) for id_, lease in await cursor.fetchall()}


def settle_statement(name: str) -> str:
    """SETTLE for a queue."""
    queue = queue_named(name)
    # Keys that the patch lacks keep the row's value.
    patches = "".join(
        f', "{column}" = (jsonb_populate_record(w, g.patch::jsonb))."{column}"'
        for column in queue.model.patchable
    )
    finished = ", ".join(f"'{state}'" for state in FINISHED)
    return SETTLE.format(table=queue.table, finished=finished, patches=patches)


async def _record(connection: AsyncConnection[Any], tried: Sequence[Settlement]) -> None:
    """Insert attempts; those that cannot be written go to the log, and block nothing."""
    try:
        async with connection.transaction():
            await _execute(connection, ATTEMPTS, _attempt_columns(tried))
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


def _attempt_columns(tried: Sequence[Settlement]) -> dict[str, list[Any]]:
    return {
        "ids": [uuid7() for _ in tried],
        "tenants": [one.claim.tenant_id for one in tried],
        "queues": [one.claim.queue for one in tried],
        "works": [one.claim.id for one in tried],
        "numbers": [one.claim.attempt for one in tried],
        "started": [one.claim.started_at for one in tried],
        "durations": [one.duration_ms for one in tried],
        "outcomes": [str(one.came) for one in tried],
        "errors": [clean.text(one.error or "", clean.ATTEMPT_ERROR_LENGTH) for one in tried],
        "requests": [_request(one) for one in tried],
        "responses": [_response(one) for one in tried],
        "drainers": [one.claim.drainer for one in tried],
    }


def _letter_columns(dead: Sequence[Settlement]) -> dict[str, list[Any]]:
    return {
        "ids": [uuid7() for _ in dead],
        "entries": [uuid7() for _ in dead],
        "tenants": [one.claim.tenant_id for one in dead],
        "queues": [one.claim.queue for one in dead],
        "works": [one.claim.id for one in dead],
        "reasons": [str(one.dead) for one in dead],
        "errors": [_last_error(one) for one in dead],
        "requests": [_request(one) for one in dead],
        "responses": [_response(one) for one in dead],
    }


def _last_error(one: Settlement) -> str | None:
    return None if one.error is None else clean.text(one.error, clean.LAST_ERROR_LENGTH)


def _request(one: Settlement) -> str | None:
    return _json(clean.json(one.exchange.request)) if one.exchange else None


def _response(one: Settlement) -> str | None:
    return _json(clean.json(one.exchange.response)) if one.exchange else None


def _json(value: Any) -> str | None:
    return None if value is None else json.dumps(value)


async def _execute(connection: AsyncConnection[Any], statement: str, values: dict[str, Any]) -> Any:
    return await connection.execute(statement, values, prepare=False)
