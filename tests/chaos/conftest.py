"""Real processes on a real Postgres and a real Valkey, and what can happen to them.

Short by default, so that `make test` stays quick; SLIPWAY_CHAOS=long (`make chaos`) takes outages
of minutes and many restarts.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from jobs.models import Drainer, Job, Work
from tests.conftest import ROOT, child_environment
from tests.jobs.conftest import withdraw_everything
from tests.works.models import Trace
from tests.works.steps import QUICK

LONG = os.environ.get("SLIPWAY_CHAOS") == "long"
USUALLY = 0.04  # Seconds for a million turns of a loop, on two cores of a cloud.
SLOWEST = 8.0
RESCUED = 20  # Seconds from the death of a drainer until its work is free again.


def until(condition: Callable[[], Any], seconds: float, what: str = "") -> Any:
    """What the condition gives, once it gives something true.

    `seconds` are those of a machine that others leave alone: when they are over, it is looked how
    slow this one is just now, and waited for as many times longer.
    """
    began_at, limit, measured = time.monotonic(), seconds, False
    while not (value := condition()):
        if time.monotonic() - began_at > limit:
            if measured:
                raise AssertionError(f"not within {limit:.3g} s: {what or condition}")
            limit, measured = seconds * slowness(), True
        time.sleep(0.05)
    return value


def slowness() -> float:
    """How many times longer than usual Python takes here and now: from 1 to SLOWEST."""
    began_at = time.monotonic()
    for _ in range(1_000_000):
        pass
    return min(max((time.monotonic() - began_at) / USUALLY, 1.0), SLOWEST)


class Process:
    """A child process of Slipway's own."""

    def __init__(self, arguments: list[str], log: Path, environment: dict[str, str]) -> None:
        self.log = log
        with log.open("wb") as output:
            self.child = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=ROOT,
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self.child.pid

    def send(self, number: signal.Signals) -> None:
        self.child.send_signal(number)

    def kill(self) -> None:
        if self.child.poll() is None:
            os.killpg(self.pid, signal.SIGKILL)
        self.child.wait()

    def ends(self, seconds: float) -> int:
        """Its exit code, once it has ended."""
        return self.child.wait(seconds)

    @property
    def alive(self) -> bool:
        return self.child.poll() is None

    def said(self) -> str:
        return self.log.read_text(errors="replace")


class Yard:
    """Starts drainers, and clears up after them."""

    def __init__(self, directory: Path, environment: dict[str, str]) -> None:
        self.directory = directory
        self.environment = environment
        self.processes: list[Process] = []

    def start(self, *arguments: str, wait: bool = True, **environment: str) -> Process:
        log = self.directory / f"process-{len(self.processes)}.log"
        process = Process(list(arguments), log, self.environment | environment)
        self.processes.append(process)
        if wait:
            until(lambda: self.beating(process), 30, f"a drainer\n{process.said()}")
        return process

    def drain(self, *options: str, **settings: Any) -> Process:
        return self.start("manage.py", "drain", *options, **settings)

    def worker(self, **settings: Any) -> Process:
        return self.start(
            *("-m", "celery", "-A", "config", "worker", "--pool=threads", "--concurrency=2"),
            *("--loglevel=INFO", "--without-gossip", "--without-mingle"),
            f"--hostname=worker{len(self.processes)}@test",
            **settings,
        )

    def beating(self, process: Process) -> Drainer | None:
        assert process.alive, process.said()
        return Drainer.objects.using("operator").filter(pid=process.pid, dead_at=None).first()

    def clear(self) -> None:
        for process in self.processes:
            process.kill()


def enqueue(act: str, *, count: int = 1, kind: str = "act", **columns: Any) -> list[Job]:
    """Jobs, as another process would see them: a row each, and no hint."""
    number = columns.pop("tenant", None) or enqueue.tenant
    enqueue.tenant += 1
    columns = {"lane": f"jobs:{number}", "max_attempts": 3} | columns
    if kind != "act_patiently":
        columns.setdefault("forgiven", columns["max_attempts"] - QUICK.attempts)
    jobs = [Job(tenant_id=number, kind=kind, args={"act": act}, **columns) for _ in range(count)]
    return Job.objects.using("operator").bulk_create(jobs)


enqueue.tenant = 2_000_000


def state_of(work: Work) -> str:
    return type(work).objects.using("operator").values_list("state", flat=True).get(pk=work.pk)


def all_are(state: str, works: list[Work]) -> bool:
    rows = type(works[0]).objects.using("operator").filter(pk__in=[work.pk for work in works])
    return not rows.exclude(state=state).exists()


def in_state(state: str, works: list[Work]) -> int:
    rows = type(works[0]).objects.using("operator").filter(pk__in=[work.pk for work in works])
    return rows.filter(state=state).count()


def traces(work: Work, what: str) -> list[Trace]:
    return list(Trace.objects.using("operator").filter(work_id=work.pk, what=what).order_by("id"))


@contextmanager
def open_yard(directory: Path) -> Iterator[Yard]:
    """Drainers on this worker's database, where nothing else is to be done."""
    withdraw_everything()
    yard = Yard(directory, child_environment())
    try:
        yield yard
    finally:
        yard.clear()


@pytest.fixture
def yard(tmp_path: Path) -> Iterator[Yard]:
    with open_yard(tmp_path) as yard:
        yield yard
