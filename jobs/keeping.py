"""What an open dead letter keeps of its attempts, when the day they were made on is dropped.

Whoever resolves it wants to know what was tried, however long ago that was. The copies go with the
letter.
"""

from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from uuid import UUID

from django.db import connections

from jobs.models import Attempt, DeadLetter

OPERATOR = "operator"
AT_ONCE = 500  # Letters in one transaction.
MOST = 100  # Attempts of one letter, the last ones: each may hold 64 KiB of an answer.

_KEEP = """
with looked as materialized (
  select l.id, l.tenant_id, l.queue, l.work_id, l.attempts from jobs_deadletter l
  where l.resolved_at is null and l.id > %(letter)s order by l.id limit {at_once}
),
told as (
  select l.id, jsonb_agg(to_jsonb(a) - array['tenant_id', 'queue', 'work_id'] order by a.id) as more
  from looked l join jobs_attempt a
    on a.tenant_id = l.tenant_id and a.work_id = l.work_id and a.queue = l.queue
  where a.started_at >= %(start)s and a.started_at < %(end)s
    and not l.attempts @> jsonb_build_array(jsonb_build_object('id', a.id))
  group by l.id
),
kept as (
  update jobs_deadletter l set attempts = (
    select jsonb_agg(one order by place) from jsonb_array_elements(l.attempts || told.more)
      with ordinality every(one, place)
    where place > jsonb_array_length(l.attempts || told.more) - {most})
  from told where l.id = told.id
)
select id from looked order by id desc limit 1
"""


def keep_attempts(day: date) -> bool:
    """Copy a day's attempts into the open letters that they are about; the day may go then."""
    start = datetime.combine(day, time(), UTC)
    values: dict[str, Any] = {"start": start, "end": start + timedelta(days=1)}
    statement = _KEEP.format(at_once=AT_ONCE, most=MOST)
    place: UUID | None = UUID(int=0)
    with connections[OPERATOR].cursor() as cursor:
        while place is not None:
            cursor.execute(statement, values | {"letter": place})
            place = next(iter(cursor.fetchone() or ()), None)
    return True


def kept(letter: DeadLetter) -> list[Attempt]:
    """The attempts that a letter keeps, the first one first."""
    return [_attempt(letter, one) for one in letter.attempts]


def _attempt(letter: DeadLetter, one: dict[str, Any]) -> Attempt:
    read = {"id": UUID(one["id"]), "started_at": datetime.fromisoformat(one["started_at"])}
    whose = {"tenant_id": letter.tenant_id, "queue": letter.queue, "work_id": letter.work_id}
    return Attempt(**(one | read | whose))
