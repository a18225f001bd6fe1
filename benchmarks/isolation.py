"""Row-level security with the signed context against an explicit WHERE, on the same table."""

import random
import time
from collections.abc import Iterator
from statistics import median
from typing import Any

import psycopg

from benchmarks.size import Size
from benchmarks.stack import Stack
from benchmarks.table import Budget, Row, median_ratio, ms, percentile
from tenants.postgres import token

TENANTS = 400
TURNS = 40  # Tenants in turn, of a round.
READS = 20  # Of each kind, for each of them.
P50, P99 = Budget(most=1.1), Budget(most=0.1, unit="ms")

# Interleaved, which is the worst for the cache: neighbours on a page belong to 400 tenants.
FILL = """
insert into pool.customers_customer (id, tenant_id, external_id, name, phone, email, attributes,
  lifetime_value, consent, created_at, updated_at)
select uuidv7(), 1 + i %% %(tenants)s, 'c' || i / %(tenants)s, 'Customer ' || i, '+4930' || i,
  'c' || i || '@example.com', '{"plan": "pro", "city": "Zürich"}', i %% 1000, 'given', now(), now()
from generate_series(1, %(rows)s) i
"""
COLUMNS = "id, external_id, name, phone, email, attributes, lifetime_value, consent, created_at"
# What is asked, with {where} for the side that has no row-level security.
QUERIES = {
    "one customer": f"select {COLUMNS} from customers_customer where {{where}} id = %(id)s",
    "20 customers": f"select {COLUMNS} from customers_customer {{only}} order by id limit 20",
    "count": "select count(*) from customers_customer {only}",
}

Samples = dict[str, tuple[list[float], list[float]]]


def measure(stack: Stack, size: Size) -> Iterator[Row]:
    with stack.database("rls") as database:
        with stack.connect(database, "slipway_owner") as owner:
            owner.execute(FILL, {"tenants": TENANTS, "rows": TENANTS * size.customers})
            owner.execute("vacuum analyze pool.customers_customer")
        with (
            stack.connect(database, "slipway_app") as on,
            stack.connect(database, "slipway_operator") as off,
        ):
            off.execute("set search_path to pool, public")
            ids = _ids(off)
            rounds = [_round(on, off, ids) for _ in range(size.rounds + 1)][1:]
    shape = f"{TENANTS} tenants x {size.customers:,}"
    for kind in QUERIES:
        yield from _rows(f"RLS on / off, {kind}, {shape}", [samples[kind] for samples in rounds])
    yield _entering(rounds)


def _ids(connection: psycopg.Connection[Any]) -> dict[int, list[Any]]:
    """Some customers of each tenant."""
    rows = connection.execute(
        "select tenant_id, (array_agg(id order by random()))[1:%s] from customers_customer"
        " group by tenant_id",
        [READS],
    )
    return dict(rows.fetchall())


def _round(
    on: psycopg.Connection[Any], off: psycopg.Connection[Any], ids: dict[int, list[Any]]
) -> Samples:
    """Both sides ask the same of the same tenants, in an order that chance decides."""
    samples: Samples = {kind: ([], []) for kind in (*QUERIES, "enter")}
    for tenant in random.sample(sorted(ids), TURNS):
        samples["enter"][0].append(enter(on, tenant))
        for id_ in ids[tenant]:
            for kind, query in QUERIES.items():
                values = {"tenant": tenant, "id": id_}
                sides = [
                    (on, query.format(where="", only=""), samples[kind][0]),
                    (
                        off,
                        query.format(
                            where="tenant_id = %(tenant)s and", only="where tenant_id = %(tenant)s"
                        ),
                        samples[kind][1],
                    ),
                ]
                random.shuffle(sides)
                for connection, statement, times in sides:
                    times.append(_ask(connection, statement, values))
    return samples


def _ask(connection: psycopg.Connection[Any], statement: str, values: dict[str, Any]) -> float:
    began = time.perf_counter()
    rows = connection.execute(statement, values, prepare=False).fetchall()
    took = time.perf_counter() - began
    assert rows
    return took


def enter(connection: psycopg.Connection[Any], tenant: int) -> float:
    """Sign a context and enter it, as tenants.postgres does before a query of another tenant."""
    from django.conf import settings

    began = time.perf_counter()
    context = token.sign(
        settings.CONTEXT_KEY,
        tenant_id=tenant,
        expires_at=int(time.time()) + 900,
        pid=connection.info.backend_pid,
    )
    statement = "select slipway.enter_tenant(%s, %s)"
    connection.execute(statement, ["pool, public", context], prepare=False)
    return time.perf_counter() - began


def _rows(name: str, rounds: list[tuple[list[float], list[float]]]) -> Iterator[Row]:
    middle = [(median(on), median(off)) for on, off in rounds]
    yield Row(
        f"{name}: p50",
        ms(median(on for on, _ in middle)),
        ms(median(off for _, off in middle)),
        median_ratio(middle),
        P50,
    )
    tail = [(percentile(on, 0.99), percentile(off, 0.99)) for on, off in rounds]
    yield Row(
        f"{name}: p99, difference",
        ms(median(on for on, _ in tail)),
        ms(median(off for _, off in tail)),
        median(on - off for on, off in tail) * 1000,
        P99,
    )


def _entering(rounds: list[Samples]) -> Row:
    entering = median(median(samples["enter"][0]) for samples in rounds)
    reading = median(median(samples["one customer"][1]) for samples in rounds)
    return Row(
        "entering another tenant's context / reading one customer",
        ms(entering),
        ms(reading),
        entering / reading,
    )
