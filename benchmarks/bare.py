"""Claim and settle as bare SQL: the model that the engine's statements were written after.

Pick lanes, take works, settle them, fenced by a lease; no drainers that die, no tenant's cap, no
attempts, no errors, no retries. What the engine adds is what the ratio shows.
"""

from typing import Any

import psycopg

CAP_LANE, BATCH = 50, 1000

SETUP = """
drop schema if exists bare cascade; create schema bare; set search_path to bare;
create sequence lease;
create table drainer(
  id bigint primary key, beat_at timestamptz not null default now(), dead_at timestamptz);
create table lane(key text primary key, paused_until timestamptz);
create table work(
  id bigint generated always as identity primary key, tenant_id int not null, lane text not null,
  priority smallint not null default 0, state text not null default 'pending',
  due_at timestamptz not null default now(), attempts smallint not null default 0, lease bigint,
  drainer bigint, last_error text, payload text) with (fillfactor=80);
insert into drainer(id) values (1);
"""
FILL = """
insert into work(tenant_id, lane, payload)
select 1 + i % {tenants}, 't' || 1 + i % {tenants} || ':0', repeat('x', 200)
from generate_series(1, {works}) i
"""
INDEXES = """
create index work_runnable on work(tenant_id, lane, priority, id) where state = 'pending';
create index work_waiting on work(due_at) where state in ('scheduled', 'failed');
create index work_processing on work(tenant_id, lane) where state = 'processing';
create index work_owned on work(drainer) where state = 'processing';
"""
PICK = """
with recursive alive as materialized (
  select id from drainer where id = 1 and dead_at is null for share),
t(id) as (
  (select tenant_id from work where state = 'pending' and tenant_id > %(cursor)s
   order by tenant_id limit 1)
  union all
  (select (select w.tenant_id from work w where w.state = 'pending' and w.tenant_id > t.id
           order by w.tenant_id limit 1) from t where t.id is not null)
), tenants as materialized (select id from t where id is not null limit 64),
picked as materialized (
 select x.tenant_id, x.lane from tenants cross join lateral (
  with recursive l(k) as (
    (select lane from work where state = 'pending' and tenant_id = tenants.id
     order by lane limit 1)
    union all
    (select (select w.lane from work w where w.state = 'pending' and w.tenant_id = tenants.id
             and w.lane > l.k order by w.lane limit 1) from l where l.k is not null)
  ) select tenants.id as tenant_id, k as lane from l where k is not null limit 8) x)
select tenant_id, lane from picked where exists (select 1 from alive)
  and not exists (select 1 from lane where lane.key = picked.lane and lane.paused_until > now())
  and pg_try_advisory_xact_lock(hashtextextended(lane, 7))
"""
TAKE = f"""
with q as (select * from unnest(%(tenants)s::int[], %(lanes)s::text[]) q(tenant_id, lane)),
room as materialized (
  select q.tenant_id, q.lane, least(%(quota)s, {CAP_LANE}
    - (select count(*) from work w where w.state = 'processing'
       and w.tenant_id = q.tenant_id and w.lane = q.lane)) n from q),
p as materialized (
  select x.id from room cross join lateral (
    select id from work where state = 'pending' and tenant_id = room.tenant_id
    and lane = room.lane order by priority, id limit greatest(0, room.n)
    for update skip locked) x)
update work set state = 'processing', attempts = attempts + 1, lease = s.lease, drainer = 1
from p, (select nextval('lease') lease) s
where work.id = p.id returning work.id, work.tenant_id, work.lease, work.payload
"""
SETTLE = """
update work set state = 'succeeded', lease = null, drainer = null
from unnest(%(ids)s::bigint[], %(leases)s::bigint[]) s(id, lease)
where work.id = s.id and work.lease = s.lease and work.state = 'processing'
"""


class Bare:
    """The model over a table of its own."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection
        self._cursor = 0

    def fill(self, *, tenants: int, works: int) -> None:
        for statement in (SETUP, FILL.format(tenants=tenants, works=works), INDEXES):
            self._connection.execute(statement)
        self._connection.execute("vacuum analyze work")

    def claim(self) -> list[Any]:
        """Take up to BATCH works of up to 64 tenants."""
        with self._connection.transaction():
            lanes = self._rows(PICK, {"cursor": self._cursor})
            self._cursor = max((row[0] for row in lanes), default=0)
            quota = max(1, BATCH // max(1, len(lanes)))
            tenants, keys = [row[0] for row in lanes], [row[1] for row in lanes]
            return self._rows(TAKE, {"tenants": tenants, "lanes": keys, "quota": quota})

    def settle(self, rows: list[Any]) -> None:
        values = {"ids": [row[0] for row in rows], "leases": [row[2] for row in rows]}
        self._connection.execute(SETTLE, values, prepare=False)

    def _rows(self, statement: str, values: dict[str, Any]) -> list[Any]:
        return self._connection.execute(statement, values, prepare=False).fetchall()
