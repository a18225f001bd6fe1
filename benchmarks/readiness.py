"""From an accepted sign-up to its start and to the ready tenant, nothing else going on."""

import random
import time
from collections.abc import Iterator
from statistics import median

import psycopg

from benchmarks.load import closed, sign_ups
from benchmarks.size import Size
from benchmarks.stack import Stack
from benchmarks.table import Budget, Row, ms, percentile

STARTED, STARTED_ALONE = Budget(most=50, unit="ms"), Budget(most=1200, unit="ms")
READY = Budget(most=250, unit="ms")
PATIENCE = 20.0  # Seconds for one sign-up.

# By one clock: the machine's. `created_at` is taken before the insert, so the answer comes later.
TIMES = """
select extract(epoch from min(a.started_at) - o.created_at),
  extract(epoch from o.finished_at - o.created_at)
from onboarding_pendingonboarding o
join jobs_attempt a on a.work_id = o.id
where o.state = 'succeeded' group by o.id order by o.created_at
"""

STUCK = "select state, last_error from onboarding_pendingonboarding where state <> 'succeeded'"


def measure(stack: Stack, size: Size) -> Iterator[Row]:
    started, ready = _times(stack, size, "ready")
    yield _row("accepted → started, idle: p50", started, 0.5, STARTED)
    yield _row("accepted → ready, pooled, file storage: p50", ready, 0.5, READY)
    stack.valkey.stop()
    try:
        started, _ = _times(stack, size, "alone")
    finally:
        stack.valkey.start()
    yield _row("accepted → started, Redis down: p99", started, 0.99, STARTED_ALONE)


def _times(stack: Stack, size: Size, name: str) -> tuple[list[float], list[float]]:
    """Seconds to the start and to ready of one sign-up after another, but for the first two."""
    with (
        stack.database(name) as database,
        stack.web(database, workers=1, threads=4) as (port, _),
        stack.worker(database),
        stack.connect(database, "slipway_operator") as connection,
    ):
        for number in range(1, size.sign_ups + 3):
            # One connection, one request.
            load = closed(port, sign_ups(stack.platform_key), connections=1, seconds=0)
            load.refuse_unless(202)
            _wait(connection, number)
            time.sleep(random.uniform(0.1, 0.6))  # Anywhere between two looks of the drainer.
        rows = connection.execute(TIMES).fetchall()[2:]
    return [float(row[0]) for row in rows], [float(row[1]) for row in rows]


def _wait(connection: psycopg.Connection, number: int) -> None:
    deadline = time.monotonic() + PATIENCE
    query = "select count(*) from onboarding_pendingonboarding where state = 'succeeded'"
    while True:
        row = connection.execute(query).fetchone()
        if row and row[0] == number:
            return
        if time.monotonic() > deadline:
            stuck = connection.execute(STUCK).fetchall()
            raise RuntimeError(f"Not ready after {PATIENCE} s: {stuck}")
        time.sleep(0.02)


def _row(name: str, seconds: list[float], q: float, budget: Budget) -> Row:
    value = median(seconds) if q == 0.5 else percentile(seconds, q)
    spread = f"{ms(value)} (of {len(seconds)}; most {ms(max(seconds))})"
    return Row(name, spread, "", value * 1000, budget)
