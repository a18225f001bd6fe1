"""Of three drainers one is killed and one is frozen, both in mid-step; the third carries on."""

import os
import signal
import time
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest

from jobs.models import Attempt, Job
from tests.chaos.conftest import (
    RESCUED,
    Process,
    all_are,
    enqueue,
    open_yard,
    state_of,
    traces,
    until,
)
from tests.works.models import Telegram, Trace

FROZEN = 25  # Seconds.


@dataclass
class Shipwreck:
    killed: Process
    frozen: Process
    of_killed: list[Job]
    of_frozen: list[Job]
    once: Telegram
    rescued_after: float
    thawed_at: datetime
    tempting: list[Job]


@pytest.fixture(scope="module")
def wreck(tmp_path_factory):
    with open_yard(tmp_path_factory.mktemp("wreck")) as yard:
        killed, frozen = yard.drain(wait=False), yard.drain(wait=False)
        ids = {
            process: until(lambda process=process: yard.beating(process), 30).pk
            for process in (killed, frozen)
        }
        # More than one of them has slots for, so that each takes some. The first try of each lasts
        # until the frozen one is thawed; later ones are done at once.
        jobs = [job for _ in range(20) for job in enqueue(f"dawdle {FROZEN}")]
        once = Telegram.objects.using("operator").create(
            tenant_id=1, lane="lane:1", max_attempts=3, act=f"sleep {FROZEN}"
        )
        until(lambda: all(traces(job, "began") for job in jobs), 10)
        until(lambda: state_of(once) == "processing", 5)
        holders = Job.objects.using("operator").filter(drainer__isnull=False)
        held = dict(holders.values_list("pk", "drainer"))
        yard.drain()
        frozen.send(signal.SIGSTOP)
        killed.send(signal.SIGKILL)
        died_at = time.monotonic()
        of_killed = [job for job in jobs if held[job.pk] == ids[killed]]
        of_frozen = [job for job in jobs if held[job.pk] == ids[frozen]]
        until(lambda: all_are("succeeded", of_killed), 40)
        rescued_after = time.monotonic() - died_at
        until(lambda: time.monotonic() - died_at > FROZEN, FROZEN)
        tempting = [job for _ in range(40) for job in enqueue("sleep 0.1")]
        thawed_at = datetime.now(UTC)
        frozen.send(signal.SIGCONT)
        until(lambda: all_are("succeeded", [*jobs, *tempting]), 30)
        until(lambda: not frozen.alive, 15)
        yield Shipwreck(
            killed, frozen, of_killed, of_frozen, once, rescued_after, thawed_at, tempting
        )


def outcomes(job: Job) -> list[tuple[int, str]]:
    rows = Attempt.objects.using("operator").filter(work_id=job.pk).order_by("number")
    return list(rows.values_list("number", "outcome"))


def test_each_of_them_was_in_mid_step(wreck):
    assert wreck.of_killed
    assert wreck.of_frozen


def test_the_killed_ones_work_is_rescued_within_twenty_seconds(wreck):
    assert wreck.rescued_after < RESCUED


def test_every_work_is_done_and_its_attempts_are_exact(wreck):
    for job in [*wreck.of_killed, *wreck.of_frozen]:
        assert outcomes(job) == [(1, "lost"), (2, "succeeded")]
        job.refresh_from_db(using="operator")
        assert (job.attempts, job.losses, job.lease, job.drainer) == (2, 0, None, None)


def test_the_frozen_one_settles_nothing_that_it_held(wreck):
    for job in wreck.of_frozen:
        assert wreck.frozen.pid in {trace.pid for trace in traces(job, "began")}
        attempts = Attempt.objects.using("operator").filter(work_id=job.pk)
        lost, won = attempts.get(outcome="lost"), attempts.get(outcome="succeeded")
        assert won.drainer != lost.drainer


def test_the_frozen_one_starts_nothing_and_ends_its_process(wreck):
    assert wreck.frozen.ends(1) == os.EX_TEMPFAIL
    started = Trace.objects.using("operator").filter(
        pid=wreck.frozen.pid, what="began", at__gt=wreck.thawed_at
    )
    assert not started.exists()
    assert all(len(outcomes(job)) == 1 for job in wreck.tempting)


def test_what_must_not_happen_twice_becomes_unknown(wreck):
    assert state_of(wreck.once) == "unknown"
    assert outcomes(wreck.once) == [(1, "lost")]
