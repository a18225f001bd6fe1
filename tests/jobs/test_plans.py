"""The engine's statements walk indexes, however much work there is."""

import json

import psycopg
import pytest

from jobs.engine import look, rescue, settle, sql
from jobs.registry import queue
from tests import settings as run

TENANTS, EACH = 500, 40


@pytest.fixture(scope="module")
def crowd(django_db_blocker):
    """Twenty thousand works of every state, analysed."""
    with psycopg.connect(
        run.postgres.conninfo(run.DATABASE_NAME, "postgres"), autocommit=True
    ) as connection:
        for table in ("works_parcel", "works_telegram"):
            connection.execute(
                f"insert into {table} (id, tenant_id, lane, max_attempts, state, due_at)"
                " select gen_random_uuid(), 9000000 + mod(n, %s), 'crowd:' || mod(n, %s), 3,"
                " (array['pending', 'pending', 'scheduled', 'succeeded'])[1 + mod(n, 4)],"
                " now() + interval '1 day' from generate_series(1, %s) n",
                [TENANTS, TENANTS, TENANTS * EACH],
            )
            connection.execute(f"vacuum analyze {table}")
        yield connection
        for table in ("works_parcel", "works_telegram"):
            connection.execute(f"delete from {table} where tenant_id >= 9000000")
            connection.execute(f"vacuum analyze {table}")


def plan(engine, statement: str, values=None) -> list[dict]:
    """The nodes of the plan that the statement gets as the engine runs it: unprepared."""

    async def explain():
        text = f"explain (format json) {statement}"
        cursor = await engine.connection.execute(text, values, prepare=False)
        return (await cursor.fetchone())[0]

    nodes = []

    def walk(node: dict) -> None:
        nodes.append(node)
        for child in node.get("Plans", []):
            walk(child)

    answer = engine.run(explain())
    walk((json.loads(answer) if isinstance(answer, str) else answer)[0]["Plan"])
    return nodes


def scanned(nodes: list[dict]) -> set[str]:
    """The tables that are read from one end to the other."""
    return {node["Relation Name"] for node in nodes if node["Node Type"] == "Seq Scan"} & {
        "works_parcel",
        "works_telegram",
    }


@pytest.mark.parametrize("name", ["parcels", "telegrams"])
def test_the_pick_and_the_take_scan_no_table(engine, crowd, name):
    served = queue(name)
    values = {"drainer": 1, "cursor": 9_000_100, "cursor_tenants": [], "cursor_lanes": []}
    nodes = plan(engine, sql.pick(served), values)
    assert not scanned(nodes)
    lanes = [(9_000_000 + n, f"crowd:{n}") for n in range(64)]
    values = {"drainer": 1, "tenants": [t for t, _ in lanes], "lanes": [key for _, key in lanes]}
    statement = sql.take(served, slots=64, lanes=64, paced=True)
    nodes = plan(engine, statement, values)
    assert not scanned(nodes)
    used = {node.get("Index Name") for node in nodes}
    model = served.model._meta.model_name
    assert {f"{model}_runnable", f"{model}_processing"} <= used


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
