"""The operators' console with a million works: each page's time and statements, side by side.

The ratio of a page's time with a million works to that with a tenth of them says whether anything
is counted, skipped through or scanned. The overview has a budget in milliseconds.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from urllib.parse import urlsplit

from benchmarks.size import Size
from benchmarks.stack import ROOT, Stack
from benchmarks.table import Budget, Row, median_ratio, ms

TENANTS = 1_000
FEW = 100_000  # Works of the other side: there too each list has a page of rows.
EACH = 9  # Requests of a page on each side, in turn.
OVERVIEW = Budget(most=150.0, unit="ms")
PAGE = Budget(most=1.5)

Told = tuple[float, int]  # Seconds of a request, and its statements.
Asks = Callable[[str], Told]

FILL = (
    """
insert into tenants_tenant (id, uuid, slug, name, plan, home, status, schema_name, external_id,
  metadata, locale, time_zone, limits, created_at)
select 500000 + n, gen_random_uuid(), 'bench-' || n, 'Bench ' || n, 'free', 'pooled', 'active',
  't_' || 500000 + n, '', '{}', 'en', 'UTC', '{}', now() from generate_series(0, %(tenants)s - 1) n
""",
    """
insert into webhooks_endpoint (id, tenant_id, url, host, description, event_types, custom_headers,
  secrets, ordered, disabled_reason)
select slipway.uuid7(), 500000 + n, 'https://h' || n || '.example/', 'h' || n || '.example:443', '',
  '{}', '', '[]', false, '' from generate_series(0, %(tenants)s - 1) n
""",
    # Half of all events and deliveries are one tenant's.
    """
insert into webhooks_event (id, tenant_id, type)
select slipway.uuid7(), 500000 + case when n %% 2 = 0 then 0 else n %% %(tenants)s end, 'a.b'
from generate_series(1, %(works)s) n
""",
    """
insert into webhooks_delivery (id, tenant_id, event_id, endpoint_id, lane, host, state, attempts,
  max_attempts, last_error, created_at, finished_at)
select slipway.uuid7(), e.tenant_id, e.id, p.id, 'endpoint:' || p.id, p.host,
  case when e.n %% 1000 = 0 then 'dead_letter' when e.n %% 500 = 0 then 'pending'
    else 'succeeded' end, 1, 10,
  case when e.n %% 1000 = 0 then 'HTTP 503' else '' end,
  now() - make_interval(secs => e.n / 10.0),
  case when e.n %% 500 <> 0 then now() - make_interval(secs => e.n / 10.0) end
from (select *, row_number() over () n from webhooks_event where type = 'a.b') e
join webhooks_endpoint p using (tenant_id)
""",
    """
insert into jobs_attempt (id, tenant_id, queue, work_id, number, started_at, duration_ms, outcome,
  error, request, response, drainer)
select slipway.uuid7(), tenant_id, 'deliveries', id, 1, now() - make_interval(secs => n %% 80000),
  20, case when state = 'succeeded' then 'succeeded' else 'retry' end, last_error,
  '{"method": "POST", "url": "https://h.example/", "headers": {}}', '{"status": 200, "body": "{}"}',
  1 from (select *, row_number() over () n from webhooks_delivery) d
""",
    """
insert into jobs_deadletter (id, tenant_id, queue, work_id, reason, error, created_at)
select slipway.uuid7(), tenant_id, 'deliveries', id, 'exhausted', last_error, created_at
from webhooks_delivery where state = 'dead_letter'
""",
)
ANALYSED = (
    "tenants_tenant", "webhooks_endpoint", "webhooks_event", "webhooks_delivery", "jobs_attempt",
    "jobs_deadletter",
)  # fmt: skip
PAGES = {
    "overview": "",
    "deliveries": "webhooks/delivery/",
    "deliveries, dead": "webhooks/delivery/?state=dead_letter",
    "deliveries of a small tenant": "webhooks/delivery/?tenant=bench-7",
    "deliveries, an error that is nowhere": "webhooks/delivery/?q=error:nowhere",
    "attempts": "jobs/attempt/",
    "attempts that failed": "jobs/attempt/?outcome=retry",
    "dead letters, open": "jobs/deadletter/?resolved=no",
    "events of the large tenant": "webhooks/event/?tenant=bench-0",
    "page of a delivery": "webhooks/delivery/{delivery}/change/",
    "page of an attempt": "jobs/attempt/{attempt}/change/",
    "page of the large tenant": "tenants/tenant/500000/change/",
}


def measure(stack: Stack, size: Size) -> Iterator[Row]:
    with stack.database("console_few") as few, stack.database("console_many") as many:
        sides = [(few, fill(stack, few, FEW)), (many, fill(stack, many, size.works))]
        with ExitStack() as both:
            operators = [both.enter_context(_operator(stack, name)) for name, _ in sides]
            keys = [keys for _, keys in sides]
            for page, path in PAGES.items():
                small, large = _compared(operators, [path.format(**one) for one in keys])
                yield _row(page, small, large, size.works)


def fill(stack: Stack, database: str, works: int) -> dict[str, Any]:
    """Deliveries, and all that belongs to them; the keys of the pages that are asked for."""
    with stack.connect(database, "slipway_owner") as owner:
        for statement in FILL:
            owner.execute(statement, {"tenants": min(TENANTS, works), "works": works})
        for table in ANALYSED:
            owner.execute(f"vacuum analyze {table}")
    return _keys(stack, database)


def _row(page: str, small: list[Told], large: list[Told], works: int) -> Row:
    sides = [statistics.median(seconds for seconds, _ in side) for side in (large, small)]
    told = [
        f"{ms(seconds)}, {side[0][1]} statements"
        for seconds, side in zip(sides, (large, small), strict=True)
    ]
    if page == "overview":
        return Row(f"console, overview with {works:,} works", *told, sides[0] * 1000, OVERVIEW)
    ratio = median_ratio((one[0], two[0]) for one, two in zip(large, small, strict=True))
    return Row(f"console, {page}: {works:,} works / {FEW:,}", *told, ratio, PAGE)


def _compared(operators: list[Asks], paths: list[str]) -> tuple[list[Told], list[Told]]:
    """Both sides in turn; the first request of each warms up."""
    told: tuple[list[Told], list[Told]] = ([], [])
    for _ in range(EACH + 1):
        for ask, path, side in zip(operators, paths, told, strict=True):
            side.append(ask(path))
    return told[0][1:], told[1][1:]


@contextmanager
def _operator(stack: Stack, database: str) -> Iterator[Asks]:
    """A signed-in operator, in a process of its own: this one belongs to another database."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.console"],
        cwd=ROOT,
        env=os.environ | stack.environment(database),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin
    assert process.stdout

    def ask(path: str) -> Told:
        process.stdin.write(f"{path}\n")
        process.stdin.flush()
        seconds, statements = json.loads(process.stdout.readline())
        return seconds, statements

    try:
        yield ask
    finally:
        process.stdin.close()
        process.wait(timeout=20)


def answer() -> None:
    """For each path on standard input: how long its page took, and how many statements."""
    from django.conf import settings
    from django.db import connections
    from django.test import Client
    from django.test.utils import CaptureQueriesContext

    from tenants.models import User
    from tenants.routers import as_operator

    client = Client(headers={"host": urlsplit(settings.PUBLIC_URL).netloc})
    with as_operator():
        staff = User.objects.create_superuser("bench@example.org", "not-used-to-sign-in")
        client.force_login(staff, backend="tenants.people.OperatorBackend")
    for path in map(str.strip, sys.stdin):
        with CaptureQueriesContext(connections["operator"]) as captured:
            began = time.perf_counter()
            shown = client.get(f"/console/{path}")
            took = time.perf_counter() - began
        assert shown.status_code == 200, (path, shown.status_code)
        sys.stdout.write(json.dumps([took, len(captured)]) + "\n")
        sys.stdout.flush()


def _keys(stack: Stack, database: str) -> dict[str, Any]:
    with stack.connect(database, "slipway_operator") as operator:
        row = operator.execute(
            "select work_id, id || '.' || (extract(epoch from started_at) * 1e6)::bigint"
            " from jobs_attempt where outcome = 'retry' limit 1"
        ).fetchone()
    assert row is not None
    return {"delivery": row[0], "attempt": row[1]}


if __name__ == "__main__":
    import django

    django.setup()
    answer()
