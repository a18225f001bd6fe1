"""Notices: jobs that tell of dead works and ailing lanes, born in the settling transaction.

A queue names the kind of job ("notice"). Of one settled batch there is one job for each lane and
thing to tell, however many works it is about, with the args

    {queue, lane, what, reason, works: [at most 100 ids], count, begun_at, failing_since, quiet}

`begun_at` is when the last of them was begun: whoever has mended something since knows of it.
`what` is "exhausted" (works became dead letters; `reason` is theirs), "opened" and "recovered" (the
lane's breaker; `reason` is the last error), or the word that an outcome's `notice` asks for.

Of works whose claim is `quiet` (they themselves tell of such things, and must not beget more) only
the outcome's own word is passed on, and said to be quiet: something may have to be done about it.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson
from psycopg import AsyncConnection

from config.ids import uuid7
from jobs.engine import clean
from jobs.engine.health import Change, Lane, lane_of
from jobs.engine.verdict import Settlement
from jobs.registry import Queue
from jobs.registry import kind as kind_named
from jobs.steps import Claim

MOST_NAMED = 100  # Works in one notice.

INSERT = """
insert into jobs_job (id, tenant_id, lane, kind, args, max_attempts)
select * from json_to_recordset(%s::json) j(id uuid, tenant_id bigint, lane text, kind text,
  args jsonb, max_attempts smallint)
"""

Matter = tuple[Lane, str, str, bool]  # The lane, what there is to tell, the reason, quietly?


async def tell(
    connection: AsyncConnection[Any],
    queue: Queue,
    settled: Sequence[Settlement],
    changes: Mapping[Lane, Change],
) -> bool:
    """Queue the notices of a batch that is settled in this transaction; whether there are any."""
    if queue.notice is None:
        return False
    matters: dict[Matter, list[Claim]] = {}
    for one in settled:
        for matter in _matters(one, changes):
            matters.setdefault(matter, []).append(one.claim)
    if not matters:
        return False
    budget = kind_named(queue.notice).policy.attempts
    rows = [
        _job(queue, matter, works, changes.get(matter[0])) | {"max_attempts": budget}
        for matter, works in matters.items()
    ]
    await connection.execute(INSERT, [orjson.dumps(rows).decode()], prepare=False)
    return True


def _matters(one: Settlement, changes: Mapping[Lane, Change]) -> Iterator[Matter]:
    """What there is to tell on account of one work."""
    lane = lane_of(one)
    if one.notice:
        why = clean.text(one.error or "", clean.LAST_ERROR_LENGTH)
        yield lane, one.notice, why, one.quiet
    if one.quiet:
        return
    if one.dead:
        yield lane, "exhausted", str(one.dead), False
    if one.well is not None and (change := changes.get(lane)):
        if change.opened and not one.well:
            yield lane, "opened", change.error, False
        if change.recovered and one.well:
            yield lane, "recovered", "", False


def _job(queue: Queue, matter: Matter, works: list[Claim], change: Change | None) -> dict[str, Any]:
    (tenant_id, lane), what, reason, quiet = matter
    return {
        "id": uuid7(),
        "tenant_id": tenant_id,
        "lane": f"jobs:{tenant_id}",
        "kind": queue.notice,
        "args": {
            "queue": queue.name,
            "lane": lane,
            "what": what,
            "works": [work.id for work in works[:MOST_NAMED]],
            "count": len(works),
            "begun_at": max(work.started_at for work in works),
            "failing_since": change.failing_since if change else None,
            "reason": reason,
            "quiet": quiet,
        },
    }
