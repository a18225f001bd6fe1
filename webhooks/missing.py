"""Deliveries that should be and are not: events by endpoints that hear them, less those made.

For what was published before its endpoint was there, or while its filter said something else. The
event types and filters are compared as webhooks.fan_out compares them, and what is made here is as
if it had been made there, but runs behind fresh work.
"""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connections
from django.utils import timezone

from jobs.replaying import Chunk, Preview
from jobs.selection import Found, Selection
from jobs.states import Priority
from webhooks.policy import scheduled
from webhooks.testing import TYPE as TEST

# Finished deliveries are kept as long as their events (QUEUES["deliveries"]["retention"]); behind
# that time one that was pruned would look as if it had never been.
#
# Ids are made in the moment of publishing: the floor lets the index begin there.
_MISSING = """
from webhooks_event e join webhooks_endpoint w on w.tenant_id = e.tenant_id
where e.tenant_id = %(tenant)s and w.deleted_at is null
  and e.id >= %(floor)s and e.created_at >= %(since)s
  and e.created_at >= now() - make_interval(days => %(days)s)
  and (%(until)s::timestamptz is null or e.created_at < %(until)s)
  and (%(type)s = '' or e.type = %(type)s) and e.type <> %(test)s
  and (%(lane)s = '' or 'endpoint:' || w.id = %(lane)s)
  and (e.id, w.id) > (%(event)s, %(endpoint)s)
  and (w.event_types = '{}' or exists (
    select from unnest(w.event_types) filter (name) where filter.name = e.type
      or (filter.name like '%%.*' and starts_with(e.type, left(filter.name, -1)))))
  and not exists (select from webhooks_delivery d
    where d.tenant_id = e.tenant_id and d.event_id = e.id and d.endpoint_id = w.id)
  and (e.kept_payload is not null or exists (select from webhooks_payload p
    where p.tenant_id = e.tenant_id and p.event_id = e.id and p.created_at = e.created_at))
"""

_COUNT = "select count(*) {missing}"
_SAMPLE = "select e.id, w.id, e.created_at {missing} order by e.id, w.id limit %(most)s"

# Numbers of ordered endpoints are drawn as webhooks.fan_out draws them: late events come late.
_FILL = """
with wanted as materialized (
  select e.id as event_id, w.id as endpoint_id, w.host, w.ordered,
    case when w.disabled_at is null then 'pending' else 'held' end as state,
    coalesce(cardinality(w.schedule) + 1, %(tries)s) as tries
  {missing} order by e.id, w.id limit %(most)s
), locked as materialized (
  select w.id from webhooks_endpoint w
  where w.tenant_id = %(tenant)s
    and w.id in (select endpoint_id from wanted where wanted.ordered)
  order by w.id for update
), drawn as (
  update webhooks_endpoint w set next_seq = w.next_seq + n.many
  from (select endpoint_id, count(*) as many from wanted join locked
    on locked.id = wanted.endpoint_id group by endpoint_id) n
  where w.tenant_id = %(tenant)s and w.id = n.endpoint_id
  returning w.id, w.next_seq - n.many as first
), told as (
  insert into webhooks_delivery
    (id, tenant_id, event_id, endpoint_id, lane, host, seq, state, priority, max_attempts)
  select (left(wanted.event_id::text, 18) || right(gen_random_uuid()::text, 18))::uuid, %(tenant)s,
    wanted.event_id, wanted.endpoint_id, 'endpoint:' || wanted.endpoint_id, wanted.host,
    drawn.first - 1
      + row_number() over (partition by wanted.endpoint_id order by wanted.event_id),
    wanted.state, %(priority)s, wanted.tries
  from wanted left join drawn on drawn.id = wanted.endpoint_id
  order by wanted.event_id
  on conflict (tenant_id, event_id, endpoint_id) do nothing
  returning 1
)
select (select count(*) from told), count(*),
  (select event_id || '/' || endpoint_id from wanted
   order by event_id desc, endpoint_id desc limit 1)
from wanted
"""

_NIL = UUID(int=0)


class Deliveries:
    """Of a selection its tenant, `since`, `until`, `type` and `lane` count: see jobs.replaying."""

    def preview(self, selection: Selection, *, size: int, using: str) -> Preview:
        """How many deliveries are missing; the sample shows the events of the first few."""
        with connections[using].cursor() as cursor:
            cursor.execute(_COUNT.format(missing=_MISSING), _values(selection))
            count = int(cursor.fetchone()[0])
            cursor.execute(_SAMPLE.format(missing=_MISSING), _values(selection) | {"most": size})
            sample = [
                Found(event, "missing", f"endpoint:{endpoint}", at, "")
                for event, endpoint, at in cursor.fetchall()
            ]
        return Preview(count, sample)

    def fill(self, selection: Selection, *, place: str, most: int, using: str) -> Chunk:
        """Make the next of them, in the caller's transaction."""
        values = _values(selection, place=place) | {
            "most": most,
            "tries": scheduled(None).attempts,
            "priority": int(Priority.REPLAY),
        }
        with connections[using].cursor() as cursor:
            cursor.execute(_FILL.format(missing=_MISSING), values)
            made, found, last = cursor.fetchone()
        return Chunk(made, found - made, last if found == most else None)


def _values(selection: Selection, *, place: str = "") -> dict[str, Any]:
    days = int(settings.SLIPWAY["RETENTION"]["payloads"])
    oldest = timezone.now() - timedelta(days=days)
    since = max(selection.since or oldest, oldest)  # Year 1 has no day before it.
    event, _, endpoint = place.partition("/")
    return {
        "tenant": selection.tenant_id,
        "since": since,
        "floor": _floor(since - timedelta(days=1)),
        "until": selection.until,
        "days": days,
        "type": selection.type,
        "test": TEST,
        "lane": selection.lane,
        "event": UUID(event) if event else _NIL,
        "endpoint": UUID(endpoint) if endpoint else _NIL,
    }


def _floor(moment: datetime) -> UUID:
    """Below every UUIDv7 that was made at `moment` or later (RFC 9562, 5.7: milliseconds first)."""
    milliseconds = max(0, int(moment.timestamp() * 1000))
    return UUID(int=milliseconds << 80)
