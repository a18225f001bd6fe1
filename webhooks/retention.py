"""How long what events say is kept, and by what.

A payload lives in the partition of its day. Before the day is dropped, what an unfinished or dead
delivery may still have to send is copied into its event (`kept_payload`); when the last of these is
finished or resolved, the next pruning takes the copy, and the event with its last delivery.
"""

from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from uuid import UUID

from django.db import connections

from jobs.pruning import OPERATOR, Sort

AT_ONCE = 5000  # Payloads looked at in one transaction.

_STILL_NEEDED = """
exists (select from webhooks_delivery d where d.tenant_id = {event}.tenant_id
  and d.event_id = {event}.id and d.state not in ('succeeded', 'discarded', 'cancelled'))
"""
_OF_THE_DAY = "p.created_at >= %(start)s and p.created_at < %(end)s"

_KEEP = """
with looked as materialized (
  select p.tenant_id, p.event_id, p.created_at from webhooks_payload p
  where {day} and (p.tenant_id, p.event_id) > (%(tenant)s, %(event)s)
  order by p.tenant_id, p.event_id limit {most}
),
kept as (
  update webhooks_event e set kept_payload = p.data
  from looked join webhooks_payload p using (tenant_id, event_id, created_at)
  where e.tenant_id = looked.tenant_id and e.id = looked.event_id and e.kept_payload is null
    and {needed}
)
select tenant_id, event_id from looked order by tenant_id desc, event_id desc limit 1
"""

_FORGOTTEN = """
select exists (
  select from webhooks_payload p
  join webhooks_event e on e.tenant_id = p.tenant_id and e.id = p.event_id
  where {day} and e.kept_payload is null and {needed})
"""

# A copy that nobody needs any more.
KEPT_PAYLOADS = Sort(
    "kept_payloads",
    "webhooks_event",
    "payloads",
    "created_at",
    "r.created_at < %(before)s and r.kept_payload is not null"
    f" and not {_STILL_NEEDED.format(event='r')}",
    forget="kept_payload = null",
)
# An event whose deliveries are pruned, or that had none.
EVENTS = Sort(
    "events",
    "webhooks_event",
    "payloads",
    "created_at",
    "r.created_at < %(before)s and not exists (select from webhooks_delivery d"
    " where d.tenant_id = r.tenant_id and d.event_id = r.id)",
)


def keep_needed(day: date) -> bool:
    """Copy what deliveries still need of a day's payloads; whether all of it was.

    Runs as the operator: the owner, who drops the partition, sees no tenant's rows.
    """
    start = datetime.combine(day, time(), UTC)
    values: dict[str, Any] = {"start": start, "end": start + timedelta(days=1)}
    place: tuple[int, UUID] | None = (0, UUID(int=0))
    parts = {"day": _OF_THE_DAY, "needed": _STILL_NEEDED.format(event="e"), "most": AT_ONCE}
    with connections[OPERATOR].cursor() as cursor:
        while place is not None:
            cursor.execute(_KEEP.format(**parts), values | {"tenant": place[0], "event": place[1]})
            place = cursor.fetchone()
        cursor.execute(_FORGOTTEN.format(**parts), values)
        return not cursor.fetchone()[0]
