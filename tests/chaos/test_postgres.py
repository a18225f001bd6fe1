"""Postgres is restarted while drainers work: they come back, and every work is done."""

import json
import time
import uuid

import psycopg
import pytest

from tests.chaos.conftest import LONG, Yard, until

RESTARTS = 4 if LONG else 2
AWAY = 30 if LONG else 0  # Seconds; longer than a drainer may be silent.


@pytest.fixture
def own(own_postgres, tmp_path):
    server, environment = own_postgres
    yard = Yard(tmp_path, environment)
    yield server, environment["OPERATOR_DATABASE_URL"], yard
    yard.clear()


def ask(url: str, statement: str, *values):
    """One answer, however often the server is away in between."""
    try:
        with psycopg.connect(url, autocommit=True) as connection:
            cursor = connection.execute(statement, values)
            return cursor.fetchall() if cursor.description else []
    except psycopg.OperationalError:
        return []


def test_drainers_reconnect_and_lose_nothing(own):
    server, url, yard = own
    processes = [yard.drain(wait=False), yard.worker(wait=False)]
    until(lambda: len(ask(url, "select 1 from jobs_drainer where dead_at is null")) == 2, 30)
    before = ask(url, "select id from jobs_drainer order by id")
    ids = [uuid.uuid4() for _ in range(300)]
    with psycopg.connect(url) as connection:
        for n, id_ in enumerate(ids):
            connection.execute(
                "insert into jobs_job (id, tenant_id, lane, max_attempts, kind, args)"
                " values (%s, %s, %s, 50, 'act_patiently', %s)",
                [id_, 1 + n % 20, f"jobs:{1 + n % 20}", json.dumps({"act": "sleep 0.5"})],
            )
    done = "select count(*) from jobs_job where state = 'succeeded'"
    for n in range(RESTARTS):
        enough = (n + 1) * 300 // (RESTARTS + 2)
        until(lambda enough=enough: (ask(url, done) or [(0,)])[0][0] >= enough, 60)
        server.stop("immediate" if n % 2 else "fast")
        time.sleep(AWAY)  # The outage itself.
        server.start()
    until(lambda: ask(url, done) == [(300,)], 90, processes[0].said()[-3000:])
    assert all(process.alive for process in processes)
    assert ask(url, "select id from jobs_drainer where dead_at is null order by id") == before
    # Exactly as many attempts as were counted, but for those whose last moment nobody saw.
    assert ask(
        url,
        "select count(*) from jobs_job j where attempts <>"
        " (select count(*) from jobs_attempt a where a.work_id = j.id)",
    ) == [(0,)]
