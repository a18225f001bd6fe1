"""Claim and settle against the bare SQL that they were written after, over the same rows."""

import asyncio
import random
import time
from collections.abc import Iterator
from dataclasses import replace
from statistics import median
from typing import Any

import psycopg
from psycopg import AsyncConnection

from benchmarks.bare import BATCH, CAP_LANE, Bare
from benchmarks.size import Size
from benchmarks.stack import Stack
from benchmarks.table import Row, median_ratio, ms, per_second
from jobs.engine import verdict
from jobs.engine.claim import Cursor, claim
from jobs.engine.settle import settle
from jobs.outcomes import Succeeded
from jobs.registry import Queue
from jobs.registry import queue as queue_named

WORKS_EACH = 10  # Of a tenant; in one lane.
CYCLES = 6  # Claims of a round, each of 640 works.

FILL = """
insert into jobs_job (id, tenant_id, lane, kind, args, max_attempts, due_at, created_at)
select uuidv7(), 1 + i %% %(tenants)s, 'jobs:' || 1 + i %% %(tenants)s, 'mail.send',
  jsonb_build_object('x', repeat('x', 200)), 8, now(), now()
from generate_series(1, %(works)s) i
"""
REGISTER = "insert into jobs_drainer (host, pid, slots) values ('bench', 0, 0) returning id"


def measure(stack: Stack, size: Size) -> Iterator[Row]:
    with (
        stack.database("claims") as database,
        stack.connect(database, "slipway_owner") as owner,
        stack.connect(database, "postgres") as superuser,
    ):
        # Enough that every round finds as much; a lane is emptied by one claim of 64 lanes.
        tenants = max(1000, (size.rounds + 1) * CYCLES * 64 + 64)
        fill(owner, tenants=tenants, works=tenants * WORKS_EACH)
        bare = Bare(superuser)
        bare.fill(tenants=tenants, works=tenants * WORKS_EACH)
        yield from asyncio.run(_compare(bare, stack.engine(database), size.rounds))


def fill(connection: psycopg.Connection[Any], *, tenants: int, works: int) -> None:
    """Jobs that wait, spread over tenants, each tenant's in one lane."""
    connection.execute(FILL, {"tenants": tenants, "works": works})
    connection.execute("vacuum analyze jobs_job")


async def register(connection: AsyncConnection[Any]) -> int:
    """A drainer's row, without which nothing can be claimed."""
    row = await (await connection.execute(REGISTER)).fetchone()
    assert row is not None
    return int(row[0])


async def _compare(bare: Bare, engine: dict[str, Any], rounds: int) -> list[Row]:
    # The caps of the model; a tenant has one lane, so that its own cap never binds.
    queue = replace(queue_named("jobs"), lane_window=CAP_LANE, tenant_window=4 * CAP_LANE)
    async with await AsyncConnection.connect(**engine) as connection:
        drainer, cursor = await register(connection), Cursor()
        ours, other = [], []
        for _ in range(rounds + 1):
            ours.append(await _ours(connection, queue, drainer, cursor))
            other.append(_bare(bare))
    pairs = list(zip(ours, other, strict=True))[1:]
    return [
        Row(
            "claim + settle / the same as bare SQL: works a second",
            per_second(median(rate(one) for one, _ in pairs)),
            per_second(median(rate(two) for _, two in pairs)),
            median_ratio((rate(one), rate(two)) for one, two in pairs),
        ),
        *(
            Row(
                f"{what} of a work / the same as bare SQL",
                ms(median(one[i] for one, _ in pairs)),
                ms(median(two[i] for _, two in pairs)),
                median_ratio((one[i], two[i]) for one, two in pairs),
            )
            for i, what in enumerate(("claim", "settle"))
        ),
    ]


Costs = tuple[float, float]  # Seconds of claiming and of settling, for one work.


def rate(costs: Costs) -> float:
    return 1 / sum(costs)


async def _ours(
    connection: AsyncConnection[Any], queue: Queue, drainer: int, cursor: Cursor
) -> Costs:
    claiming = settling = 0.0
    works = 0
    for _ in range(CYCLES):
        began = time.perf_counter()
        taken = await claim(connection, queue, drainer=drainer, slots=BATCH, cursor=cursor)
        claimed = time.perf_counter()
        batch = [
            verdict.settle(one, Succeeded(), queue=queue, elapsed=0.01, random=random.random)
            for one in taken.claims
        ]
        settled = await settle(connection, batch)
        assert len(settled) == len(taken.claims) > 0
        claiming += claimed - began
        settling += time.perf_counter() - claimed
        works += len(settled)
    return claiming / works, settling / works


def _bare(bare: Bare) -> Costs:
    claiming = settling = 0.0
    works = 0
    for _ in range(CYCLES):
        began = time.perf_counter()
        rows = bare.claim()
        claimed = time.perf_counter()
        bare.settle(rows)
        claiming += claimed - began
        settling += time.perf_counter() - claimed
        works += len(rows)
    return claiming / works, settling / works
