"""Of three drainers one is killed and one is frozen, both in mid-step; the third carries on."""

import os
import signal
import time
from datetime import UTC, datetime

from jobs.models import Attempt, Job
from tests.chaos.conftest import (
    RESCUED,
    all_are,
    enqueue,
    state_of,
    traces,
    until,
)
from tests.works.models import Telegram, Trace

FROZEN = 25  # Seconds.


def test_the_killed_and_the_frozen_ones_work_is_done_by_another_and_they_write_nothing(yard):
    killed, frozen = yard.drain(wait=False), yard.drain(wait=False)
    of_killed, of_frozen, once = hold_works(yard, killed, frozen)
    yard.drain()
    frozen.send(signal.SIGSTOP)
    killed.send(signal.SIGKILL)
    died_at = time.monotonic()
    until(lambda: all_are("succeeded", of_killed), RESCUED)

    # What must not happen twice was begun by one of them, and nobody knows how it ended.
    until(lambda: state_of(once) == "unknown", RESCUED)
    assert outcomes(once) == [(1, "lost")]

    until(lambda: time.monotonic() - died_at > FROZEN, FROZEN)
    tempting = [job for _ in range(40) for job in enqueue("sleep 0.1")]
    thawed_at = datetime.now(UTC)
    frozen.send(signal.SIGCONT)
    until(lambda: all_are("succeeded", [*of_killed, *of_frozen, *tempting]), 30)

    # The frozen one finds its row dead, and ends; it settled and started nothing.
    assert frozen.ends(15) == os.EX_TEMPFAIL
    started = Trace.objects.using("operator").filter(pid=frozen.pid, what="began")
    assert not started.filter(at__gt=thawed_at).exists()
    assert all(outcomes(job) == [(1, "succeeded")] for job in tempting)
    for job in [*of_killed, *of_frozen]:
        assert outcomes(job) == [(1, "lost"), (2, "succeeded")]
        attempts = Attempt.objects.using("operator").filter(work_id=job.pk)
        assert len(set(attempts.values_list("drainer", flat=True))) == 2
        job.refresh_from_db(using="operator")
        assert (job.attempts, job.losses, job.lease, job.drainer) == (2, 0, None, None)


def hold_works(yard, killed, frozen):
    """Let both be in mid-step: the jobs of each, and one work that must not happen twice.

    The first try of each lasts until the frozen one is thawed; later ones are done at once.
    """
    ids = [
        until(lambda process=process: yard.beating(process), 30).pk for process in (killed, frozen)
    ]
    # More than one of them has slots for, so that each takes some.
    jobs = [job for _ in range(20) for job in enqueue(f"dawdle {FROZEN}")]
    once = Telegram.objects.using("operator").create(
        tenant_id=1, lane="lane:1", max_attempts=3, act=f"sleep {FROZEN}"
    )
    until(lambda: all(traces(job, "began") for job in jobs), 10)
    until(lambda: state_of(once) == "processing", 5)
    holders = Job.objects.using("operator").filter(drainer__isnull=False)
    held = dict(holders.values_list("pk", "drainer"))
    of_killed, of_frozen = ([job for job in jobs if held[job.pk] == id_] for id_ in ids)
    assert of_killed
    assert of_frozen
    return of_killed, of_frozen, once


def outcomes(job: Job) -> list[tuple[int, str]]:
    rows = Attempt.objects.using("operator").filter(work_id=job.pk).order_by("number")
    return list(rows.values_list("number", "outcome"))
