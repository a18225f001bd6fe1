"""A file of customers through the API into the database, against the bare statement."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any
from urllib.request import Request, urlopen

import psycopg

from benchmarks.isolation import enter
from benchmarks.size import Size
from benchmarks.stack import Stack
from benchmarks.table import Budget, Row, median_ratio

BUDGET = Budget(least=15_000, unit="rows/s")
CHUNK = 8000  # Rows in a statement, on both sides.
PATIENCE = 120.0  # Seconds for one file.
HEADER = b"external_id,name,phone,email,lifetime_value,last_purchase_at,consent,attributes.city\n"
NAMES = ["external_id", "name", "phone", "email", "lifetime_value", "last_purchase_at", "consent"]
# From the first claim of the job, to what the last transaction wrote.
TOOK = """
select extract(epoch from i.finished_at - min(a.started_at)), i.created, i.rejected
from pool.customers_import i
join jobs_job j on j.args->>'import' = i.id::text join jobs_attempt a on a.work_id = j.id
where i.id = %s group by i.id
"""
BARE = """
insert into customers_customer (id, tenant_id, created_at, updated_at, external_id, name, phone,
  email, lifetime_value, last_purchase_at, consent, attributes)
select uuidv7(), %s, now(), now(), i.external_id, i.name, i.phone, i.email, i.lifetime_value,
  i.last_purchase_at, i.consent, i.attributes
from json_to_recordset(%s::json) i (external_id text, name text, phone text, email text,
  lifetime_value numeric, last_purchase_at timestamptz, consent text, attributes jsonb)
on conflict (tenant_id, external_id) do update set name = excluded.name
"""


def measure(stack: Stack, size: Size) -> Iterator[Row]:
    rows = size.imported
    pairs = []
    with (
        stack.database("import") as database,
        stack.web(database, workers=1, threads=2) as (port, _),
        stack.worker(database),
        stack.connect(database, "slipway_operator") as operator,
        stack.connect(database, "slipway_app") as app,
    ):
        operator.execute("set search_path to pool, public")
        tenants = iter(_make_tenants(stack, database, 2 * size.rounds))
        for first, second in zip(tenants, tenants, strict=True):
            ours = _import(stack, port, operator, first, rows)
            pairs.append((rows / ours, rows / _bare(app, second, rows)))
    ours, bare = (sorted(side)[len(side) // 2] for side in zip(*pairs, strict=True))
    name = f"import of {rows:,} customers"
    yield Row(name, f"{ours:,.0f} rows/s", "", ours, BUDGET)
    yield Row(
        f"{name} / the bare INSERT … SELECT",
        f"{ours:,.0f} rows/s",
        f"{bare:,.0f} rows/s",
        median_ratio(pairs),
        note="reading and judging each row, in one process, is what it costs",
    )


def _make_tenants(stack: Stack, database: str, many: int) -> list[int]:
    made = subprocess.run(
        [
            sys.executable, "-m", "benchmarks.crowd", "endpoints",
            json.dumps({"tenants": many, "each": 0, "urls": []}),
        ],
        env=os.environ | stack.environment(database), stdout=subprocess.PIPE, check=True,
    )  # fmt: skip
    numbers: list[int] = json.loads(made.stdout)
    return numbers


def _import(
    stack: Stack, port: int, operator: psycopg.Connection[Any], tenant: int, rows: int
) -> float:
    """Seconds from the job's start to its end."""
    body = HEADER + b"".join(",".join(row).encode() + b"\n" for row in _rows(rows))
    request = Request(
        f"http://127.0.0.1:{port}/v1/customers/imports",
        data=body,
        headers={
            "Authorization": f"Bearer {stack.platform_key}",
            "Slipway-Tenant": f"t-{tenant}",
            "Content-Type": "text/csv",
        },
    )
    with urlopen(request, timeout=PATIENCE) as answer:
        import_id = json.load(answer)["id"].removeprefix("imp_")
    deadline = time.monotonic() + PATIENCE
    while True:
        found = operator.execute(TOOK, [import_id]).fetchone()
        if found and found[0] is not None:
            if found[1:] != (rows, 0):
                raise RuntimeError(f"Of {rows} rows {found[1]} were taken, {found[2]} rejected.")
            return float(found[0])
        if time.monotonic() > deadline:
            raise RuntimeError(f"Not imported after {PATIENCE} s.")
        time.sleep(0.05)


def _bare(app: psycopg.Connection[Any], tenant: int, rows: int) -> float:
    """Seconds for the same rows, ready to be written, as the same role under the same policies."""
    chunks, chunk = [], []
    for row in _rows(rows):
        chunk.append(dict(zip(NAMES, row, strict=False)) | {"attributes": {"city": row[-1]}})
        if len(chunk) == CHUNK:
            chunks.append(json.dumps(chunk))
            chunk = []
    chunks.append(json.dumps(chunk))
    enter(app, tenant)
    began = time.perf_counter()
    for text in chunks:
        app.execute(BARE, [tenant, text])
    return time.perf_counter() - began


def _rows(many: int) -> Iterator[list[str]]:
    for n in range(many):
        yield [
            f"c{n}", f"Customer {n}", f"+4930{n:07}", f"c{n}@example.com", f"{n % 1000}.50",
            "2026-01-02T03:04:05Z", "given", "Berlin",
        ]  # fmt: skip
