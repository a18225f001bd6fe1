"""Lists by keyset: each row once, whatever is inserted meanwhile, and never past an index."""

import json
import re
from datetime import timedelta
from html import unescape
from uuid import uuid4

import pytest
from django.contrib import admin
from django.db import connections
from django.utils import timezone

from config.admin import paging
from config.ids import uuid7
from jobs.registry import queues
from onboarding.models import ProvisionedResource
from tests.conftest import create_tenant
from tests.console.operators import OPERATOR, attempt, job, made, shown, sign_up, signed_in

CROWD = 20_000
SMALL = 200  # Rows that a plan may sort, or read one after the other.


@pytest.fixture(scope="module")
def console(django_db_blocker):
    return signed_in()


def link(html: str, way: str) -> str | None:
    """Where a link of the page leads: "prev" or "next"."""
    found = re.search(rf'<a rel="{way}" href="([^"]+)"', html)
    return unescape(found[1]) if found else None


def ids(html: str, page: str = "jobs/job") -> list[str]:
    found = re.findall(rf"/console/{page}/([0-9a-f-]{{36}})[^/]*/change/", html)
    return list(dict.fromkeys(found))


def walk(console, path: str, *, each=lambda: None, page: str = "jobs/job") -> list[str]:
    """All that a list shows, page after page; `each` is called between them."""
    seen, html = [], shown(console, path)
    for _ in range(100):
        seen += ids(html, page)
        onward = link(html, "next")
        if onward is None:
            return seen
        each()
        html = shown(console, path.partition("?")[0] + onward)
    raise AssertionError("the pages have no end")


@pytest.fixture
def small_pages(monkeypatch):
    for of in admin.site._registry.values():
        monkeypatch.setattr(of, "list_per_page", 3)


def test_each_row_is_shown_once_while_rows_are_inserted(console, tenant, small_pages):
    there = [str(job(tenant).pk) for _ in range(10)]
    seen = walk(console, f"jobs/job/?tenant={tenant.slug}", each=lambda: job(tenant))
    assert seen == there[::-1]


def test_the_way_back_shows_the_same_rows_and_those_that_came(console, tenant, small_pages):
    there = [str(job(tenant).pk) for _ in range(7)]
    path = f"jobs/job/?tenant={tenant.slug}"
    first = shown(console, path)
    second = shown(console, "jobs/job/" + link(first, "next"))
    assert ids(second) == there[::-1][3:6]
    came = str(job(tenant).pk)
    back = shown(console, "jobs/job/" + link(second, "prev"))
    assert ids(back) == there[::-1][0:3]
    assert ids(shown(console, "jobs/job/" + link(back, "prev"))) == [came]
    assert link(shown(console, "jobs/job/" + link(back, "prev")), "prev") is None


def test_a_list_of_two_columns_goes_through_rows_of_one_moment(console, tenant, small_pages):
    work = job(tenant)
    at = timezone.now()
    there = {str(attempt(work, "jobs", n, started_at=at).pk) for n in range(8)}
    seen = walk(console, f"jobs/attempt/?q={work.pk}", page="jobs/attempt")
    assert sorted(seen) == sorted(there)


def test_sign_ups_are_walked_by_the_time_that_they_were_made(console, small_pages):
    now = timezone.now() + timedelta(days=1)  # The newest of all.
    there = [
        str(sign_up(create_tenant(), created_at=now + timedelta(seconds=n)).pk) for n in range(5)
    ]
    html = shown(console, "onboarding/pendingonboarding/?age=-hour")
    page = "onboarding/pendingonboarding"
    more = shown(console, f"{page}/" + link(html, "next"))
    assert (ids(html, page) + ids(more, page))[:5] == there[::-1]


def test_a_ledger_is_walked_tenant_by_tenant(console, tenant, small_pages):
    there = {
        str(made(ProvisionedResource, id=uuid4(), tenant_id=tenant.pk, step=f"s{n}", name="n",
                 lease=1).pk)
        for n in range(7)
    }  # fmt: skip
    page = "onboarding/provisionedresource"
    seen = walk(console, f"{page}/?tenant={tenant.slug}", page=page)
    assert len(seen) == 7
    assert set(seen) == there


def test_what_no_index_leads_to_is_looked_for_so_far_and_then_further(
    console, tenant, small_pages, monkeypatch
):
    monkeypatch.setattr(paging, "LOOKED_AT", 4)
    monkeypatch.setattr(paging, "FURTHER", 5_000)  # Behind whatever other tests left.
    old = job(tenant, last_error="the rare one")
    for _ in range(9):
        job(tenant)
    html = shown(console, "jobs/job/?q=rare+one")
    assert ids(html) == []
    assert "looked at 4 rows, back to" in html
    further = shown(console, "jobs/job/" + link(html, "next"))
    assert ids(further) == [str(old.pk)]


@pytest.mark.parametrize("place", ["older=nonsense", "older=W10", "newer=" + "A" * 400, "older=MQ"])
def test_a_place_that_is_none_shows_no_rows_of_another(console, place):
    assert console.get(f"/console/jobs/job/?{place}").status_code in {200, 302}


# ---- The plans, beside a crowd ----

CROWDED = """
insert into jobs_job (id, tenant_id, lane, kind, max_attempts, state, due_at, created_at,
    last_error, finished_at, args)
  select slipway.uuid7(), case when mod(n, 50) = 0 then %(other)s else %(tenant)s end, 'crowd:1',
    'mail.send', 3, case when mod(n, 1000) = 0 then 'dead_letter' else 'succeeded' end, now(),
    now() - make_interval(secs => %(crowd)s - n), '', now(), '{}'
  from generate_series(1, %(crowd)s) n;
insert into webhooks_event (id, tenant_id, type)
  select slipway.uuid7(), %(tenant)s, 'crowd.ed' from generate_series(1, %(crowd)s) n;
insert into webhooks_delivery (id, tenant_id, event_id, endpoint_id, lane, host, state,
    max_attempts, finished_at)
  select slipway.uuid7(), e.tenant_id, e.id, %(endpoint)s, 'endpoint:' || %(endpoint)s, 'h:443',
    case when mod(row_number() over (), 1000) = 0 then 'dead_letter' else 'succeeded' end, 10,
    now() from webhooks_event e where e.type = 'crowd.ed';
insert into jobs_attempt (id, tenant_id, queue, work_id, number, started_at, outcome, error,
    drainer)
  select slipway.uuid7(), tenant_id, 'jobs', id, 1, now() - make_interval(secs => mod(n, 3600)),
    case when state = 'succeeded' then 'succeeded' else 'failed' end, '', 1
  from (select *, row_number() over () n from jobs_job where lane = 'crowd:1') j;
insert into jobs_deadletter (id, tenant_id, queue, work_id, reason, error, resolved_at)
  select slipway.uuid7(), tenant_id, 'jobs', id, 'exhausted', '',
    case when mod(n, 100) <> 0 then now() end
  from (select *, row_number() over () n from jobs_job where lane = 'crowd:1') j;
insert into jobs_attempt (id, tenant_id, queue, work_id, number, started_at, outcome, error,
    drainer)
  select slipway.uuid7(), tenant_id, 'deliveries', id, 1,
    now() - make_interval(secs => mod(n, 3600) + 0.5), 'failed', '', 1
  from (select *, row_number() over () n from webhooks_delivery
    where endpoint_id = %(endpoint)s) d where mod(n, 10) = 0;
insert into jobs_deadletter (id, tenant_id, queue, work_id, reason, error)
  select slipway.uuid7(), tenant_id, 'deliveries', id, 'exhausted', 'HTTP 503: busy'
  from (select *, row_number() over () n from webhooks_delivery
    where endpoint_id = %(endpoint)s) d where mod(n, 4) = 0;
insert into webhooks_endpoint (id, tenant_id, url, host, description, event_types, custom_headers,
    secrets, ordered, disabled_reason, disabled_at)
  select slipway.uuid7(), %(tenant)s, 'https://h/', 'h' || mod(n, 5000) || ':443', '', '{}', '',
    '[]', false, case when mod(n, 1000) = 0 then 'gone' else '' end,
    case when mod(n, 1000) = 0 then now() end
  from generate_series(1, %(crowd)s) n;
insert into tenants_auditentry (id, at, tenant_id, actor, action, target, reason, request_id)
  select slipway.uuid7(), now(), %(tenant)s, 'system:crowd', 'crowd.' || mod(n, 20), 'crowd:' || n,
    '', '' from generate_series(1, %(crowd)s) n;
insert into jobs_lane (tenant_id, key, failures, failing_since)
  select %(tenant)s, 'crowd:' || n, case when mod(n, 200) = 0 then 5 else 0 end,
    case when mod(n, 200) = 0 then now() end
  from generate_series(1, %(crowd)s) n;
insert into jobs_lane (tenant_id, key) values (%(tenant)s, 'endpoint:' || %(endpoint)s);
"""
TABLES = (
    "jobs_job", "webhooks_event", "webhooks_delivery", "jobs_attempt", "jobs_deadletter",
    "tenants_auditentry", "jobs_lane", "webhooks_endpoint",
)  # fmt: skip
LEFT = ("jobs_attempt", "jobs_deadletter")  # And the works of all queues.
QUERIES = [
    *(f"jobs/job/{q}" for q in (
        "", "?state=dead_letter", "?state=pending", "?state=processing", "?state=succeeded",
        "?tenant={slug}", "?tenant={other}", "?tenant={other}&state=dead_letter", "?kind=mail.send",
        "?age=-hour", "?age=%2Bday", "?q=no+such+error", "?q={other}", "?ended=-hour",
        "?ended=%2Bday", "?ended={span}", "?state=succeeded&ended={span}",
        "?state=dead_letter&ended={span}", "?tenant={other}&ended={span}",
    )),
    *(f"webhooks/delivery/{q}" for q in (
        "", "?state=dead_letter", "?state=held", "?state=processing", "?tenant={other}",
        "?lane=endpoint:{endpoint}", "?q=ep_{endpoint}", "?q=h:443", "?host=h:443", "?age=-day",
        "?tenant={slug}&state=dead_letter", "?q=host:h", "?q=host:no.such", "?ended=-hour",
        "?state=succeeded&ended={span}", "?state=cancelled&ended={span}",
    )),
    *(f"webhooks/endpoint/{q}" for q in (
        "", "?q=host:h1", "?q=host:no.such", "?q=h1:443", "?disabled=yes&deleted=no",
        "?disabled=yes", "?disabled_reason=gone", "?tenant={other}", "?q=ep_{endpoint}",
    )),
    *(f"webhooks/event/{q}" for q in ("", "?tenant={other}", "?tenant={slug}", "?type=crowd.ed")),
    *(f"jobs/attempt/{q}" for q in (
        "", "?outcome=failed", "?outcome=lost", "?queue=jobs", "?tenant={other}", "?q={work}",
        "?q=no+such+error", "?q=host:h", "?q=host:no.such", "?queue=deliveries&q=host:h",
        "?q=dlv_{delivery}",
    )),
    *(f"jobs/deadletter/{q}" for q in (
        "", "?resolved=no", "?resolved=no&queue=jobs", "?resolved=no&reason=poison",
        "?tenant={other}", "?q={work}", "?reason=exhausted", "?q=host:h", "?q=host:no.such",
        "?resolved=no&q=host:h", "?resolved=no&queue=jobs&reason=exhausted&error=HTTP+503",
        "?queue=deliveries&age={span}", "?q=dlv_{delivery}", "?resolved=no&queue=deliveries",
    )),
    *(f"tenants/auditentry/{q}" for q in (
        "", "?action=crowd.7", "?actor=system:crowd", "?target=crowd:77", "?tenant={other}",
    )),
    *(f"jobs/lane/{q}" for q in (
        "", "?paused=yes", "?failing=yes", "?failing=often", "?paused=no&failing=often",
        "?paused=no", "?tenant={other}", "?q=ep_{endpoint}", "?q=endpoint:{endpoint}", "?q=crowd:7",
    )),
]  # fmt: skip


@pytest.fixture(scope="module")
def crowd(django_db_blocker):
    """Twenty thousand of each, nearly all of one tenant; analysed."""
    tenant, other = create_tenant(), create_tenant()
    endpoint = uuid7()
    with connections["owner"].cursor() as owner, connections[OPERATOR].cursor() as cursor:
        # By other files: ten thousand letters more make other plans, and so do forty messages: they
        # are read from one end to the other for each letter whose host is asked for.
        for table in {*LEFT, *(queue.table for queue in queues().values())}:
            owner.execute(f"truncate {table} cascade")
        cursor.execute(
            "insert into webhooks_endpoint (id, tenant_id, url, host, description, event_types,"
            " custom_headers, secrets, ordered, disabled_reason) values (%s, %s, 'https://h/',"
            " 'h:443', '', '{}', '', '[]', false, '')",
            [endpoint, tenant.pk],
        )
        values = {"tenant": tenant.pk, "other": other.pk, "crowd": CROWD, "endpoint": endpoint}
        for statement in CROWDED.split(";\n"):
            if statement.strip():
                cursor.execute(statement, values)
        cursor.execute("select id from jobs_job where lane = 'crowd:1' limit 1")
        (work,) = cursor.fetchone()
        cursor.execute("select id from webhooks_delivery where host = 'h:443' limit 1")
        (delivery,) = cursor.fetchone()
        for table in TABLES:
            owner.execute(f"analyze {table}")
    now = timezone.now()
    span = f"{now - timedelta(hours=1):%Y-%m-%dT%H:%M:%SZ}..{now:%Y-%m-%dT%H:%M:%SZ}"
    return {
        "slug": tenant.slug, "other": other.slug, "endpoint": endpoint, "work": work,
        "delivery": delivery, "span": span,
    }  # fmt: skip


def plans(console, path: str) -> list[tuple[str, list[dict]]]:
    """The page's statements about the crowd's tables, and each one's nodes as they were run."""
    asked: list[tuple] = []

    def heard(execute, sql, params, many, context):
        if any(f'FROM "{table}"' in sql for table in TABLES):
            asked.append((sql, params))
        return execute(sql, params, many, context)

    with connections[OPERATOR].execute_wrapper(heard):
        shown(console, path)
    found = []
    with connections[OPERATOR].cursor() as cursor:
        for sql, params in asked:
            cursor.execute(f"explain (analyze, format json) {sql}", params)
            (answer,) = cursor.fetchone()
            read = json.loads(answer) if isinstance(answer, str) else answer
            nodes = [read[0]["Plan"]]
            for node in nodes:
                nodes.extend(node.get("Plans", []))
            found.append((sql, nodes))
    return found


@pytest.mark.thorough
@pytest.mark.parametrize("query", QUERIES)
def test_no_filter_reads_or_sorts_a_crowd(console, crowd, query, monkeypatch):
    monkeypatch.setattr(paging, "LOOKED_AT", 500)
    found = plans(console, query.format(**crowd))
    assert found
    for sql, nodes in found:
        for node in nodes:
            rows = node["Actual Loops"] * (
                node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
            )
            told = (node["Node Type"], rows, sql)
            assert rows <= 700, told  # The rows that may be looked at, and a page.
            if node["Node Type"] in {"Seq Scan", "Sort"}:
                assert rows <= max(SMALL, 500), told


@pytest.mark.thorough
def test_the_newest_of_a_work_and_of_a_day_have_indexes_on_every_partition(operator):
    missing = operator.execute(
        "select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid"
        " where i.inhparent = 'jobs_attempt'::regclass and (select count(*) from pg_index x"
        " where x.indrelid = c.oid and x.indisvalid) < 3"
    ).fetchall()
    assert missing == []
