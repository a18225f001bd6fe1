"""`manage.py drain` as a process: it does the work, finishes, hands back."""

import signal

import pytest
from django.db import transaction

from jobs import services
from jobs.models import Attempt, Drainer, Job
from tenants.context import tenant_context
from tests.chaos.conftest import all_are, enqueue, state_of, traces, until
from tests.works.models import Parcel


def test_it_does_a_job_that_the_app_role_enqueued(yard, tenant):
    process = yard.drain()
    with tenant_context(tenant), transaction.atomic():
        job = services.enqueue("act", tenant_id=tenant.pk, args={"act": "succeed"})
    until(lambda: state_of(job) == "succeeded", 5, process.said())
    assert [
        (a.number, a.outcome) for a in Attempt.objects.using("operator").filter(work_id=job.pk)
    ] == [(1, "succeeded")]


def test_it_starts_work_at_once_when_it_is_told_and_within_a_poll_when_it_is_not(yard, tenant):
    yard.drain()
    job, waits = None, []
    for _ in range(10):
        with tenant_context(tenant), transaction.atomic():
            job = services.enqueue("act", tenant_id=tenant.pk, args={"act": "succeed"})
        until(lambda job=job: state_of(job) == "succeeded", 5)
        waits.append((traces(job, "began")[0].at - job.created_at).total_seconds())
    assert sorted(waits)[5] < 0.3  # Half a second at the mean without hints.
    (quiet,) = enqueue("succeed")
    until(lambda: state_of(quiet) == "succeeded", 2.5)


@pytest.mark.parametrize("kind", ["drain", "worker"])
def test_sigterm_lets_running_steps_finish_and_claims_no_more(yard, kind):
    process = getattr(yard, kind)()
    (running,) = enqueue("sleep 3")
    until(lambda: traces(running, "began"), 5)
    process.send(signal.SIGTERM)
    until(lambda: "drainer_stopping" in process.said(), 5)
    (late,) = enqueue("succeed")
    assert process.ends(15) == 0
    assert state_of(running) == "succeeded"
    assert state_of(late) == "pending"
    assert not Drainer.objects.using("operator").filter(pid=process.pid).exists()


def test_sigterm_with_a_short_grace_leaves_the_work_to_others_at_once(yard):
    process = yard.drain("--grace", "0.5")
    (running,) = enqueue("sleep 60")
    until(lambda: traces(running, "began"), 5)
    process.send(signal.SIGTERM)
    process.ends(15)
    other = yard.drain()
    until(lambda: len(traces(running, "began")) == 2, 5, other.said())  # No 15 s of silence first.


def test_it_survives_whatever_a_step_raises(yard):
    process = yard.drain()
    raised = [
        "exception",
        "exit",
        "interrupt",
        "base",
        "stop",
        "cancelled",
        "huge",
        "nul",
        "untellable",
    ]
    jobs = [
        enqueue(f"raise {what}", kind=kind, max_attempts=1)[0]
        for what in raised
        for kind in ("act", "act_async")
    ]
    jobs += enqueue("nothing") + enqueue("stubborn", kind="no_such_kind")
    until(lambda: all_are("dead_letter", jobs), 20, process.said())
    (after,) = enqueue("succeed")
    until(lambda: state_of(after) == "succeeded", 5)
    errors = dict(
        Job.objects.using("operator")
        .filter(pk__in=[j.pk for j in jobs])
        .values_list("args__act", "last_error")
    )
    assert errors["raise exit"] == "SystemExit: 3"
    assert errors["raise nul"] == "ValueError: ab?c"
    assert len(errors["raise huge"]) == 500
    assert process.alive


def test_a_step_that_hangs_is_given_up_at_its_deadline_and_others_go_on(yard):
    process = yard.drain()
    hung = Parcel.objects.using("operator").create(
        tenant_id=1, lane="lane:1", max_attempts=1, forgiven=-2, act="sleep 30"
    )
    (other,) = enqueue("succeed")
    until(lambda: state_of(other) == "succeeded", 5)
    until(lambda: state_of(hung) == "dead_letter", 10, process.said())
    hung.refresh_from_db(using="operator")
    assert hung.last_error == "not done after 5 s"
    assert process.alive
