"""The engine's parts, one by one, against the real database: claim, settle, rescue, services."""

import asyncio
import itertools
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from django.db.models import Q
from psycopg import AsyncConnection

from campaigns.models import Message
from jobs.engine import claim as claiming
from jobs.engine import link, look, rescue, verdict
from jobs.engine import settle as settling
from jobs.engine.drainer import Drainer as Loop
from jobs.models import Attempt, DeadLetter, Drainer, Job, Lane, Work
from jobs.outcomes import Outcome
from jobs.registry import queue
from jobs.states import FINISHED
from jobs.steps import Claim
from tests.jobs.watching import watching
from tests.works.models import Missive, Parcel, Telegram
from tests.works.steps import QUICK
from webhooks.models import Delivery


def served():
    return [queue(name) for name in ("parcels", "telegrams", "missives", "jobs")]


_tenants = itertools.count(1_000_000)  # Numbers that no tenant's row has: works need none.


class Engine:
    """A drainer taken apart: each of its moves is one call."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.connection = self.connect()

    def connect(self) -> AsyncConnection[Any]:
        return self.run(AsyncConnection.connect(**link.parameters("test")))

    def run(self, coroutine):
        return self.loop.run_until_complete(coroutine)

    def close(self) -> None:
        self.run(self.connection.close())
        self.loop.close()

    def drainer(self, *, silent: float = 0) -> int:
        """A drainer whose last beat was `silent` seconds ago."""
        row = self.sql(
            "insert into jobs_drainer (host, pid, busy, slots, beat_at)"
            " values ('here', 1, 0, 8, clock_timestamp() - make_interval(secs => %s)) returning id",
            silent,
        )
        return row[0][0]

    def sql(self, statement: str, *values: Any) -> list[Any]:
        async def execute():
            cursor = await self.connection.execute(statement, values)
            return await cursor.fetchall() if cursor.description else []

        return self.run(execute())

    def tenant(self) -> int:
        return next(_tenants)

    def add(
        self,
        model: type[Work] = Parcel,
        count: int = 1,
        *,
        tenant: int | None = None,
        **columns: Any,
    ) -> list[Work]:
        """Works that may run now. `max_attempts` are really those that they have left."""
        tenant = tenant or self.tenant()
        columns = {"lane": f"lane:{tenant}", "max_attempts": 3} | columns
        columns.setdefault("forgiven", columns["max_attempts"] - QUICK.attempts)
        works = [model(tenant_id=tenant, **columns) for _ in range(count)]
        return model.objects.using("operator").bulk_create(works)

    def claim(
        self, name="parcels", *, drainer: int, slots: int = 8, cursor=None, connection=None
    ) -> list[Claim]:
        """Claim from a queue; `name` may be a Queue that no setting names."""
        cursor = cursor or claiming.Cursor()
        for _ in range(2):  # Past the last tenant there is nothing; the next look begins anew.
            taken = self.run(
                claiming.claim(
                    connection or self.connection,
                    queue(name) if isinstance(name, str) else name,
                    drainer=drainer,
                    slots=slots,
                    cursor=cursor,
                )
            )
            if taken.claims or not taken.ended:
                break
        return taken.claims

    def claim_undo(self, name: str = "parcels", *, drainer: int) -> list[Claim]:
        return self.run(claiming.claim_undo(self.connection, queue(name), drainer=drainer, slots=8))

    def settle(self, *ends: tuple[Claim, Outcome], random=lambda: 0.0) -> int:
        """Settle a batch; how many were still ours."""
        batch = [
            verdict.settle(claim, outcome, queue=queue(claim.queue), elapsed=0.01, random=random)
            for claim, outcome in ends
        ]
        return self.write(*batch)

    def write(self, *batch: verdict.Settlement) -> int:
        return len(self.run(settling.settle(self.connection, batch)))

    def hand_back(self, *claims: Claim) -> int:
        return self.write(*(verdict.hand_back(claim) for claim in claims))

    def look(self) -> look.Seen:
        return self.run(look.look(self.connection, served()))

    def rescue(self) -> int:
        self.run(rescue.declare_dead(self.connection))
        return self.run(rescue.close_lost(self.connection, served()))

    def silence(self, drainer: int) -> None:
        """Let a drainer's last beat be long ago."""
        Drainer.objects.using("operator").filter(pk=drainer).update(beat_at="2020-01-01T00:00Z")


def attempts_of(work: Work) -> list[tuple[int, str]]:
    rows = Attempt.objects.using("operator").filter(work_id=work.pk).order_by("number")
    return list(rows.values_list("number", "outcome"))


def letter_of(work: Work) -> DeadLetter:
    return DeadLetter.objects.using("operator").get(work_id=work.pk, resolved_at=None)


def fresh(work: Work) -> Work:
    work.refresh_from_db(using="operator")
    return work


def withdraw_everything() -> None:
    """Leave nothing to do of what tests before this one queued: drainers serve all tenants."""
    for model in (Parcel, Telegram, Missive, Job, Delivery, Message):
        rows = model.objects.using("operator")
        rows.filter(~Q(state__in=FINISHED)).update(state="cancelled", lease=None, drainer=None)
    Lane.objects.using("operator").all().delete()
    Drainer.objects.using("operator").all().delete()


def wait(condition, seconds=10):
    ends_at = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends_at
        time.sleep(0.05)


def drain(until, *, name="telegrams", seconds=15.0, meanwhile=None, **changes):
    """Run a loop for one queue in this process until something holds; what it died of."""
    died = []
    served = {name: replace(queue(name), **changes)}
    drainer = Loop(served=served, on_death=died.append)
    ran = threading.Thread(target=lambda: asyncio.run(drainer.run()))
    ran.start()
    try:
        ends_at = time.monotonic() + seconds
        while not until(drainer, died):
            assert time.monotonic() < ends_at
            if meanwhile is not None:
                meanwhile(drainer)
            time.sleep(0.02)
    finally:
        drainer.stop()
        ran.join()
    return died


@pytest.fixture
def engine() -> Iterator[Engine]:
    """The engine alone with this test's works."""
    withdraw_everything()
    taken_apart = Engine()
    yield taken_apart
    taken_apart.close()


@pytest.fixture
def watched(engine, monkeypatch) -> Iterator[Engine]:
    """The engine, with parcels whose lanes have a breaker, and no other bounds."""
    changes = {
        "breaker": "tests.jobs.watching.BREAKER",
        "policy": "tests.jobs.watching.WINDOWED",
        "notice": "notice",
        "lane_window": None,
        "tenant_window": None,
    }
    with watching("parcels", monkeypatch, **changes):
        yield engine
