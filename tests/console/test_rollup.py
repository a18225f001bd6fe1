"""The overview's numbers: counted once a minute, by indexes, and never twice."""

import json
import threading
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from django.core.management import call_command
from django.db import connections
from django.test.utils import CaptureQueriesContext

from config.ids import uuid7
from console import counting, losses, overview, rollup
from console.models import Hour, Minute
from console.reading import read
from console.spread import add_up, bucket, quantile
from jobs.registry import queue, queues
from tests.lifecycle.test_suspending import close, suspend

QUEUE = "parcels"
TABLE = "works_parcel"
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)


def now() -> datetime:
    return datetime.now(UTC)


def this_minute() -> datetime:
    return now().replace(second=0, microsecond=0)


def id_at(moment: datetime):
    """An id that was made then."""
    made = uuid7().int
    return type(uuid7())(int=(int(moment.timestamp() * 1000) << 80) | (made & ((1 << 80) - 1)))


@pytest.fixture
def clean(operator: psycopg.Connection):
    """No numbers and none of our works: what a test counts is its own."""

    def wipe() -> None:
        for table in ("console_minute", "console_hour", TABLE):
            operator.execute(f"delete from {table}")
        operator.execute("delete from jobs_deadletter where queue = %s", [QUEUE])

    wipe()
    yield operator
    wipe()


def put(connection: psycopg.Connection, state: str, *, at: datetime, **columns):
    """A work of ours, accepted at that moment."""
    row = {
        "id": id_at(at),
        "tenant_id": 9_000_001,
        "lane": "here:1",
        "max_attempts": 3,
        "state": state,
        "created_at": at,
        **columns,
    }
    names = ", ".join(row)
    marks = ", ".join(["%s"] * len(row))
    connection.execute(f"insert into {TABLE} ({names}) values ({marks})", list(row.values()))
    return row["id"]


def letter(connection: psycopg.Connection, work, *, at: datetime) -> None:
    connection.execute(
        "insert into jobs_deadletter (id, tenant_id, queue, work_id, reason, error, created_at)"
        " values (%s, 9000001, %s, %s, 'failed', 'no', %s)",
        [uuid7(), QUEUE, work, at],
    )


def minute(at: datetime) -> Minute:
    return Minute.objects.using("operator").get(at=at, queue=QUEUE)


def hours() -> list[Hour]:
    return list(Hour.objects.using("operator").filter(queue=QUEUE).order_by("at"))


def test_it_counts_what_was_accepted_what_ended_and_what_lies_there(clean):
    end = this_minute()
    begun = end - MINUTE
    took = timedelta(seconds=8)
    put(clean, "succeeded", at=begun, finished_at=begun + took)
    put(clean, "succeeded", at=begun, finished_at=begun + took)
    put(clean, "cancelled", at=begun, finished_at=begun + took)
    put(clean, "pending", at=begun)
    put(clean, "pending", at=end - 3 * MINUTE, due_at=end - 3 * MINUTE)
    dead = put(clean, "dead_letter", at=begun)
    letter(clean, dead, at=begun + took)
    rolled = rollup.roll_up(now=end + timedelta(seconds=1))
    assert rolled.minutes == 60  # What a new installation looks back.
    row = minute(begun)
    assert (row.made, row.traced, row.untraced) == (5, 5, [])
    assert row.ended == {"succeeded": 2, "cancelled": 1, "dead_letter": 1}
    assert row.took == {str(bucket(8000)): 2}
    assert row.depth == {"pending": 2, "dead_letter": 1}
    assert row.oldest["pending"] >= 180
    assert row.busiest == {"9000001": 3}
    assert minute(end - 3 * MINUTE).made == 1
    assert minute(end - 3 * MINUTE).depth is None  # Nobody looked then.


def test_a_work_waits_since_it_is_due_and_not_since_it_was_accepted(clean):
    end, long_ago = this_minute(), this_minute() - timedelta(hours=14)
    put(clean, "pending", at=long_ago, due_at=now())  # Its retry became due this second.
    put(clean, "failed", at=long_ago, due_at=now() + timedelta(hours=1))
    rollup.roll_up(now=end)
    oldest = minute(end - MINUTE).oldest
    assert oldest["pending"] < 60
    assert oldest["failed"] == 0  # Its time has not come.
    put(clean, "pending", at=end - 9 * MINUTE, due_at=end - 9 * MINUTE)
    put(clean, "failed", at=long_ago, due_at=end - 5 * MINUTE)
    rollup.roll_up(now=end)
    oldest = minute(end - MINUTE).oldest
    assert 540 <= oldest["pending"] < 660  # It is not the one with the lowest id.
    assert 300 <= oldest["failed"] < 420


@pytest.mark.parametrize("stop", [suspend, close])
def test_what_a_suspended_tenant_has_is_counted_and_is_not_late(clean, tenant, stop):
    end, long_ago = this_minute(), this_minute() - timedelta(hours=2)
    for _ in range(2):
        put(clean, "pending", at=long_ago, due_at=long_ago, tenant_id=tenant.pk)
    put(clean, "pending", at=end - 2 * MINUTE, due_at=end - 2 * MINUTE)
    rollup.roll_up(now=end)
    assert minute(end - MINUTE).oldest["pending"] >= 7200
    stop(tenant)
    rollup.roll_up(now=end)
    row = minute(end - MINUTE)
    assert row.depth == {"pending": 3, "withheld": 2}
    assert 120 <= row.oldest["pending"] < 600


def test_a_minute_counted_again_says_the_same(clean):
    end = this_minute()
    put(clean, "succeeded", at=end - MINUTE, finished_at=end - MINUTE)
    rollup.roll_up(now=end)
    before = list(Minute.objects.using("operator").order_by("at", "queue").values())
    rolled = rollup.roll_up(now=end + timedelta(seconds=30))
    assert rolled.minutes == 1
    after = list(Minute.objects.using("operator").order_by("at", "queue").values())
    for one in (*before, *after):
        one.pop("oldest")  # It ages.
    assert after == before


def test_what_was_under_way_at_the_minutes_end_is_counted_by_the_next_run(clean):
    end = this_minute()
    rollup.roll_up(now=end)
    put(clean, "succeeded", at=end - MINUTE, finished_at=end - timedelta(milliseconds=1))
    rollup.roll_up(now=end + MINUTE)
    assert minute(end - MINUTE).ended == {"succeeded": 1}
    assert minute(end - MINUTE).made == 1


@pytest.mark.thorough
def test_a_pause_is_made_good_up_to_a_day(clean):
    end = this_minute()
    rollup.roll_up(now=end - timedelta(hours=30))
    put(clean, "succeeded", at=end - timedelta(hours=3), finished_at=end - timedelta(hours=3))
    assert rollup.roll_up(now=end).minutes == 24 * 60
    assert minute(end - timedelta(hours=3)).ended == {"succeeded": 1}
    assert sum(hour.ended.get("succeeded", 0) for hour in hours()) == 1


def test_two_at_once_do_no_harm(clean, superuser):
    end = this_minute()
    put(clean, "succeeded", at=end - MINUTE, finished_at=end - MINUTE)
    with psycopg.connect(superuser.info.dsn, dbname=superuser.info.dbname) as other:
        other.execute("select pg_advisory_xact_lock(%s)", [rollup._LOCK])
        assert rollup.roll_up(now=end).busy
        assert not Minute.objects.using("operator").exists()
    results = []
    threads = [
        threading.Thread(target=lambda: results.append(rollup.roll_up(now=end))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert any(not rolled.busy for rolled in results)
    assert minute(end - MINUTE).ended == {"succeeded": 1}
    assert [hour.ended.get("succeeded", 0) for hour in hours()][-1] == 1


@pytest.mark.parametrize(
    ("state", "columns"),
    [
        ("dead_letter", {}),  # With no letter nobody will ever see it.
        ("processing", {"drainer": 999_999_999, "lease": 1}),  # By a drainer that never was.
        ("processing", {}),
        ("succeeded", {}),  # It ended, and nobody knows when.
        ("pending", {"finished_at": now()}),
    ],
)
def test_a_work_nobody_accounts_for_is_seen(clean, state, columns):
    end = this_minute()
    put(clean, "pending", at=end - MINUTE)
    lost = put(clean, state, at=end - MINUTE, **columns)
    rollup.roll_up(now=end)
    row = minute(end - MINUTE)
    assert (row.made, row.traced) == (2, 1)
    assert row.untraced == [{"id": str(lost), "state": state}]


def test_what_is_put_right_is_sound_again(clean):
    end = this_minute()
    dead = put(clean, "dead_letter", at=end - 30 * MINUTE)
    rollup.roll_up(now=end)
    assert minute(end - 30 * MINUTE).traced == 0
    letter(clean, dead, at=end)
    rollup.roll_up(now=end + MINUTE)
    assert minute(end - 30 * MINUTE).traced == 1
    assert sum(hour.made - hour.traced for hour in hours()) == 0


def test_a_row_that_is_gone_is_missed(clean):
    hour = now().replace(minute=0, second=0, microsecond=0)
    work = put(clean, "pending", at=hour - 40 * MINUTE)
    rollup.roll_up(now=hour - 30 * MINUTE)
    assert minute(hour - 40 * MINUTE).traced == 1
    clean.execute(f"delete from {TABLE} where id = %s", [work])
    rollup.roll_up(now=hour)  # At an hour's end all of its works are asked after.
    row = minute(hour - 40 * MINUTE)
    assert (row.made, row.traced, row.untraced) == (1, 0, [])
    [last] = [each for each in hours() if each.at == hour - timedelta(hours=1)]
    assert (last.made, last.traced) == (1, 0)


@pytest.fixture
def alone(monkeypatch):
    """Of our queue alone: works of other tests lost what accounted for them."""
    monkeypatch.setattr(counting, "served", lambda: [queue(QUEUE)])


def lost(*, span: str = "1h") -> tuple[int, set[str]]:
    told = read(span, now())
    return told.lost, {one["id"] for _, one in told.strays}


def test_what_was_lost_is_counted_however_old_it_is(clean, alone):
    hour = now().replace(minute=0, second=0, microsecond=0)
    old = hour - timedelta(days=40)
    dead, undone = put(clean, "dead_letter", at=old), put(clean, "discarding", at=old, lease=7)
    taken = put(clean, "processing", at=old, drainer=999_999_999, lease=1)
    fine = put(clean, "dead_letter", at=old)
    letter(clean, fine, at=old)
    for state in ("pending", "scheduled", "failed", "held", "discarding"):
        put(clean, state, at=old)
    rollup.roll_up(now=hour)
    missing = {str(work) for work in (dead, undone, taken)}
    for span in ("1h", "24h", "7d", "30d"):
        assert lost(span=span) == (3, missing)
    assert overview.build(span="1h").needs[0].what == "No worker is alive"
    [tile] = [t for t in overview.build(span="1h").tiles if t.name == "Accounted for"]
    assert (tile.value, tile.look, tile.url) == ("0.00 %", "bad", "#untraced")
    assert sum(row.made for row in hours()) == 0  # They are no works of these hours.
    letter(clean, dead, at=hour)
    rollup.roll_up(now=hour + MINUTE)  # Each minute, while there are some.
    assert lost() == (2, missing - {str(dead)})
    clean.execute(f"delete from {TABLE} where id in (%s, %s)", [undone, taken])
    rollup.roll_up(now=hour + 2 * MINUTE)
    assert lost() == (0, set())


def test_a_dead_letter_without_a_letter_is_asked_after_each_hour(clean, alone):
    hour = now().replace(minute=0, second=0, microsecond=0)
    rollup.roll_up(now=hour - 30 * MINUTE)
    put(clean, "dead_letter", at=hour - timedelta(days=9))
    rollup.roll_up(now=hour - 29 * MINUTE)
    assert lost()[0] == 0
    rollup.roll_up(now=hour)
    assert lost()[0] == 1


def test_what_was_lost_within_a_day_is_counted_in_its_minute(clean, alone):
    half = now().replace(minute=30, second=0, microsecond=0) - timedelta(hours=1)
    at = half - 50 * MINUTE  # Of another hour.
    work = put(clean, "pending", at=at)
    rollup.roll_up(now=half)
    assert (minute(at).made, minute(at).traced) == (1, 1)
    clean.execute(f"update {TABLE} set state = 'processing', drainer = 99 where id = %s", [work])
    rollup.roll_up(now=half + MINUTE)
    assert (minute(at).made, minute(at).traced) == (1, 0)
    assert lost() == (0, set())  # Once.


def closure(connection: psycopg.Connection, *, begun: datetime, finished: datetime | None) -> None:
    connection.execute(
        "insert into lifecycle_closure (id, tenant_id, actor, reason, closes_at, begun_at,"
        " finished_at) values (%s, 9000001, 'system:test', 'no', %s, %s, %s)",
        [uuid7(), begun, begun, finished],
    )


@pytest.fixture
def no_purges(operator):
    """Tenants of other tests were never purged."""
    kept = operator.execute("select id, begun_at from lifecycle_closure").fetchall()
    operator.execute("update lifecycle_closure set begun_at = null")
    yield operator
    operator.execute("delete from lifecycle_closure where tenant_id = 9000001")
    for id_, begun in kept:
        operator.execute("update lifecycle_closure set begun_at = %s where id = %s", [begun, id_])


def test_what_a_purge_deleted_is_not_missed(clean, alone, no_purges):
    hour = now().replace(minute=0, second=0, microsecond=0)
    early, late = hour - 40 * MINUTE, hour - 20 * MINUTE
    works = [put(clean, "pending", at=at) for at in (early, early, late)]
    rollup.roll_up(now=hour - 10 * MINUTE)
    clean.execute(f"delete from {TABLE} where id = any(%s)", [works[1:]])
    closure(clean, begun=hour - 31 * MINUTE, finished=hour - 30 * MINUTE)
    rollup.roll_up(now=hour)
    assert (minute(early).made, minute(early).traced) == (1, 1)
    assert (minute(late).made, minute(late).traced) == (1, 0)  # It came after the purge.
    assert sum(row.made - row.traced for row in hours()) == 1
    rollup.roll_up(now=hour + MINUTE)
    assert sum(row.made - row.traced for row in hours()) == 1


def test_what_was_missed_before_a_purge_stays_missed(clean, alone, no_purges):
    hour = now().replace(minute=0, second=0, microsecond=0)
    at = hour - 100 * MINUTE
    works = [put(clean, "pending", at=at) for _ in range(3)]
    rollup.roll_up(now=hour - 70 * MINUTE)
    clean.execute(f"delete from {TABLE} where id = %s", [works[0]])
    rollup.roll_up(now=hour - 60 * MINUTE)
    assert (minute(at).made, minute(at).traced) == (3, 2)
    clean.execute(f"delete from {TABLE} where id = %s", [works[1]])
    closure(clean, begun=hour - 30 * MINUTE, finished=None)
    rollup.roll_up(now=hour)
    assert (minute(at).made, minute(at).traced) == (2, 1)


def test_a_dead_letter_whose_tenant_is_being_purged_is_accounted_for(clean, alone, tenant):
    """Its letter goes first."""
    end = this_minute()
    put(clean, "dead_letter", at=end - MINUTE, tenant_id=tenant.pk)
    rollup.roll_up(now=end)
    assert minute(end - MINUTE).traced == 0
    close(tenant)
    rollup.roll_up(now=end)
    assert minute(end - MINUTE).traced == 0  # In its days of grace nothing is deleted.
    clean.execute("update tenants_tenant set closes_at = now() where id = %s", [tenant.pk])
    rollup.roll_up(now=end)
    assert minute(end - MINUTE).traced == 1


def test_what_its_queue_keeps_no_longer_is_not_missed(clean, alone, no_purges, settings):
    hour = now().replace(minute=0, second=0, microsecond=0)
    at = hour - 40 * MINUTE
    work = put(clean, "succeeded", at=at, finished_at=at)
    rollup.roll_up(now=hour - 10 * MINUTE)
    queues_said = {**settings.SLIPWAY["QUEUES"]}
    queues_said[QUEUE] = {**queues_said[QUEUE], "retention": "crumbs"}
    retention = {**settings.SLIPWAY["RETENTION"], "crumbs": 0}
    settings.SLIPWAY = {**settings.SLIPWAY, "QUEUES": queues_said, "RETENTION": retention}
    clean.execute(f"delete from {TABLE} where id = %s", [work])
    rollup.roll_up(now=hour)
    assert minute(at).made == 0


@pytest.mark.parametrize("paused", [timedelta(minutes=150), timedelta(hours=30)])
def test_numbers_are_right_across_midnight(clean, alone, paused):
    midnight = now().replace(hour=0, minute=0, second=0, microsecond=0)
    for at in (-61, -60, -1, 0, 1, 59, 60):  # Minutes.
        begun = midnight + at * MINUTE
        put(clean, "succeeded", at=begun, finished_at=begun + timedelta(seconds=59.999))
    rollup.roll_up(now=midnight + 61 * MINUTE - paused)
    rollup.roll_up(now=midnight + 61 * MINUTE)
    seen = {row.at: (row.made, row.ended.get("succeeded", 0)) for row in hours()}
    hour = timedelta(hours=1)
    assert {at: said for at, said in seen.items() if at >= midnight - 2 * hour} == {
        midnight - 2 * hour: (1, 1),
        midnight - hour: (2, 2),
        midnight: (3, 3),
        midnight + hour: (1, 1),
    }
    told = read("24h", midnight + 61 * MINUTE)
    assert sum(point.made for point in told.points if point.at >= midnight) == 4
    assert told.moments[-1] == midnight + hour
    assert rollup.floor(midnight - timedelta(microseconds=1), DAY) == midnight - DAY


def test_a_run_with_nothing_to_count_asks_twenty_statements_at_most(
    clean, alone, django_assert_max_num_queries
):
    half = now().replace(minute=30, second=0, microsecond=0) - timedelta(hours=1)
    rollup.roll_up(now=half)
    with django_assert_max_num_queries(20, connection=connections["operator"]):
        assert rollup.roll_up(now=half + MINUTE).minutes == 2


def test_an_hour_adds_its_minutes_up(clean):
    hour = now().replace(minute=0, second=0, microsecond=0) - timedelta(hours=1)
    for place in (1, 2, 50):
        at = hour + place * MINUTE
        put(clean, "succeeded", at=at, finished_at=at + timedelta(seconds=place))
    rollup.roll_up(now=hour + timedelta(minutes=60))
    [row] = [each for each in hours() if each.at == hour]
    assert (row.made, row.ended) == (3, {"succeeded": 3})
    assert sum(row.took.values()) == 3
    assert 45_000 < quantile(row.took, 0.95) < 55_000


def test_an_hour_whose_minutes_are_gone_stays_as_it_was(clean):
    hour = now().replace(minute=0, second=0, microsecond=0)
    Hour.objects.using("operator").create(
        at=hour - timedelta(hours=24), queue=QUEUE, made=7, traced=7
    )
    rollup.roll_up(now=hour)  # It asks after the works of the same hour a day ago.
    [row] = [each for each in hours() if each.at == hour - timedelta(hours=24)]
    assert row.made == 7


def test_old_numbers_go(clean):
    end = this_minute()
    for at in (end - timedelta(days=4), end - MINUTE):
        Minute.objects.using("operator").create(at=at, queue=QUEUE)
    Hour.objects.using("operator").create(at=end - timedelta(days=401), queue=QUEUE)
    assert rollup.roll_up(now=end).pruned == 2


def test_it_asks_a_few_statements_however_much_there_is(clean):
    end = now().replace(minute=30, second=0, microsecond=0)
    rollup.roll_up(now=end - timedelta(hours=10))
    for at in (end, end + MINUTE):  # After a pause, and as usual.
        with CaptureQueriesContext(connections["operator"]) as asked:
            rolled = rollup.roll_up(now=at)
        # Of each hour that it looks at, again for what others left too, its minutes and its row.
        assert len(asked) <= 20 + 4 * rolled.hours


def test_the_command_counts_and_says_so(clean, capsys):
    call_command("rollup", "--dry-run", "--json")
    assert json.loads(capsys.readouterr().out) == {"due": 60}
    assert not Minute.objects.using("operator").exists()
    call_command("rollup", "--json")
    assert json.loads(capsys.readouterr().out)["minutes"] == 60
    assert Minute.objects.using("operator").count() == 60 * len(queues())


def test_percentiles_of_a_sum_are_right_to_a_tenth():
    spreads = [{str(bucket(ms)): 1} for ms in range(1, 1001)]
    whole = add_up(spreads)
    assert sum(whole.values()) == 1000
    assert abs(quantile(whole, 0.5) - 500) < 60
    assert abs(quantile(whole, 0.95) - 950) < 100
    assert quantile({}, 0.5) is None


QUEUES = ("jobs", "deliveries", "messages", "onboarding")
FILLED = {
    "uuid": "gen_random_uuid()",
    "jsonb": "'{}'",
    "boolean": "false",
    "bytea": "convert_to(n::text, 'UTF8')",
    "timestamp with time zone": "at",
}
# An id that was made at the work's time.
ID_AT = (
    "overlay(overlay(gen_random_uuid()::text placing"
    " lpad(to_hex((extract(epoch from at) * 1000)::bigint >> 16), 8, '0') from 1)"
    " placing lpad(to_hex((extract(epoch from at) * 1000)::bigint & 65535), 4, '0') from 10)::uuid"
)
OURS = {
    "id": ID_AT,
    "tenant_id": "9000000 + n",
    "lane": "'crowd:1'",
    "max_attempts": "3",
    "state": "case when mod(n, 100) = 0 then 'pending' when mod(n, 100) = 1 then 'dead_letter'"
    " else 'succeeded' end",
    "created_at": "at",
    "finished_at": "case when mod(n, 100) > 1 then at + interval '1 second' end",
    "kind": "'act'",
    "home": "'pooled'",
}


def crowded(connection: psycopg.Connection, table: str) -> None:
    """Thirty thousand works of a quiet day, of which few are open."""
    rows = connection.execute(
        "select column_name, data_type from information_schema.columns where table_name = %s"
        " and table_schema = 'public' and (is_nullable = 'NO' and column_default is null"
        " or column_name = any(%s)) and is_generated = 'NEVER'",
        [table, list(OURS)],
    ).fetchall()
    made = {name: OURS.get(name) or FILLED.get(kind) or "n::text" for name, kind in rows}
    made |= {name: "n" for name, kind in rows if name not in OURS and kind in NUMBERS}
    connection.execute(
        f"insert into {table} ({', '.join(made)}) select {', '.join(made.values())}"
        " from generate_series(1, 30000) n, lateral (select now() - n * interval '2 seconds' as at)"
        " a"
    )
    connection.execute(f"vacuum analyze {table}")


NUMBERS = {"smallint", "integer", "bigint", "double precision"}


@pytest.fixture(scope="module")
def crowd(django_db_blocker):
    """Thirty thousand works in each of our queues, and their letters."""
    from tests import settings as run

    info = run.postgres.conninfo(run.DATABASE_NAME, "postgres")
    with psycopg.connect(info, autocommit=True) as connection:
        connection.execute("set session_replication_role = replica")  # No events, no endpoints.
        for name in QUEUES:
            table = queue(name).table
            # What other tests did just now is no part of it: of so many a scan would be right.
            connection.execute(f"update {table} set finished_at = finished_at - interval '1 day'")
            crowded(connection, table)
        connection.execute(
            "insert into jobs_deadletter (id, tenant_id, queue, work_id, reason, error, created_at)"
            " select gen_random_uuid(), tenant_id, 'jobs', id, 'failed', 'no', created_at"
            " from jobs_job where tenant_id >= 9000000 and state = 'dead_letter'"
        )
        connection.execute("vacuum analyze jobs_deadletter")
        yield connection
        for table in (*(queue(name).table for name in QUEUES), "jobs_deadletter"):
            connection.execute(f"delete from {table} where tenant_id >= 9000000")
            connection.execute(f"vacuum analyze {table}")


@pytest.mark.parametrize("name", QUEUES)
def test_no_statement_scans_a_queue(crowd, monkeypatch, name):
    asked = []

    class Spy:
        """Keeps what is asked, and answers as the cursor does."""

        def __init__(self, cursor):
            self.cursor = cursor

        def execute(self, statement, values=None):
            asked.append((statement, values))
            return self.cursor.execute(statement, values)

        def __getattr__(self, name):
            return getattr(self.cursor, name)

    monkeypatch.setattr(counting, "served", lambda: [queue(name)])
    end = this_minute()
    minutes = [end - n * MINUTE for n in range(10, 0, -1)]
    with connections["operator"].cursor() as cursor:
        spy = Spy(cursor)
        assert counting.ended(spy, minutes[0], end)
        assert counting.busiest(spy, minutes[0], end)
        assert counting.depths(spy)
        found = counting.made(spy, minutes, MINUTE, losses.traced)
        assert sum(made.made for made in found) >= 250
        losses.strays(spy, deep=True)
        for statement, values in asked:
            cursor.execute(f"explain {statement}", values)
            plan = "\n".join(line for (line,) in cursor.fetchall())
            assert f"Seq Scan on {queue(name).table}" not in plan, plan
