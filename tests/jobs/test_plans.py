"""The engine's statements walk indexes, however much work there is."""

import json
import re
from functools import partial

import psycopg
import pytest
from psycopg.sql import Literal

from jobs.engine import look, rescue, settle, sql
from jobs.registry import queue
from tests import settings as run

TENANTS, EACH = 500, 40
CROWDED = ("works_parcel", "works_telegram", "works_missive")


@pytest.fixture(scope="module")
def crowd(django_db_blocker):
    """Twenty thousand works of every state, analysed."""
    with psycopg.connect(
        run.postgres.conninfo(run.DATABASE_NAME, "postgres"), autocommit=True
    ) as connection:
        for table in CROWDED:
            connection.execute(
                f"insert into {table} (id, tenant_id, lane, max_attempts, state, due_at)"
                " select gen_random_uuid(), 9000000 + mod(n, %s), 'crowd:' || mod(n, %s), 3,"
                " (array['pending', 'pending', 'scheduled', 'succeeded'])[1 + mod(n, 4)],"
                " now() + interval '1 day' from generate_series(1, %s) n",
                [TENANTS, TENANTS, TENANTS * EACH],
            )
            connection.execute(f"vacuum analyze {table}")
        yield connection
        for table in CROWDED:
            connection.execute(f"delete from {table} where tenant_id between 9000000 and 9999999")
            connection.execute(f"vacuum analyze {table}")


DELIVERIES = """
insert into webhooks_endpoint (id, tenant_id, url, host, description, event_types, custom_headers,
    secrets, ordered, disabled_reason, created_at, updated_at)
  select overlay(md5('p' || n) placing '7' from 13)::uuid, 9000000 + n, 'https://a.test/',
    'a.test:443', '', '{}', '', '[]', mod(n, 2) = 0, '', now(), now()
  from generate_series(0, %(tenants)s - 1) n;
insert into webhooks_event (id, tenant_id, type, created_at, fingerprint)
  select overlay(md5('e' || n) placing '7' from 13)::uuid, 9000000 + mod(n, %(tenants)s), 'a.b',
    now(), '' from generate_series(1, %(works)s) n;
insert into webhooks_payload (event_id, tenant_id, created_at, data)
  select id, tenant_id, created_at, '{}' from webhooks_event
  where tenant_id between 9000000 and 9999999;
insert into webhooks_delivery (id, tenant_id, lane, max_attempts, state, due_at, event_id,
    endpoint_id, host, seq)
  select gen_random_uuid(), e.tenant_id, 'crowd:' || e.tenant_id - 9000000, 3,
    (array['pending', 'pending', 'scheduled', 'succeeded'])[1 + mod(row_number() over (), 4)],
    now() + interval '1 day', e.id, p.id, p.host,
    case when p.ordered then row_number() over () end
  from webhooks_event e join webhooks_endpoint p using (tenant_id)
  where tenant_id between 9000000 and 9999999;
insert into jobs_lane (tenant_id, key, rate)
  select 9000000 + n, 'crowd:' || n, 5 from generate_series(0, %(tenants)s - 1) n;
"""
DELIVERED = [
    "webhooks_delivery",
    "webhooks_payload",
    "webhooks_event",
    "webhooks_endpoint",
    "jobs_lane",
]


@pytest.fixture(scope="module")
def deliveries(crowd):
    """Five thousand deliveries, half of them in ordered lanes, and all that belongs to them."""
    crowd.execute(DELIVERIES % {"tenants": TENANTS, "works": TENANTS * EACH // 4})
    for table in DELIVERED:
        crowd.execute(f"vacuum analyze {table}")
    yield
    for table in DELIVERED:
        crowd.execute(f"delete from {table} where tenant_id between 9000000 and 9999999")
        crowd.execute(f"vacuum analyze {table}")


def explained(engine, statement: str, values=None, *, options: str = "format json") -> dict:
    """The plan that the statement gets on a connection of the engine's: prepared."""
    names = list(dict.fromkeys(re.findall(r"%\((\w+)\)s", statement)))
    sent = re.sub(r"%\((\w+)\)s", lambda found: f"${names.index(found[1]) + 1}", statement)
    given = [values[name] for name in names] if names else list(values or [])
    run = partial(engine.connection.execute, prepare=False)
    literals = ", ".join(Literal(value).as_string(engine.connection) for value in given)

    async def explain():
        async with engine.connection.transaction(force_rollback=True):
            await run(f"prepare asked as {sent if names else statement.replace('%s', '$1')}")
            execute = f"execute asked({literals})" if given else "execute asked"
            cursor = await run(f"explain ({options}) {execute}")
            plan = (await cursor.fetchone())[0][0]["Plan"]
            await run("deallocate asked")
        return plan

    return engine.run(explain())


def plan(engine, statement: str, values=None) -> list[dict]:
    """The nodes of the statement's plan."""
    nodes = []

    def walk(node: dict) -> None:
        nodes.append(node)
        for child in node.get("Plans", []):
            walk(child)

    walk(explained(engine, statement, values))
    return nodes


def scanned(nodes: list[dict]) -> set[str]:
    """The tables that are read from one end to the other."""
    whole = [node for node in nodes if node["Node Type"] == "Seq Scan"]
    return {
        name
        for node in whole
        if (name := node["Relation Name"]).startswith(("works_", "webhooks_", "jobs_lane"))
    }


def took(engine, served, lanes: list[tuple[int, str]]) -> list[dict]:
    """The plan of the take of these lanes, with all that can be asked of it."""
    values = {
        "drainer": 1,
        "slots": 64,
        "quota": 1,
        "tenants": [tenant for tenant, _ in lanes],
        "lanes": [key for _, key in lanes],
        "destinations": ["busy.example:443", "idle.example:443"],
        "under_way": [100, 1],
    }
    return plan(engine, sql.take(served, paced=True), values)


PICKED = {"drainer": 1, "cursor": 9_000_100, "cursor_tenants": [], "cursor_lanes": []}
NAMED = {"drainer": 1, "named": [9_000_100, 9_000_300], "cursor_tenants": [], "cursor_lanes": []}


@pytest.mark.parametrize("name", ["parcels", "telegrams"])
def test_the_pick_and_the_take_scan_no_table(engine, crowd, name):
    served = queue(name)
    assert not scanned(plan(engine, sql.pick(served), PICKED))
    nodes = took(engine, served, [(9_000_000 + n, f"crowd:{n}") for n in range(64)])
    assert not scanned(nodes)
    used = {node.get("Index Name") for node in nodes}
    model = served.model._meta.model_name
    assert {f"{model}_runnable", f"{model}_processing"} <= used


def test_a_wide_pick_scans_no_table(engine, crowd):
    statement = sql.pick(queue("telegrams"), tenants=sql.WIDE_TENANTS, lanes=sql.WIDE_LANES)
    assert not scanned(plan(engine, statement, PICKED))


def test_claiming_deliveries_scans_neither_them_nor_what_they_carry(engine, deliveries):
    """A lane's health, its next work's destination, event, payload and endpoint: all by key."""
    served = queue("deliveries")
    assert not scanned(plan(engine, sql.pick(served), PICKED))
    assert not scanned(plan(engine, sql.pick(served, named=True), NAMED))
    nodes = took(engine, served, [(9_000_000 + n, f"crowd:{n}") for n in range(64)])
    assert not scanned(nodes)
    used = {node.get("Index Name") for node in nodes}
    assert {"delivery_runnable", "delivery_processing", "delivery_head", "lane_key"} <= used
    looked_at = {node["Relation Name"] for node in nodes if "Relation Name" in node}
    assert {"webhooks_event", "webhooks_endpoint"} <= looked_at
    undo = plan(engine, sql.take_undo(served), {"drainer": 1, "slots": 8})
    assert not scanned(undo)


OURS = "where tenant_id between 9000000 and 9999999"


@pytest.fixture
def come_again(crowd, deliveries):
    """All deliveries were done when the statistics were taken, and are to be done since."""
    crowd.execute("alter table webhooks_delivery set (autovacuum_enabled = off)")
    crowd.execute(f"update webhooks_delivery set state = 'succeeded', finished_at = now() {OURS}")
    crowd.execute("vacuum analyze webhooks_delivery")
    crowd.execute(f"update webhooks_delivery set state = 'pending', finished_at = null {OURS}")
    yield
    crowd.execute("alter table webhooks_delivery reset (autovacuum_enabled)")


def visited(engine, statement: str, values: dict) -> int:
    """How many deliveries the statement came by, found or not. It leaves everything as it is."""

    def rows(node: dict) -> float:
        mine = 0.0
        if node.get("Relation Name") == "webhooks_delivery":
            passed_by = node.get("Rows Removed by Filter", 0)
            mine = (node["Actual Rows"] + passed_by) * node["Actual Loops"]
        return mine + sum(rows(child) for child in node.get("Plans", []))

    return round(rows(explained(engine, statement, values, options="analyze, format json")))


def test_a_claim_is_as_cheap_when_the_statistics_say_that_nothing_waits(engine, come_again):
    """As after every quiet hour, when autovacuum has looked at a queue that was done."""
    served = queue("deliveries")
    cursor = PICKED | {"drainer": engine.drainer()}
    assert visited(engine, sql.pick(served), cursor) < 64 * 10
    named = NAMED | {"drainer": cursor["drainer"]}
    assert 2 <= visited(engine, sql.pick(served, named=True), named) < 2 * 10
    values = {
        "drainer": cursor["drainer"],
        "slots": 64,
        "quota": 1,
        "tenants": list(range(9_000_000, 9_000_064)),
        "lanes": [f"crowd:{n}" for n in range(64)],
        "destinations": [],
        "under_way": [],
    }
    statement = sql.take(served, paced=False)
    assert visited(engine, statement, values) < 64 * 10


def test_a_paced_queue_finds_its_places_and_what_is_under_way_there_by_index(engine, crowd):
    served, tenants = queue("missives"), range(9_000_000, 9_000_064)
    assert not scanned(plan(engine, sql.pick(served), PICKED))
    values = {
        "drainer": 1,
        "slots": 64,
        "quota": 1,
        "tenants": list(tenants),
        "lanes": [f"crowd:{tenant - 9_000_000}" for tenant in tenants],
        "destinations": ["there"] * 64,
        "rooms": [5] * 64,
        "mosts": [10] * 64,
    }
    nodes = plan(engine, sql.take(served, paced=False), values)
    assert not scanned(nodes)
    used = {node.get("Index Name") for node in nodes}
    assert {"missive_runnable", "missive_processing", "lane_key"} <= used


@pytest.mark.parametrize("name", ["parcels", "telegrams"])
def test_settling_five_hundred_finds_each_by_its_key(engine, crowd, name):
    served = queue(name)
    rows = engine.sql(f"select id from {served.table} limit 500")
    given = json.dumps([{"id": str(id_), "lease": 1, "state": "succeeded"} for (id_,) in rows])
    assert not scanned(plan(engine, settle.settle_statement(name), [given]))


def test_the_look_of_an_idle_drainer_touches_only_what_is_due(engine, crowd):
    statement = look.look_statement([queue("parcels"), queue("telegrams")])
    nodes = plan(engine, statement)
    used = {node.get("Index Name") for node in nodes}
    assert {"parcel_waiting", "telegram_waiting", "parcel_runnable", "telegram_runnable"} <= used


def test_rescue_finds_what_a_drainer_held_by_index(engine, crowd):
    statement = rescue.held_statement(queue("parcels"), "d.dead_at is not null")
    engine.drainer()
    assert not scanned(plan(engine, statement))
