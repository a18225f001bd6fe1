"""What a claim costs when a million works wait for ten thousand tenants, against a thousand works.

Each claim is rolled back, so that all find the same rows and no disk is part of it.
"""

import asyncio
import time
from collections.abc import Iterator
from contextlib import ExitStack
from statistics import median
from typing import Any

import psycopg
from psycopg import AsyncConnection

from benchmarks.claiming import fill, register
from benchmarks.size import Size
from benchmarks.stack import Stack
from benchmarks.table import Budget, Row, median_ratio, ms
from jobs.engine.claim import Cursor, claim
from jobs.registry import queue as queue_named

SMALL = 1000  # Works, and tenants.
CLAIMS = 40  # Of a round, in each queue.
BUDGET = Budget(most=1.5)


def measure(stack: Stack, size: Size) -> Iterator[Row]:
    with ExitStack() as opened:
        engines = []
        for name, tenants, works in (
            ("large", size.tenants, size.works),
            ("small", SMALL, SMALL),
        ):
            database = opened.enter_context(stack.database(name))
            with stack.connect(database, "slipway_owner") as owner:
                fill(owner, tenants=tenants, works=works)
            engines.append(stack.engine(database))
        rounds = asyncio.run(_rounds(engines, size.rounds))
    yield Row(
        f"a claim with {size.works:,} works of {size.tenants:,} tenants / {SMALL:,} works",
        ms(median(large for large, _ in rounds)),
        ms(median(small for _, small in rounds)),
        median_ratio(rounds),
        BUDGET,
    )


async def _rounds(engines: list[dict[str, Any]], rounds: int) -> list[tuple[float, float]]:
    """For each round the median claim of the large queue and of the small one."""
    queue = queue_named("jobs")
    links = [await AsyncConnection.connect(**engine) for engine in engines]
    drainers = [await register(link) for link in links]
    cursors = [Cursor(), Cursor()]
    found = []
    for _ in range(rounds + 1):
        took: tuple[list[float], list[float]] = ([], [])
        for _ in range(CLAIMS):
            for link, drainer, cursor, times in zip(links, drainers, cursors, took, strict=True):
                times.append(await _claim(link, queue, drainer, cursor))
        found.append((median(took[0]), median(took[1])))
    for link in links:
        await link.close()
    return found[1:]


async def _claim(link: AsyncConnection[Any], queue: Any, drainer: int, cursor: Cursor) -> float:
    took = 0.0
    async with link.transaction():
        began = time.perf_counter()
        await claim(link, queue, drainer=drainer, slots=queue.slots, cursor=cursor)
        took = time.perf_counter() - began
        raise psycopg.Rollback
    return took
