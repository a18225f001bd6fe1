"""What was finished long ago is deleted; what is not finished, and what others rest on, is not."""

import json
from datetime import UTC, datetime, timedelta
from io import StringIO
from uuid import uuid4

import pytest
from django.core.management import call_command

from jobs import pruning, tasks
from jobs.models import DeadLetter, Job, Replay
from onboarding.models import PendingOnboarding


def ago(days):
    return datetime.now(UTC) - timedelta(days=days)


def add(engine, state, finished_at, count=1):
    return engine.add(Job, count, kind="act", state=state, finished_at=finished_at)


def left(rows):
    manager = type(rows[0])._default_manager.using("operator")
    return manager.filter(pk__in=[row.pk for row in rows]).count()


def run(*options):
    out = StringIO()
    call_command("prune", *options, stdout=out)
    return out.getvalue()


def sort(name):
    return next(sort for sort in pruning.sorts() if sort.name == name)


@pytest.fixture(autouse=True)
def nothing_old(engine):
    for one in pruning.sorts():
        pruning.prune(one)


@pytest.mark.parametrize("state", ["succeeded", "discarded", "cancelled"])
def test_a_job_goes_thirty_days_after_it_was_finished(engine, state):
    old, recent = add(engine, state, ago(31)), add(engine, state, ago(29))
    said = json.loads(run("--json"))
    assert (said["pruned"], said["sorts"]["jobs"]) == (True, {"days": 30, "count": 1})
    assert (left(old), left(recent)) == (0, 1)


@pytest.mark.parametrize("state", ["pending", "failed", "dead_letter", "processing"])
def test_what_is_not_finished_stays_however_old_it_is(engine, state):
    jobs = engine.add(Job, kind="act", state=state, created_at=ago(400), due_at=ago(400))
    assert "jobs: 0 over 30 days pruned\n" in run()
    assert left(jobs) == 1


def test_the_setting_says_for_how_long(engine, settings):
    kept = settings.SLIPWAY["RETENTION"] | {"works": 7}
    settings.SLIPWAY = settings.SLIPWAY | {"RETENTION": kept}
    jobs = add(engine, "succeeded", ago(8))
    tasks.prune()
    assert left(jobs) == 0


def test_many_go_batch_by_batch(engine, monkeypatch):
    monkeypatch.setattr(pruning, "AT_ONCE", 2)
    jobs = add(engine, "succeeded", ago(31), count=5)
    assert pruning.prune(sort("jobs")) == 5
    assert left(jobs) == 0


def test_a_dry_run_counts_and_changes_nothing(engine):
    jobs = add(engine, "succeeded", ago(31), count=3)
    said = json.loads(run("--dry-run", "--json"))
    assert (said["pruned"], said["sorts"]["jobs"]) == (False, {"days": 30, "count": 3})
    assert "jobs: 3 over 30 days to prune; nothing was changed\n" in run("--dry-run")
    assert left(jobs) == 3


def test_a_row_that_somebody_holds_is_left_for_the_next_time(engine, operator):
    held, free = add(engine, "succeeded", ago(32)), add(engine, "succeeded", ago(31))
    with operator.transaction():
        operator.execute("select from jobs_job where id = %s for update", [held[0].pk])
        assert pruning.prune(sort("jobs")) == 1
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


def test_a_resolved_dead_letter_goes_after_ninety_days_and_an_open_one_never(engine):
    def letter(**columns):
        made = {"tenant_id": engine.tenant(), "queue": "parcels", "work_id": uuid4()}
        row = DeadLetter(**made, reason="failed", created_at=ago(400), **columns)
        row.save(using="operator", force_insert=True)
        return [row]

    old, recent, unresolved = letter(resolved_at=ago(91)), letter(resolved_at=ago(89)), letter()
    run()
    assert (left(old), left(recent), left(unresolved)) == (0, 1, 1)


def test_a_replay_goes_with_the_works(engine):
    def replay(finished_at):
        row = Replay(
            tenant_id=engine.tenant(),
            queue="parcels",
            action="replay",
            selection={},
            total=0,
            finished_at=finished_at,
        )
        row.save(using="operator", force_insert=True)
        return [row]

    old, running = replay(ago(31)), replay(None)
    run()
    assert (left(old), left(running)) == (0, 1)


@pytest.mark.parametrize(
    ("name", "index"),
    [
        ("jobs", "job_finished"),
        ("deliveries", "delivery_finished"),
        ("letters", "deadletter_resolved"),
        ("replays", "replay_finished"),
        ("kept_payloads", "event_kept"),
        ("events", "event_age"),
    ],
)
def test_the_oldest_are_found_by_their_index(engine, operator, name, index):
    operator.execute("set enable_seqscan = off")
    for way in ("bitmapscan", "hashjoin", "mergejoin", "sort"):
        operator.execute(f"set enable_{way} = off")
    values = {"before": ago(30), "most": 1000}
    plan = operator.execute(f"explain {sort(name).statement}", values).fetchall()
    assert index in str(plan)
