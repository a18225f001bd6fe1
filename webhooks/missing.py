"""Deliveries that should be and are not: events by endpoints that hear them, less those made.

For what was published before its endpoint was there, or while its filter said something else. The
event types and filters are compared as webhooks.fan_out compares them, and what is made here is as
if it had been made there, but runs behind fresh work.
"""

import time
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connections
from django.utils import timezone

from jobs.replaying import COUNTING, MOST_COUNTED, Chunk, Preview
from jobs.selection import Found, Selection
from jobs.states import Priority
from webhooks.policy import scheduled
from webhooks.testing import TYPE as TEST

LOOKED_AT = 2000  # Events in one statement, each by all endpoints.

# Finished deliveries are kept as long as their events (QUEUES["deliveries"]["retention"]); behind
# that time one that was pruned would look as if it had never been.
#
# Ids are made in the moment of publishing: the floor lets the index begin there.
_LOOKED = """
with looked as materialized (
  select e.id, e.tenant_id, e.type, e.created_at, e.kept_payload is not null as kept
  from webhooks_event e where e.tenant_id = %(tenant)s and e.id >= greatest(%(floor)s, %(event)s)
  order by e.id limit {looked_at}
), wanted as materialized (
  select e.id as event_id, w.id as endpoint_id, w.host, w.ordered, e.created_at,
    case when w.disabled_at is null then 'pending' else 'held' end as state,
    coalesce(cardinality(w.schedule) + 1, %(tries)s) as tries
  from looked e join webhooks_endpoint w on w.tenant_id = e.tenant_id
  where w.tenant_id = %(tenant)s and w.deleted_at is null
    and e.created_at >= %(since)s
    and e.created_at >= now() - make_interval(days => %(days)s)
    and (%(until)s::timestamptz is null or e.created_at < %(until)s)
    and (%(type)s = '' or e.type = %(type)s) and e.type <> %(test)s
    and (%(lane)s = '' or 'endpoint:' || w.id = %(lane)s)
    and (e.id, w.id) > (%(event)s, %(endpoint)s)
    and (w.event_types = '{{}}' or exists (
      select from unnest(w.event_types) filter (name) where filter.name = e.type
        or (filter.name like '%%.*' and starts_with(e.type, left(filter.name, -1)))))
    and not exists (select from webhooks_delivery d
      where d.tenant_id = e.tenant_id and d.event_id = e.id and d.endpoint_id = w.id)
    and (e.kept or exists (select from webhooks_payload p
      where p.tenant_id = e.tenant_id and p.event_id = e.id and p.created_at = e.created_at))
  order by e.id, w.id limit %(most)s
)"""

# How many there are, and where the next look goes on: behind the last that was found, or looked at.
_PLACE = """
count(*), case when count(*) = %(most)s then
  (select event_id || '/' || endpoint_id from wanted
   order by event_id desc, endpoint_id desc limit 1)
when (select count(*) from looked) = {looked_at} then
  (select id || '/ffffffff-ffff-ffff-ffff-ffffffffffff' from looked order by id desc limit 1)
end
"""

_COUNT = """
{looked} select {place},
  (select coalesce(json_agg(one order by one.event_id, one.endpoint_id), '[]')
  from (select event_id, endpoint_id, created_at from wanted
        order by event_id, endpoint_id limit %(size)s) one)
from wanted
"""

# Against a change of their order (webhooks.endpoints.change), as webhooks.fan_out does.
_HOLD_ORDER = """
select id from webhooks_endpoint where tenant_id = %(tenant)s and deleted_at is null
order by id for key share
"""
# Numbers of ordered endpoints are drawn as webhooks.fan_out draws them: late events come late. Ids
# are of this moment (RFC 9562, 5.7; rand_a counts: 6.2), as created_at is: webhooks.listing.
_FILL = """
{looked}, locked as materialized (
  select w.id from webhooks_endpoint w
  where w.tenant_id = %(tenant)s
    and w.id in (select endpoint_id from wanted where wanted.ordered)
  order by w.id for no key update
), drawn as (
  update webhooks_endpoint w set next_seq = w.next_seq + n.many
  from (select endpoint_id, count(*) as many from wanted join locked
    on locked.id = wanted.endpoint_id group by endpoint_id) n
  where w.tenant_id = %(tenant)s and w.id = n.endpoint_id
  returning w.id, w.next_seq - n.many as first
), told as (
  insert into webhooks_delivery
    (id, tenant_id, event_id, endpoint_id, lane, host, seq, state, priority, max_attempts)
  select (lpad(to_hex(floor(extract(epoch from now()) * 1000)::bigint), 12, '0') || '7'
      || lpad(to_hex(row_number() over (order by wanted.event_id, wanted.endpoint_id)), 3, '0')
      || right(replace(gen_random_uuid()::text, '-', ''), 16))::uuid, %(tenant)s,
    wanted.event_id, wanted.endpoint_id, 'endpoint:' || wanted.endpoint_id, wanted.host,
    drawn.first - 1
      + row_number() over (partition by wanted.endpoint_id order by wanted.event_id),
    wanted.state, %(priority)s, wanted.tries
  from wanted left join drawn on drawn.id = wanted.endpoint_id
  order by wanted.event_id
  on conflict (tenant_id, event_id, endpoint_id) do nothing
  returning 1
)
select (select count(*) from told), {place} from wanted
"""

_NIL = UUID(int=0)


class Deliveries:
    """Of a selection its tenant, `since`, `until`, `type` and `lane` count: see jobs.replaying."""

    def preview(self, selection: Selection, *, size: int, using: str) -> Preview:
        """How many deliveries are missing; the sample shows the events of the first few."""
        statement = _COUNT.format(**_parts())
        count, place, sample = 0, "", list[Found]()
        ends_at = time.monotonic() + COUNTING
        while place is not None and count < MOST_COUNTED and time.monotonic() < ends_at:
            values = _values(selection, place=place, most=MOST_COUNTED)
            with connections[using].cursor() as cursor:
                cursor.execute(statement, values | {"size": size - len(sample)})
                found, place, few = cursor.fetchone()
            count += found
            sample += [_shown(one) for one in few]
        return Preview(min(count, MOST_COUNTED), sample, place is not None)

    def fill(self, selection: Selection, *, place: str, most: int, using: str) -> Chunk:
        """Make the next of them, in the caller's transaction."""
        values = _values(selection, place=place, most=most) | {"priority": int(Priority.REPLAY)}
        with connections[using].cursor() as cursor:
            cursor.execute(_HOLD_ORDER, values)
            cursor.execute(_FILL.format(**_parts()), values)
            made, found, then = cursor.fetchone()
        return Chunk(made, found - made, then)


def _parts() -> dict[str, str]:
    looked_at = LOOKED_AT
    return {
        "looked": _LOOKED.format(looked_at=looked_at),
        "place": _PLACE.format(looked_at=looked_at),
    }


def _shown(one: dict[str, Any]) -> Found:
    made_at = datetime.fromisoformat(one["created_at"])
    return Found(UUID(one["event_id"]), "missing", f"endpoint:{one['endpoint_id']}", made_at, "")


def _values(selection: Selection, *, place: str, most: int) -> dict[str, Any]:
    days = int(settings.SLIPWAY["RETENTION"]["payloads"])
    oldest = timezone.now() - timedelta(days=days)
    since = max(selection.since or oldest, oldest)  # Year 1 has no day before it.
    event, _, endpoint = place.partition("/")
    return {
        "tenant": selection.tenant_id,
        "since": since,
        "floor": floor(since - timedelta(days=1)),
        "until": selection.until,
        "days": days,
        "type": selection.type,
        "test": TEST,
        "lane": selection.lane,
        "most": most,
        "tries": scheduled(None).attempts,
        "event": UUID(event) if event else _NIL,
        "endpoint": UUID(endpoint) if endpoint else _NIL,
    }


def floor(moment: datetime) -> UUID:
    """Below every UUIDv7 that was made at `moment` or later (RFC 9562, 5.7: milliseconds first)."""
    milliseconds = max(0, int(moment.timestamp() * 1000))
    return UUID(int=milliseconds << 80)
