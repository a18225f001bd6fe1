"""The console's first page: what is stuck, why, and how everything fares."""

import re
import uuid
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connections
from django.test.utils import CaptureQueriesContext

from console import counting, overview, reading, rollup
from console.charts import Series, draw
from console.models import Hour, Minute
from console.reading import read
from console.roles import Role
from console.spread import bucket
from console.words import count, lasting, share
from jobs.models import Drainer, Lane
from jobs.registry import queue
from tests.console.operators import job, letter, made, shown, sign_up, signed_in
from tests.console.test_roles import signed_in as signed_in_as
from tests.console.test_rollup import put
from tests.lifecycle.test_suspending import close, suspend
from tests.webhooks.ears import listen
from webhooks.models import Endpoint

OPERATOR = "operator"
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
SPANS = ("1h", "24h", "7d", "30d")


def now() -> datetime:
    return datetime.now(UTC)


def this_minute() -> datetime:
    return now().replace(second=0, microsecond=0)


@pytest.fixture
def clean(operator):
    """Nothing to tell: what others left in the tables that the page reads is put aside."""

    def wipe() -> None:
        for table in ("console_minute", "console_hour", "jobs_deadletter", "jobs_lane"):
            operator.execute(f"delete from {table}")
        operator.execute("update jobs_drainer set beat_at = now() - interval '1 hour'")
        operator.execute("update webhooks_endpoint set disabled_at = null, disabled_reason = ''")

    wipe()
    yield operator
    wipe()


@pytest.fixture
def worker(clean):
    return made(Drainer, host="harbour", pid=41, slots=8, busy=3)


def tell(at: datetime, queue: str = "deliveries", table=Minute, **numbers) -> None:
    said = {"made": 100, "traced": 100, "ended": {"succeeded": 98, "dead_letter": 2}}
    row = table(at=at, queue=queue, **(said | numbers))
    row.save(using=OPERATOR, force_insert=True)


def needs() -> dict[str, str]:
    return {need.what: need.why for need in overview.build(span="1h").needs}


def page(browser, span: str = "1h") -> str:
    return browser.get(f"/console/?range={span}").content.decode()


def test_nothing_to_do_is_said_so(worker):
    tell(this_minute() - MINUTE, depth={}, oldest={})
    html = page(signed_in())
    assert "Nothing. Everything that was accepted is done, or on its way." in html


def test_it_says_what_is_stuck_and_why_and_leads_there(clean, tenant):
    dead = job(tenant, state="dead_letter", last_error="HTTP 503: no upstream")
    dead_letter = letter(dead, "jobs", error="HTTP 503: no upstream")
    lane = made(
        Lane,
        tenant_id=tenant.pk,
        key="endpoint:1",
        operator_paused_until=now() + HOUR,
        operator_why="ticket 4711",
    )
    made(Lane, tenant_id=tenant.pk, key="endpoint:2", failures=7, failing_since=now())
    tell(
        this_minute() - MINUTE,
        depth={"pending": 3, "unknown": 2},
        oldest={"pending": 1200, "unknown": 5},
    )
    found = needs()
    assert found["1 dead in jobs"].startswith("HTTP 503: no upstream (exhausted, the last ")
    assert found["1 lane is paused"] == "endpoint:1: an operator: ticket 4711"
    assert found["1 lane is failing"].startswith("endpoint:2: 7 failures in a row since")
    assert "3 works wait, and nobody does them" in found["No worker is alive"]
    assert "2 in deliveries: sent or not?" in found
    browser = signed_in()
    html = page(browser)
    assert f'href="/console/jobs/lane/{lane.pk}/change/"' in html
    assert tenant.slug in html
    [link] = re.findall(r'href="([^"]+)">1 dead in jobs', html)
    listed = browser.get(link.replace("&amp;", "&")).content.decode()
    assert str(dead_letter.pk) in listed
    worst = [need.look for need in overview.build(span="1h").needs]
    assert worst == sorted(worst, key=lambda look: look != "bad")


def test_it_says_why_work_waits(worker):
    tell(this_minute() - MINUTE, depth={"pending": 5}, oldest={"pending": 600})
    assert needs()["5 wait in deliveries"] == (
        "The oldest has waited 10 min: their lanes are paused or full."
    )
    Drainer.objects.using(OPERATOR).filter(pk=worker.pk).update(busy=8)
    assert "every worker's slots are full" in needs()["5 wait in deliveries"]


def test_works_of_suspended_tenants_are_named_apart(worker):
    tell(this_minute() - MINUTE, depth={"pending": 5, "withheld": 2}, oldest={"pending": 600})
    assert needs()["5 wait in deliveries"].endswith(" 2 are of suspended tenants.")
    Minute.objects.using(OPERATOR).all().delete()
    tell(this_minute() - MINUTE, depth={"pending": 2, "withheld": 2}, oldest={"pending": 0})
    page_of = overview.build(span="1h")
    assert page_of.needs == []
    [tile] = [tile for tile in page_of.tiles if tile.name == "Open work"]
    assert tile.value == "2"  # Each work once.


@pytest.mark.parametrize(
    ("stop", "said"), [(suspend, "is suspended"), (close, "is closing, until")]
)
def test_a_works_page_says_that_its_tenant_is_suspended(worker, tenant, stop, said):
    waiting, erasing = job(tenant), job(tenant, lane="erasures")
    later = job(tenant, state="scheduled", due_at=now() + HOUR)
    browser = signed_in()
    assert "a drainer with a free slot" in shown(browser, f"jobs/job/{waiting.pk}/change/")
    stop(tenant)
    for work in (waiting, later):
        html = shown(browser, f"jobs/job/{work.pk}/change/")
        assert said in html
        assert "a drainer with a free slot" not in html
    # What the law asks for goes on all the same.
    assert "a drainer with a free slot" in shown(browser, f"jobs/job/{erasing.pk}/change/")


def test_a_shut_gate_is_why_work_waits(worker, clean, tenant):
    tell(this_minute() - MINUTE, depth={"pending": 5}, oldest={"pending": 600})
    waiting = job(tenant)
    before = clean.execute("select held_since, held_why from jobs_gate").fetchone()
    try:
        clean.execute("update jobs_gate set held_since = now(), held_why = 'it went back in time'")
        assert "nothing is claimed since the restore" in needs()["5 wait in deliveries"]
        html = shown(signed_in(), f"jobs/job/{waiting.pk}/change/")
        assert "nothing is claimed since the restore (it went back in time)" in html
    finally:
        clean.execute("update jobs_gate set held_since = %s, held_why = %s", before)


def test_a_shut_gate_comes_first(worker, clean):
    tell(this_minute() - MINUTE, depth={}, oldest={})
    before = clean.execute("select held_since, held_why from jobs_gate").fetchone()
    try:
        clean.execute("update jobs_gate set held_since = now(), held_why = 'it went back in time'")
        [(what, why)] = needs().items()
        assert what == "No work is claimed"
        assert "it went back in time" in why
    finally:
        clean.execute("update jobs_gate set held_since = %s, held_why = %s", before)


def test_old_numbers_are_said_to_be_old(worker):
    assert "These numbers are old" in needs()
    tell(this_minute() - 10 * MINUTE, depth={}, oldest={})
    assert "does beat run?" in needs()["These numbers are old"]
    tell(this_minute() - MINUTE, depth={}, oldest={})
    assert needs() == {}


def test_what_helps_is_said_as_it_is_typed(clean):
    html = page(signed_in())
    for command in ("celery -A config worker", "manage.py rollup"):
        assert f"<code>{command}</code>" in html
    assert "`" not in html.partition('class="needs"')[2].partition("</section>")[0]


def test_what_nobody_accounts_for_is_not_rounded_away(worker):
    tell(this_minute() - 2 * MINUTE, made=1_000_000, traced=1_000_000)
    tell(
        this_minute() - MINUTE,
        made=1_000_000,
        traced=999_998,
        untraced=[{"id": str(uuid.uuid4()), "state": "dead_letter"}],
        depth={},
        oldest={},
    )
    html = page(signed_in())
    assert "99.99 %" in html
    assert "2 works nobody accounts for" in html
    assert "Nobody accounts for these" in html
    assert "1 of" in html  # Of the two one is listed; the other is not even there.


def test_what_is_accounted_for_reads_a_hundred(worker, clean, monkeypatch):
    # Of one queue: works of other tests lost what accounted for them.
    monkeypatch.setattr(counting, "served", lambda: [queue("parcels")])
    clean.execute("delete from works_parcel")
    for state in ("pending", "scheduled", "failed", "held", "discarding"):
        put(clean, state, at=this_minute() - MINUTE)
    put(clean, "succeeded", at=this_minute() - MINUTE, finished_at=now())
    put(clean, "processing", at=this_minute() - MINUTE, drainer=worker.pk, lease=1)
    rollup.roll_up(now=this_minute())
    tiles = overview.build(span="1h").tiles
    assert overview.completeness(read("1h", now()).points) == (7, 7)
    [tile] = [tile for tile in tiles if tile.name == "Accounted for"]
    assert (tile.value, tile.look) == ("100 %", "good")


def test_numbers_are_those_of_the_range(worker):
    hour = now().replace(minute=0, second=0, microsecond=0)
    tell(hour - 2 * HOUR, table=Hour, took={str(bucket(200)): 98})
    tell(hour - 50 * HOUR, table=Hour, took={str(bucket(200)): 98})
    for span, wanted in (("1h", "—"), ("24h", "98.00 %"), ("7d", "98.00 %")):
        [tile] = [t for t in overview.build(span=span).tiles if t.name == "Deliveries arrived"]
        assert tile.value == wanted
    of_week = {line.queue: line.cells for line in overview.build(span="7d").ended}
    assert [text for text, _ in of_week["deliveries"]] == ["196", "0", "0", "4"]
    html = page(signed_in(), "24h")
    assert re.search(r"p50 <b>(19|20|21)\d ms</b>", html)


def rows_of(browser, url: str) -> int:
    """How many rows a list shows, which must know each of its address's filters."""
    answer = browser.get(url.replace("&amp;", "&"))
    assert answer.status_code == 200, (url, answer.status_code)
    return answer.content.decode().count('class="action-select"')


def test_each_number_leads_to_just_its_rows(worker, tenant):
    for error in ("HTTP 503: busy", "HTTP 503: busy", "no such host"):
        letter(job(tenant, state="dead_letter", last_error=error), "jobs", error=error)
    made(Lane, tenant_id=tenant.pk, key="a", operator_paused_until=now() + HOUR, failures=9)
    made(Lane, tenant_id=tenant.pk, key="b", paused_until=now() + HOUR)
    made(Lane, tenant_id=tenant.pk, key="over", paused_until=now() - HOUR)
    for key in ("c", "d", "e"):
        made(Lane, tenant_id=tenant.pk, key=key, failures=7, failing_since=now())
    made(Lane, tenant_id=tenant.pk, key="once", failures=1, failing_since=now())
    there, gone = (listen(tenant.ref) for _ in range(2))
    for endpoint, deleted in ((there, None), (gone, now())):
        Endpoint.objects.using(OPERATOR).filter(pk=endpoint.pk).update(
            disabled_at=now(), disabled_reason="gone", deleted_at=deleted
        )
    tell(this_minute() - MINUTE, depth={"dead_letter": 3}, oldest={})
    browser, built = signed_in(), overview.build(span="1h")
    numbers = {need.what: need.url for need in built.needs if "disabled" not in need.what}
    assert {what: rows_of(browser, url) for what, url in numbers.items()} == {
        "2 dead in jobs": 2,
        "1 dead in jobs": 1,
        "2 lanes are paused": 2,
        "3 lanes are failing": 3,
    }
    tiles = {tile.name: (tile.value, tile.url) for tile in built.tiles}
    for name in ("Dead letters", "Lanes paused", "Lanes failing"):
        value, url = tiles[name]
        assert rows_of(browser, url) == int(value), name
    [disabled] = [need for need in built.needs if "disabled" in need.what]
    assert rows_of(browser, disabled.url) == int(disabled.what.split()[0])
    there.delete(using=OPERATOR)


def test_each_tile_leads_to_a_list_or_to_what_lists_it(worker):
    tell(this_minute() - MINUTE, depth={"pending": 3}, oldest={})
    html = page(signed_in())
    for tile in overview.build(span="1h").tiles:
        if tile.url.startswith("#"):  # Below, on the page: each number of that table has its list.
            assert f'id="{tile.url[1:]}"' in html
            assert tile.name == "Accounted for"
        else:
            assert tile.url.startswith("/console/"), tile.name


def test_open_work_of_all_queues_adds_up_and_each_number_leads_to_its_list(worker, tenant):
    job(tenant, state="held")
    tell(
        this_minute() - MINUTE,
        depth={"pending": 5, "held": 2, "withheld": 4, "dead_letter": 9},
        oldest={"pending": 600, "held": 7200},
    )
    tell(this_minute() - MINUTE, "jobs", depth={"held": 1}, oldest={"held": 60})
    [tile] = [tile for tile in overview.build(span="1h").tiles if tile.name == "Open work"]
    browser = signed_in_as(Role.VIEWER)
    with CaptureQueriesContext(connections[OPERATOR]) as asked:
        html = browser.get(tile.url).content.decode()
    assert tile.value == "8"
    assert "<td><b>8</b></td><td><b>9</b></td>" in html
    assert not [q["sql"] for q in asked if "jobs_job" in q["sql"] or "_delivery" in q["sql"]]
    assert "oldest 10 min" in html
    assert "4 of those that are pending" in html
    every = html.partition("<tbody>")[2].partition("</tbody>")[0].split("<tr>")
    rows = "<tr>".join(line for line in every if '<th scope="row"><a' in line)  # It has a list.
    numbers = re.findall(r"<td[^>]*>(?!<b>)(.*?)</td>", rows, re.DOTALL)
    assert numbers
    assert all(cell.startswith("<a href=") for cell in numbers)
    links = dict(re.findall(r'<a href="(/console/[^"]+state=held)">(\d+)</a>', rows))
    assert links["/console/webhooks/delivery/?state=held"] == "2"
    [line] = [line for line in rows.split("<tr>") if ">jobs</a>" in line]
    assert '<a href="/console/jobs/job/?state=held">1</a>' in line
    for link in set(re.findall(r'href="(/console/[^"]+)"', line)):
        assert browser.get(link.replace("&amp;", "&")).status_code == 200, link


def test_the_oldest_leads_to_where_it_waits(worker):
    tell(this_minute() - MINUTE, "jobs", depth={"failed": 1}, oldest={"failed": 900, "pending": 2})
    [ages] = [chart for chart in overview.build(span="1h").charts if chart.id == "ages"]
    [of_jobs] = [one for one in ages.series if one.name == "jobs"]
    assert of_jobs.url == "/console/jobs/job/?state=failed"


def test_workers_alive_lead_to_those_alone(worker):
    sunk = made(Drainer, host="sunk", pid=7, slots=8, beat_at=now() - HOUR)
    gone = made(Drainer, host="gone", pid=8, slots=8, dead_at=now())
    built, browser = overview.build(span="1h"), signed_in()
    [tile] = [tile for tile in built.tiles if tile.name == "Workers"]

    def listed(url: str) -> set[int]:
        found = re.findall(
            r"/console/jobs/drainer/(\d+)/change/", browser.get(url).content.decode()
        )
        return {int(number) for number in found}

    assert listed(tile.url) == {worker.pk}
    assert len(listed(tile.url)) == int(tile.value)
    silent = listed("/console/jobs/drainer/?alive=no")
    assert {sunk.pk, gone.pk} <= silent
    assert worker.pk not in silent


def test_numbers_of_a_range_lead_to_what_ended_in_it(worker, tenant, other_tenant):
    tell(this_minute() - MINUTE, took={str(bucket(200)): 98}, depth={}, oldest={})
    soon, long_ago = now() - 30 * MINUTE, now() - 26 * HOUR
    done = [
        sign_up(whose, state="succeeded", finished_at=at)
        for whose, at in ((tenant, soon), (other_tenant, long_ago))
    ]
    browser = signed_in()
    for span, wanted in (("1h", 1), ("24h", 1), ("7d", 2), ("30d", 2)):
        built = overview.build(span=span)
        [tile] = [tile for tile in built.tiles if tile.name == "Sign-ups ready"]
        html = browser.get(tile.url).content.decode()
        assert sum(work.slug in html for work in done) == wanted, span
        [took] = [chart for chart in built.charts if chart.id == "took-onboarding"]
        assert {one.url for one in took.series} == {tile.url}


@pytest.mark.parametrize(
    "span", ["24h", *(pytest.param(n, marks=pytest.mark.thorough) for n in SPANS if n != "24h")]
)
def test_every_link_of_the_page_leads_somewhere(worker, tenant, span):
    tell(
        this_minute() - MINUTE,
        depth={state.value: 3 for state in counting.OPEN},
        oldest={state.value: 999 for state in counting.OPEN},
        busiest={str(tenant.pk): 5},
    )
    letter(job(tenant, state="dead_letter"), "jobs")
    made(Lane, tenant_id=tenant.pk, key="a", failures=7, failing_since=now())
    browser = signed_in()
    html = page(browser, span).partition('<div id="overview"')[2]
    links = set(re.findall(r'href="(/console/[^"#]+)"', html.partition("<footer")[0]))
    assert len(links) > 20
    for link in links:
        assert browser.get(link.replace("&amp;", "&")).status_code == 200, link


@pytest.mark.parametrize(("span", "bars"), [("7d", 84), ("30d", 120)])
def test_a_long_range_reads_a_row_for_each_bar_and_queue(worker, clean, monkeypatch, span, bars):
    clean.execute(
        "insert into console_hour (at, queue, depth, oldest, made, traced, untraced, ended, took,"
        " busiest) select at, queue, '{\"pending\": 3}', '{\"pending\": 60}', 10, 10, '[]',"
        " '{\"succeeded\": 10}', '{\"20\": 10}', '{\"1\": 10}'"
        " from generate_series(date_trunc('hour', now()) - interval '40 days', now(), '1 hour') at,"
        " unnest(array['deliveries', 'jobs']) queue"
    )
    read_rows = []
    fold = reading._folded
    monkeypatch.setattr(reading, "_folded", lambda row: read_rows.append(row) or fold(row))
    told = read(span, now())
    assert len(told.moments) == bars
    assert len(read_rows) <= 2 * bars
    hours = (now() - told.moments[0]) // HOUR + 1
    assert sum(point.made for point in told.points) == 20 * hours
    assert told.busiest == {"1": 20 * hours}
    of = [point for point in told.points if point.queue == "deliveries"]
    assert sum(point.ended["succeeded"] for point in of) == 10 * hours
    assert sum(point.took["20"] for point in of) == 10 * hours
    assert {(p.depth["pending"], p.oldest["pending"]) for p in of} == {(3, 60)}


def test_busy_tenants_and_workers_are_named(worker, tenant):
    tell(this_minute() - MINUTE, busiest={str(tenant.pk): 60, "999999": 6}, depth={}, oldest={})
    html = page(signed_in())
    assert f'href="/console/tenants/tenant/{tenant.pk}/change/">{tenant.slug}</a>' in html
    assert f'href="/console/tenants/tenant/{tenant.pk}/change/#works">60</a>' in html
    assert ">tenant 999999<" not in html  # It is gone, its numbers are not.
    assert "tenant 999999" in html
    assert "harbour" in html
    assert "3 of 8 slots busy" in html


@pytest.mark.parametrize("span", [*SPANS, "nonsense"])
def test_every_chart_has_words_and_a_table(worker, span):
    tell(this_minute() - MINUTE, depth={"pending": 3}, oldest={"pending": 3})
    html = page(signed_in(), span)
    charts = re.findall(r"<figure class=\"chart\".*?</figure>", html, re.DOTALL)
    assert len(charts) >= 9
    for chart in charts:
        assert re.search(r'role="img" aria-labelledby="[\w-]+ [\w-]+"', chart)
        assert "<title id=" in chart
        assert "<desc id=" in chart
        assert "<table>" in chart
    current = "1h" if span == "nonsense" else span
    assert f'href="?range={current}" aria-current="page"' in html


def test_shapes_have_no_colours_of_their_own(worker):
    tell(this_minute() - MINUTE, depth={"pending": 3}, oldest={"pending": 3})
    html = page(signed_in()).partition('<div id="overview"')[2].partition("<details class")[0]
    for svg in re.findall(r"<svg.*?</svg>", html, re.DOTALL):
        assert not re.search(r"(fill|stroke|style|color)=|#[0-9a-f]{3,6}\b", svg)


def test_what_strangers_wrote_stays_text(worker, tenant):
    evil = "<script>alert(1)</script>"
    dead = job(tenant, state="dead_letter", last_error=evil)
    letter(dead, "jobs", error=evil)
    made(Lane, tenant_id=tenant.pk, key=evil, failures=7, failing_since=now())
    html = page(signed_in())
    assert "<script>alert" not in html
    assert "&lt;script&gt;alert(1)" in html


@pytest.mark.parametrize("span", SPANS)
@pytest.mark.parametrize("role", list(Role))
def test_the_page_asks_a_dozen_statements_at_most(worker, tenant, span, role):
    browser = signed_in_as(role)
    for n in range(1, 50):
        for name in ("deliveries", "jobs"):
            tell(this_minute() - n * MINUTE, name, busiest={str(tenant.pk): 1}, depth={})
    for n in range(12):
        made(Lane, tenant_id=tenant.pk, key=f"endpoint:{n}", failures=7, failing_since=now())
    letter(job(tenant, state="dead_letter"), "jobs")
    browser.get("/console/")
    with CaptureQueriesContext(connections[OPERATOR]) as asked:
        assert browser.get(f"/console/?range={span}").status_code == 200
    statements = [query["sql"] for query in asked]
    assert len(statements) <= 12, "\n".join(statements)
    queues = ("jobs_job", "webhooks_delivery", "campaigns_message", "onboarding_pending")
    assert not [one for one in statements if any(f'"{name}' in one for name in queues)]


def test_lanes_are_found_by_their_indexes(clean):
    clean.execute(
        "insert into jobs_lane (tenant_id, key, failures, failing_since, operator_paused_until)"
        " select 9000000 + n, 'crowd:' || n, case when mod(n, 500) = 0 then 5 else 0 end,"
        " case when mod(n, 500) = 0 then now() end,"
        " case when mod(n, 700) = 0 then now() + interval '1 hour' end"
        " from generate_series(1, 80000) n"
    )
    clean.execute("analyze jobs_lane")
    with CaptureQueriesContext(connections[OPERATOR]) as asked:
        assert overview.build(span="1h").lanes.slow
    [sql] = [query["sql"] for query in asked if '"jobs_lane"' in query["sql"]]
    plan = "\n".join(row[0] for row in clean.execute(f"explain {sql}"))
    assert "Seq Scan" not in plan, plan


def test_a_role_without_rights_sees_the_page_and_no_more(worker):
    html = page(signed_in_as(Role.VIEWER))
    assert "Needs a person" in html
    assert "/console/operators/" not in html
    assert "/console/operators/" in page(signed_in_as(Role.ADMINISTRATOR))


def test_a_line_breaks_where_nobody_looked():
    moments = [this_minute() + n * MINUTE for n in range(4)]
    chart = draw(
        id="c",
        title="C",
        kind="lines",
        moments=moments,
        series=[Series("a", "series-1", [1.0, None, 2.0, 4.0])],
        say=count,
        fold=max,
    )
    assert chart.series[0].path.count("M") == 2
    assert "a: last 4, highest 4" in chart.summary
    assert [text for _, text in [(t.place, t.text) for t in chart.up]] == ["0", "2.5", "5"]


def test_bars_are_piled_up():
    moments = [this_minute()]
    chart = draw(
        id="c",
        title="C",
        kind="bars",
        moments=moments,
        series=[Series("a", "x", [3.0]), Series("b", "y", [2.0])],
        say=count,
    )
    low, high = (re.findall(r"M[\d.]+ ([\d.]+)h[\d.]+V([\d.]+)", s.path)[0] for s in chart.series)
    assert low[0] == high[1]  # One begins where the other ends.
    assert float(high[0]) == 8.0  # 3 and 2 fill the axis, which ends at 5.


@pytest.mark.parametrize(
    ("said", "text"),
    [
        (count(12_345), "12,345"),
        (count(1_234_567), "1.23M"),
        (count(0.5), "0.5"),
        (share(0, 0), "—"),
        (share(999_999, 1_000_000), "99.99 %"),
        (share(5, 5), "100 %"),
        (lasting(0.04), "40 ms"),
        (lasting(1.24), "1.2 s"),
        (lasting(600), "10 min"),
        (lasting(3 * 86400), "3 d"),
    ],
)
def test_numbers_read_as_people_say_them(said, text):
    assert said == text
