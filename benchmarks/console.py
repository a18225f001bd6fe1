"""The operators' console with a million works: each page's time and statements, side by side.

A page has the same budget with a million works as with none of them: the ratio of the two says
whether anything is counted, skipped through or scanned. The overview has a budget in milliseconds.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from benchmarks.size import Size
from benchmarks.stack import ROOT, Stack
from benchmarks.table import Budget, Row, ms

TENANTS = 1_000
EACH = 7  # Requests of a page; the first one warms up and is not counted.
OVERVIEW = Budget(most=150.0, unit="ms")
PAGE = Budget(most=150.0, unit="ms")

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

Measured = dict[str, tuple[float, int]]  # Page → median seconds, statements.


def measure(stack: Stack, size: Size) -> Iterator[Row]:
    with stack.database("console_few") as few, stack.database("console_many") as many:
        small = _measured(stack, few, 1_000)
        large = _measured(stack, many, size.works)
    for page, (seconds, statements) in large.items():
        budget = OVERVIEW if page == "overview" else PAGE
        yield Row(
            f"console, {page}: {size.works:,} works / 1,000",
            f"{ms(seconds)}, {statements} statements",
            f"{ms(small[page][0])}, {small[page][1]} statements",
            seconds * 1000,
            budget,
        )


def _measured(stack: Stack, database: str, works: int) -> Measured:
    """Every page, on a database that is filled first."""
    with stack.connect(database, "slipway_owner") as owner:
        for statement in FILL:
            owner.execute(statement, {"tenants": min(TENANTS, works), "works": works})
        for table in ANALYSED:
            owner.execute(f"vacuum analyze {table}")
    paths = {name: path.format(**_keys(stack, database)) for name, path in PAGES.items()}
    answer = subprocess.run(
        [sys.executable, "-m", "benchmarks.console", json.dumps(paths)],
        cwd=ROOT,
        env=os.environ | stack.environment(database),
        stdout=subprocess.PIPE,
        check=True,
    )
    return {name: tuple(told) for name, told in json.loads(answer.stdout).items()}


def look(paths: dict[str, str]) -> Measured:
    """Ask for each page as an operator, in this process; its median time, and its statements."""
    from django.conf import settings
    from django.test import Client

    from tenants.models import User
    from tenants.routers import as_operator

    client = Client(headers={"host": urlsplit(settings.PUBLIC_URL).netloc})
    with as_operator():
        staff = User.objects.create_superuser("bench@example.org", "not-used-to-sign-in")
        client.force_login(staff, backend="tenants.people.OperatorBackend")
    return {name: _ask(client, path) for name, path in paths.items()}


def _ask(client: Any, path: str) -> tuple[float, int]:
    from django.db import connections
    from django.test.utils import CaptureQueriesContext

    times = []
    for _ in range(EACH):
        began = time.perf_counter()
        answer = client.get(f"/console/{path}")
        times.append(time.perf_counter() - began)
        assert answer.status_code == 200, (path, answer.status_code)
    with CaptureQueriesContext(connections["operator"]) as captured:
        client.get(f"/console/{path}")
    return statistics.median(times[1:]), len(captured)


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
    sys.stdout.write(json.dumps(look(json.loads(sys.argv[1]))))
