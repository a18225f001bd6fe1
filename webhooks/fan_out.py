"""The one statement that writes events, what they say, and their deliveries."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from django.db import connections

from webhooks.policy import scheduled

# The conflict is named by its columns: another one, a used id, must not pass for a repetition. The
# tenant is everywhere, although RLS would see to it: the operator's alias passes by RLS.
#
# A delivery's id is a UUID of version 7 too. Its moment is the chunk's, and then comes the event's
# place in it (12 bits), so that a lane runs in the order of publishing.
#
# What an event says lies in its day's partition. On a day that has none the event keeps it itself,
# as it does when a partition is dropped: the deed that it tells of goes on.
#
# An ordered endpoint's row is locked until the caller commits: whoever commits first has drawn the
# lower numbers, and what it waited for says whether the endpoint is disabled by now. All others are
# locked against one change alone, that of their order (webhooks.endpoints.change): what is numbered
# then is all that was published before. Endpoints are locked in the order of their ids, before
# anything else of theirs.
# slipway.tell_platform does the same for the platform's.
_STATEMENT = """
with given as materialized (
  select g.*
  from unnest(
    %(ids)s::uuid[], %(types)s::text[], %(versions)s::smallint[], %(keys)s::text[],
    %(fingerprints)s::text[], %(data)s::text[], %(names)s::text[]
  ) with ordinality as g (id, type, version, key, fingerprint, data, names, place)
), today as materialized (
  select slipway.has_partition('public.webhooks_payload', now()) as there
), new as (
  insert into webhooks_event
    (id, tenant_id, type, version, idempotency_key, fingerprint, kept_payload)
  select g.id, %(tenant)s::bigint, g.type, g.version, g.key, g.fingerprint,
         case when not today.there then g.data end
  from given g, today order by g.place
  on conflict (tenant_id, idempotency_key) where idempotency_key is not null do nothing
  returning id, created_at
), kept as (
  insert into webhooks_payload (event_id, tenant_id, created_at, data)
  select new.id, %(tenant)s::bigint, new.created_at, given.data
  from new join given using (id), today where today.there
), heard as materialized (
  select w.id, w.host, w.ordered, w.event_types, w.disabled_at, w.schedule
  from webhooks_endpoint w
  where w.tenant_id = %(tenant)s::bigint and w.deleted_at is null
    and (w.event_types = '{}' or w.event_types && %(heard)s::varchar[])
  order by w.id for key share
), wanted as materialized (
  select given.id as event_id, given.place, w.id as endpoint_id, w.host, w.ordered,
         case when w.disabled_at is null then 'pending' else 'held' end as state,
         coalesce(cardinality(w.schedule) + 1, %(tries)s::integer) as tries
  from new join given using (id)
  join heard w on w.event_types = '{}' or w.event_types && given.names::varchar[]
), locked as materialized (
  select w.id, case when w.disabled_at is null then 'pending' else 'held' end as state
  from webhooks_endpoint w
  where w.tenant_id = %(tenant)s::bigint
    and w.id in (select endpoint_id from wanted where wanted.ordered)
  order by w.id for no key update
), drawn as (
  update webhooks_endpoint w set next_seq = w.next_seq + n.many
  from (
    select endpoint_id, count(*) as many
    from wanted join locked on locked.id = wanted.endpoint_id group by endpoint_id
  ) n
  where w.tenant_id = %(tenant)s::bigint and w.id = n.endpoint_id
  returning w.id, w.next_seq - n.many as first
), told as (
  insert into webhooks_delivery
    (id, tenant_id, event_id, endpoint_id, lane, host, seq, state, max_attempts)
  select (%(moment)s::text || lpad(to_hex(wanted.place), 3, '0')
            || right(gen_random_uuid()::text, 18))::uuid,
         %(tenant)s::bigint, wanted.event_id, wanted.endpoint_id,
         'endpoint:' || wanted.endpoint_id, wanted.host,
         drawn.first - 1
           + row_number() over (partition by wanted.endpoint_id order by wanted.place),
         coalesce(locked.state, wanted.state), wanted.tries
  from wanted left join drawn on drawn.id = wanted.endpoint_id
  left join locked on locked.id = wanted.endpoint_id
  order by wanted.place
  returning event_id
)
select new.id, new.created_at, count(told.event_id)
from new left join told on told.event_id = new.id
group by new.id, new.created_at
"""
_TELL_PLATFORM = """
select slipway.tell_platform(
  %(ids)s::uuid[], %(types)s::text[], %(data)s::jsonb[], %(moment)s::text, %(tries)s::integer
)
"""
MOST = 2_000  # Events in one statement; 4,095 have a place.
# Deliveries in one statement, about: a quarter of a second's, of the 5 s that the app role has.
ROWS = 5_000
UNCOUNTED = 100  # So few events are written without asking how many listen.
# Events in one statement: a tenant cannot ask how many of the platform's endpoints listen.
_TO_PLATFORM = 100
_LISTENING = """
select count(*) from webhooks_endpoint
where tenant_id = %(tenant)s::bigint and deleted_at is null
"""
# That a delivery's event and endpoint are its tenant's is checked by the commit, 20 microseconds
# each; with hundreds of thousands the commit would take longer than a statement may.
_CHECK_AT_ONCE = """
set constraints public.webhooks_delivery_event_same_tenant,
                public.webhooks_delivery_endpoint_same_tenant immediate
"""


@dataclass(frozen=True, slots=True)
class Row:
    """An event as it is written."""

    id: UUID
    type: str
    version: int | None  # Of its type in the catalogue.
    key: str | None
    fingerprint: str
    data: str  # JSON.


class Chunk(NamedTuple):
    """What one statement writes."""

    rows: Sequence[Row]
    moment: str  # With which its deliveries' ids begin: 48 bits of time, and the version.


class Written(NamedTuple):
    """What became of it."""

    created_at: datetime
    deliveries: int


def chunks(rows: Sequence[Row], *, tenant_id: int, using: str) -> Iterator[Chunk]:
    """The events, as many at a time as one statement may write: events times endpoints is bounded.

    Asks once how many listen. Of more than one chunk each statement checks its own deliveries.
    """
    size = MOST
    if len(rows) > UNCOUNTED:
        with connections[using].cursor() as cursor:
            cursor.execute(_LISTENING, {"tenant": tenant_id})
            size = max(1, min(MOST, ROWS // max(1, cursor.fetchone()[0])))
            if len(rows) > size:
                cursor.execute(_CHECK_AT_ONCE)
    yield from _cut(rows, size)


def _cut(rows: Sequence[Row], size: int) -> Iterator[Chunk]:
    """A millisecond on for each chunk, so that its deliveries lie behind the former one's.

    Writing one takes longer: no other call will have begun before.
    """
    for number, start in enumerate(range(0, len(rows), size)):
        moment = f"{(rows[0].id.int >> 80) + number:012x}"
        yield Chunk(rows[start : start + size], f"{moment[:8]}-{moment[8:]}-7")


def fan_out(chunk: Chunk, *, tenant_id: int, using: str) -> Mapping[UUID, Written]:
    """Write the events and tell the tenant's endpoints, in the order given.

    An event whose key was used before is not written, and is absent from the answer.
    """
    rows = chunk.rows
    columns = _columns(chunk) | {
        "versions": [row.version for row in rows],
        "keys": [row.key for row in rows],
        "fingerprints": [row.fingerprint for row in rows],
        "names": [_names(row.type) for row in rows],
        "heard": sorted({name for row in rows for name in _heard(row.type)}),
        "tenant": tenant_id,
    }
    with connections[using].cursor() as cursor:
        cursor.execute(_STATEMENT, columns)
        return {event: Written(at, told) for event, at, told in cursor.fetchall()}


def tell_platform(rows: Sequence[Row], *, using: str) -> int:
    """Write events of the current tenant as the platform's too; how many deliveries that makes."""
    told = 0
    with connections[using].cursor() as cursor:
        for chunk in _cut(rows, _TO_PLATFORM):
            cursor.execute(_TELL_PLATFORM, _columns(chunk))
            told += cursor.fetchone()[0]
    return told


def _columns(chunk: Chunk) -> dict[str, Any]:
    return {
        "ids": [row.id for row in chunk.rows],
        "types": [row.type for row in chunk.rows],
        "data": [row.data for row in chunk.rows],
        "tries": scheduled(None).attempts,
        "moment": chunk.moment,
    }


def _names(type: str) -> str:
    """What an endpoint's filter may say to hear of a type, as an array's text: {a.b.c,a.*,a.b.*}.

    No part of a type needs quoting there.
    """
    return f"{{{','.join(_heard(type))}}}"


def _heard(type: str) -> list[str]:
    parts = type.split(".")
    return [type, *(".".join(parts[:count]) + ".*" for count in range(1, len(parts)))]
