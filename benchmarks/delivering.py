"""Deliveries, from the published event to the settled row.

Against the same client with no database; against one Celery task for each; what one costs; and the
memory of a drainer with a thousand requests under way.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any

import psutil

from benchmarks import listening
from benchmarks.size import Size
from benchmarks.stack import (
    ROOT,
    Stack,
    cpu_seconds,
    free_port,
    tree,
    wait_for,
    wait_until_listens,
)
from benchmarks.table import Budget, Row, median_ratio, ms, per_second

TENANTS, EACH = 20, 5  # Endpoints of a tenant: an event of it makes so many deliveries.
IN_FLIGHT = 400  # A drainer's slots for deliveries.
PATIENCE = 120.0  # Seconds for one round.
AT_ONCE, TAKES_TIME = "0", "0.1"  # Seconds until the receiver answers.
FEW = 200  # Deliveries by Celery tasks: a rate needs no more.
WIDE = 1000  # Requests in flight when memory is looked at.

BARE = Budget(least=0.5)
TASKS = Budget(least=10)
MEMORY = Budget(most=150, unit="MB")

DONE = "select count(*) from webhooks_delivery where finished_at is not null"
LASTED = """
select extract(epoch from max(d.finished_at) - min(a.started_at))
from webhooks_delivery d join jobs_attempt a on a.tenant_id = d.tenant_id and a.work_id = d.id
where d.finished_at > to_timestamp(%s) and a.started_at > to_timestamp(%s)
"""


class Site:
    """A database of its own, a receiver, and what processes need to find both."""

    def __init__(self, stack: Stack, database: str, port: int) -> None:
        self.stack = stack
        self.database = database
        self.port = port
        self.closed_port = free_port()  # Nobody listens there.
        # The last eight: each may have a quarter of a drainer's slots.
        addresses = [f"{address}:{port}" for address in listening.ADDRESSES[1:]]
        closed = f"{listening.ADDRESSES[-1]}:{self.closed_port}"
        self.environment = {
            **stack.environment(database),
            "WEBHOOK_OPEN_DESTINATIONS": ",".join([*addresses, closed]),
        }
        self.operator = stack.connect(database, "slipway_operator")
        self._addresses = addresses

    def urls(self, delay: str) -> list[str]:
        """One for each address; the receiver answers after `delay` seconds."""
        return [f"http://{address}/{delay}/{{n}}" for address in self._addresses]

    def run(self, module: str, *words: str, **options: Any) -> Any:
        """What a module of ours prints as JSON, run as a process here."""
        command = [sys.executable, "-m", f"benchmarks.{module}", *words]
        if options:
            command.append(json.dumps(options))
        done = subprocess.run(
            command, cwd=ROOT, env=os.environ | self.environment, capture_output=True, text=True
        )
        if done.returncode:
            raise RuntimeError(f"{module}: {done.stderr[-4000:]}")
        return json.loads(done.stdout)

    @contextmanager
    def drainer(self, **variables: str) -> Iterator[psutil.Process]:
        """`manage.py drain`, claiming when this returns."""
        command = (sys.executable, "manage.py", "drain")
        with self.stack.process(*command, **self.environment | variables) as process:
            registered = f"select exists (select from jobs_drainer where pid = {process.pid})"
            wait_for(self.operator, registered, process)
            yield process

    def done(self) -> int:
        return int(self.ask(DONE))

    def ask(self, query: str, *values: Any) -> Any:
        row = self.operator.execute(query, values).fetchone()
        return row[0] if row else None

    def arrivals(self, names: set[str]) -> dict[str, float]:
        """When each of these webhook-ids came first, in seconds since 1970, once all have come."""
        deadline = time.monotonic() + PATIENCE
        while True:
            came = listening.ask(self.port, "arrivals")
            if names <= set(came):
                return came
            if time.monotonic() > deadline:
                raise RuntimeError(f"{len(names - set(came))} never came.")
            time.sleep(1)

    def wait_done(self, many: int) -> None:
        """Wait until so many deliveries are finished."""
        deadline = time.monotonic() + PATIENCE
        while self.done() < many:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{self.done()} of {many} deliveries after {PATIENCE} s.")
            time.sleep(0.2)


@contextmanager
def site(stack: Stack, name: str) -> Iterator[Site]:
    """A site, while the block runs."""
    port = free_port()
    with ExitStack() as opened:
        database = opened.enter_context(stack.database(name))
        command = (sys.executable, "-m", "benchmarks.listening", str(port))
        receiver = opened.enter_context(stack.process(*command))
        wait_until_listens(port, receiver)
        place = Site(stack, database, port)
        opened.callback(place.operator.close)
        yield place


@dataclass(frozen=True, slots=True)
class Round:
    """One round: deliveries a second, and the seconds of CPU that each took."""

    rate: float
    sender: float
    postgres: float = 0.0


def measure(stack: Stack, size: Size) -> Iterator[Row]:
    with site(stack, "deliveries") as place:
        yield from _against_bare(place, size)
    for delay, said in ((AT_ONCE, "at once"), (TAKES_TIME, f"after {TAKES_TIME} s")):
        with site(stack, f"tasks_{delay[-1]}") as place:
            yield _against_tasks(place, size, delay, said)
    with site(stack, "wide") as place:
        yield _memory(place)


def _against_bare(place: Site, size: Size) -> Iterator[Row]:
    tenants = place.run("crowd", "endpoints", urls=place.urls(AT_ONCE), tenants=TENANTS, each=EACH)
    ours, bare = [], []
    with place.drainer() as drainer:
        for _ in range(size.rounds + 1):
            ours.append(_deliver(place, drainer, tenants, size.deliveries))
            bare.append(_post(place, size.deliveries))
    del ours[0], bare[0]  # The first round warms up.
    pairs = list(zip(ours, bare, strict=True))
    yield Row(
        "deliveries a second, end to end / the same client with no database",
        per_second(median(one.rate for one in ours)),
        per_second(median(one.rate for one in bare)),
        median_ratio((one.rate, other.rate) for one, other in pairs),
        BARE,
    )
    for name, cost in (
        ("the drainer", lambda one: one.sender),
        ("Postgres", lambda one: one.postgres),
    ):
        yield Row(
            f"CPU of {name} for a delivery / of that client",
            ms(median(cost(one) for one in ours)),
            ms(median(one.sender for one in bare)),
            median_ratio((cost(one), other.sender) for one, other in pairs),
        )


def _deliver(place: Site, drainer: psutil.Process, tenants: list[int], many: int) -> Round:
    """Publish so much that `many` deliveries come of it, all at once, and have them delivered."""
    events = max(1, many // (TENANTS * EACH))
    many, before = events * TENANTS * EACH, place.done()
    server = _postgres(place.stack)
    # What publishing costs is not what delivering does: Postgres is looked at afterwards.
    published = place.run("crowd", "publish", tenants=tenants, events=events, at_once=True)
    since, began = published["ended_at"], (cpu_seconds([drainer]), cpu_seconds(tree(server)))
    place.wait_done(before + many)
    ended = (cpu_seconds([drainer]), cpu_seconds(tree(server)))
    seconds = float(place.ask(LASTED, since - 60, published["began_at"]))
    sender, postgres = ((after - at) / many for after, at in zip(ended, began, strict=True))
    return Round(many / seconds, sender, postgres)


def _post(place: Site, many: int) -> Round:
    urls = [url.format(n=0) for url in place.urls(AT_ONCE)]
    took = place.run("posting", urls=urls, count=many, in_flight=IN_FLIGHT)
    return Round(many / took["seconds"], took["cpu"] / many)


def _against_tasks(place: Site, size: Size, delay: str, said: str) -> Row:
    urls = place.urls(delay)
    tenants = place.run("crowd", "endpoints", urls=urls, tenants=TENANTS, each=EACH)
    ours = []
    with place.drainer() as drainer:
        for _ in range(2):
            ours.append(_deliver(place, drainer, tenants, size.deliveries).rate)
    tasks = _tasks(place, tenants)
    return Row(
        f"deliveries a second / one Celery task each with requests, receiver answers {said}",
        per_second(ours[-1]),
        per_second(tasks),
        ours[-1] / tasks,
        TASKS,
    )


def _tasks(place: Site, tenants: list[int]) -> float:
    """Deliveries a second of a Celery worker as it is by default: a process for each core."""
    before = place.done()
    for _ in range(2):  # The first time warms up.
        place.run("crowd", "publish", tenants=tenants, events=FEW // (TENANTS * EACH))
        before += FEW
        since = place.run("one_task_each")
        command = ("celery", "-A", "benchmarks.one_task_each", "--quiet", "worker", "-l", "error")
        with place.stack.process(*command, **place.environment):
            place.wait_done(before)
        seconds = float(place.ask(LASTED, since, since))
    return FEW / seconds


def _memory(place: Site) -> Row:
    tenants = place.run("crowd", "endpoints", urls=place.urls("2"), tenants=TENANTS, each=EACH)
    place.run("crowd", "publish", tenants=tenants, events=4 * WIDE // (TENANTS * EACH))
    most, in_flight = 0.0, 0
    with place.drainer(DJANGO_SETTINGS_MODULE="benchmarks.wide") as drainer:
        deadline = time.monotonic() + PATIENCE
        while place.done() < 3 * WIDE and time.monotonic() < deadline:
            in_flight = max(in_flight, _connections(drainer, place.port))
            most = max(most, drainer.memory_info().rss / 2**20)
            time.sleep(0.1)
    if in_flight < WIDE:
        raise RuntimeError(f"Only {in_flight} requests were in flight.")
    name = f"a drainer's memory (RSS), {in_flight:,} requests in flight"
    return Row(name, f"{most:.0f} MB", "", most, MEMORY)


def _connections(process: psutil.Process, port: int) -> int:
    return sum(1 for one in process.net_connections("tcp4") if one.raddr and one.raddr[1] == port)


def _postgres(stack: Stack) -> psutil.Process:
    assert stack.postgres.pid is not None
    return psutil.Process(stack.postgres.pid)
