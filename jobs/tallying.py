"""Counting works as they move, in the transaction that moves them: Work.tally, where there is one.

Whoever moves works in Python says so here, after all else: the rows in which moves are counted are
locked behind works and lanes. The promoter and the claim say nothing; a tally counts what works
have come to, and neither of them brings one there.
"""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import orjson
from django.db import connections, transaction
from psycopg import AsyncConnection

from jobs import hints
from jobs.registry import Queue

Move = tuple[UUID, str, str]  # The work, its state before, and after.


async def count(connection: AsyncConnection[Any], queue: Queue, moves: Sequence[Move]) -> bool:
    """Count what is settled in this transaction; whether jobs came of it."""
    if not queue.model.tally or not moves:
        return False
    given = orjson.dumps(_rows(moves)).decode()
    cursor = await connection.execute(queue.model.tally, [given], prepare=False)
    return cursor.rowcount > 0


def tally(queue: Queue, moves: Sequence[Move], using: str) -> None:
    """Count moves in the caller's transaction; drainers hear of the jobs that come of it."""
    if not queue.model.tally or not moves:
        return
    with connections[using].cursor() as cursor:
        cursor.execute(queue.model.tally, [orjson.dumps(_rows(moves)).decode()])
        told = cursor.rowcount > 0
    if told:
        transaction.on_commit(lambda: hints.send("jobs"), using=using, robust=True)


def _rows(moves: Sequence[Move]) -> list[dict[str, Any]]:
    return [{"id": id_, "before": before, "after": after} for id_, before, after in moves]
