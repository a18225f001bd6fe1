"""What was finished long ago is deleted; what is not finished, and what others rest on, is not."""

import json
from datetime import UTC, datetime, timedelta
from io import StringIO
from uuid import uuid4

import pytest
from django.core.management import call_command

from jobs import pruning, tasks
from jobs.models import Job
from onboarding.models import PendingOnboarding


def ago(days):
    return datetime.now(UTC) - timedelta(days=days)


def add(engine, state, finished_at, count=1):
    return engine.add(Job, count, kind="act", state=state, finished_at=finished_at)


def left(jobs):
    return Job.objects.using("operator").filter(pk__in=[job.pk for job in jobs]).count()


def run(*options):
    out = StringIO()
    call_command("prune", *options, stdout=out)
    return out.getvalue()


@pytest.fixture(autouse=True)
def nothing_old(engine):
    pruning.prune(days=30)


@pytest.mark.parametrize("state", ["succeeded", "discarded", "cancelled"])
def test_a_job_goes_thirty_days_after_it_was_finished(engine, state):
    old, recent = add(engine, state, ago(31)), add(engine, state, ago(29))
    assert json.loads(run("--json")) == {"days": 30, "found": None, "pruned": 1}
    assert (left(old), left(recent)) == (0, 1)


@pytest.mark.parametrize("state", ["pending", "failed", "dead_letter", "processing"])
def test_what_is_not_finished_stays_however_old_it_is(engine, state):
    jobs = engine.add(Job, kind="act", state=state, created_at=ago(400), due_at=ago(400))
    assert run() == "0 pruned\n"
    assert left(jobs) == 1


def test_the_setting_says_for_how_long(engine, settings):
    settings.SLIPWAY = settings.SLIPWAY | {"RETENTION": {"attempts": 30, "works": 7}}
    jobs = add(engine, "succeeded", ago(8))
    tasks.prune()
    assert left(jobs) == 0


def test_many_go_batch_by_batch(engine, monkeypatch):
    monkeypatch.setattr(pruning, "AT_ONCE", 2)
    jobs = add(engine, "succeeded", ago(31), count=5)
    assert run() == "5 pruned\n"
    assert left(jobs) == 0


def test_a_dry_run_counts_and_changes_nothing(engine):
    jobs = add(engine, "succeeded", ago(31), count=3)
    assert json.loads(run("--dry-run", "--json")) == {"days": 30, "found": 3, "pruned": 0}
    assert run("--dry-run") == "3 finished over 30 days ago; nothing was changed.\n"
    assert left(jobs) == 3


def test_a_row_that_somebody_holds_is_left_for_the_next_time(engine, operator):
    held, free = add(engine, "succeeded", ago(32)), add(engine, "succeeded", ago(31))
    with operator.transaction():
        operator.execute("select from jobs_job where id = %s for update", [held[0].pk])
        assert run() == "1 pruned\n"
    assert (left(held), left(free)) == (1, 0)


def test_a_sign_up_is_never_pruned(engine):
    sign_up = PendingOnboarding(
        tenant_id=engine.tenant(),
        lane="onboarding:old",
        slug=f"old-{uuid4().hex[:12]}",
        email="ann@example.com",
        tenant_name="Old",
        plan="free",
        home="pooled",
        caller="anonymous",
        fingerprint=b"0" * 32,
        max_attempts=3,
        state="succeeded",
        finished_at=ago(400),
    )
    sign_up.save(using="operator", force_insert=True)
    run()
    assert PendingOnboarding.objects.using("operator").filter(pk=sign_up.pk).exists()


def test_the_oldest_are_found_by_their_index(engine, operator):
    operator.execute("set enable_seqscan = off")
    plan = operator.execute(f"explain {pruning.DELETE}", [ago(30), ["succeeded"], 1000]).fetchall()
    assert "job_finished" in str(plan)
