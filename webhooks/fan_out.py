"""The one statement that writes events, what they say, and their deliveries."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from django.db import connections

from webhooks.policy import scheduled

# The conflict is named by its columns: another one, a used id, must not pass for a repetition. The
# tenant is everywhere, although RLS would see to it: the operator's alias passes by RLS.
#
# A delivery's id is a UUID of version 7 too. Its moment is the first event's, and then comes the
# event's place (12 bits), so that a lane runs in the order of publishing.
#
# An ordered endpoint's row is locked until the caller commits: whoever commits first has drawn the
# lower numbers. Endpoints are locked in the order of their ids, as everywhere.
# slipway.tell_platform does the same for the platform's.
_STATEMENT = """
with given as materialized (
  select g.*
  from unnest(
    %(ids)s::uuid[], %(types)s::text[], %(versions)s::smallint[], %(keys)s::text[],
    %(fingerprints)s::text[], %(data)s::text[], %(names)s::text[]
  ) with ordinality as g (id, type, version, key, fingerprint, data, names, place)
), new as (
  insert into webhooks_event (id, tenant_id, type, version, idempotency_key, fingerprint)
  select id, %(tenant)s::bigint, type, version, key, fingerprint from given order by place
  on conflict (tenant_id, idempotency_key) do nothing
  returning id, created_at
), kept as (
  insert into webhooks_payload (event_id, tenant_id, created_at, data)
  select new.id, %(tenant)s::bigint, new.created_at, given.data from new join given using (id)
), wanted as materialized (
  select given.id as event_id, given.place, w.id as endpoint_id, w.host, w.ordered,
         case when w.disabled_at is null then 'pending' else 'held' end as state,
         coalesce(cardinality(w.schedule) + 1, %(tries)s::integer) as tries
  from new join given using (id)
  join webhooks_endpoint w on w.tenant_id = %(tenant)s::bigint and w.deleted_at is null
   and (w.event_types = '{}' or w.event_types && given.names::varchar[])
), locked as materialized (
  select w.id from webhooks_endpoint w
  where w.tenant_id = %(tenant)s::bigint
    and w.id in (select endpoint_id from wanted where wanted.ordered)
  order by w.id for update
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
         wanted.state, wanted.tries
  from wanted left join drawn on drawn.id = wanted.endpoint_id
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


@dataclass(frozen=True, slots=True)
class Row:
    """An event as it is written."""

    id: UUID
    type: str
    version: int | None  # Of its type in the catalogue.
    key: str | None
    fingerprint: str
    data: str  # JSON.


class Written(NamedTuple):
    """What became of it."""

    created_at: datetime
    deliveries: int


def fan_out(rows: Sequence[Row], *, tenant_id: int, using: str) -> Mapping[UUID, Written]:
    """Write the events, no more than MOST, and tell the tenant's endpoints, in the order given.

    An event whose key was used before is not written, and is absent from the answer.
    """
    columns = _columns(rows) | {
        "versions": [row.version for row in rows],
        "keys": [row.key for row in rows],
        "fingerprints": [row.fingerprint for row in rows],
        "names": [_names(row.type) for row in rows],
        "tenant": tenant_id,
    }
    with connections[using].cursor() as cursor:
        cursor.execute(_STATEMENT, columns)
        return {event: Written(at, told) for event, at, told in cursor.fetchall()}


def tell_platform(rows: Sequence[Row], *, using: str) -> int:
    """Write events of the current tenant as the platform's too; how many deliveries that makes."""
    with connections[using].cursor() as cursor:
        cursor.execute(_TELL_PLATFORM, _columns(rows))
        told: int = cursor.fetchone()[0]
        return told


def _columns(rows: Sequence[Row]) -> dict[str, Any]:
    return {
        "ids": [row.id for row in rows],
        "types": [row.type for row in rows],
        "data": [row.data for row in rows],
        "tries": scheduled(None).attempts,
        "moment": str(rows[0].id)[:15],  # 48 bits of time, and the version.
    }


def _names(type: str) -> str:
    """What an endpoint's filter may say to hear of a type, as an array's text: {a.b.c,a.*,a.b.*}.

    No part of a type needs quoting there.
    """
    parts = type.split(".")
    groups = (".".join(parts[:count]) + ".*" for count in range(1, len(parts)))
    return f"{{{','.join([type, *groups])}}}"
