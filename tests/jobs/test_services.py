"""What applications and operators may do with works."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import connections, transaction
from django.db.utils import DatabaseError, ProgrammingError

from jobs import lanes, services, shutting
from jobs.errors import LeaseLost, ReasonMissing, StaleState, UnknownKind
from jobs.fence import hold
from jobs.models import Attempt, DeadLetter, Drainer, Job, Lane
from jobs.outcomes import Fail, Retry, Snooze, Succeeded
from tenants.context import tenant_context
from tenants.errors import NoTenant
from tenants.models import AuditEntry
from tests.jobs.conftest import attempts_of, fresh, letter_of
from tests.works.models import Telegram


def enqueue(tenant, **options):
    with tenant_context(tenant):
        return services.enqueue("act", tenant_id=tenant.pk, args={"act": "succeed"}, **options)


def dead(engine, **columns):
    """A dead work and its letter."""
    (work,) = engine.add(**columns)
    (claim,) = engine.claim(drainer=engine.drainer())
    engine.settle((claim, Fail("never")))
    return work, letter_of(work)


# ---- enqueue ----


def test_a_job_is_enqueued_by_the_app_role_in_its_tenants_context(engine, tenant):
    job = enqueue(tenant)
    (claim,) = engine.claim("jobs", drainer=engine.drainer())
    assert (claim.id, claim.tenant_id, claim.schema) == (job.pk, tenant.pk, "pool")
    assert claim.data == {"kind": "act", "args": {"act": "succeed"}}


def test_a_job_falls_with_the_callers_transaction(engine, tenant):
    with transaction.atomic():
        job = enqueue(tenant)
        transaction.set_rollback(True)
    assert not Job.objects.using("operator").filter(pk=job.pk).exists()


def test_a_job_that_is_due_later_waits(engine, tenant):
    enqueue(tenant, due_at=datetime.now(UTC) + timedelta(hours=1))
    assert engine.claim("jobs", drainer=engine.drainer()) == []


def test_an_unknown_kind_is_refused_and_nothing_is_written(engine, tenant):
    with tenant_context(tenant), pytest.raises(UnknownKind):
        services.enqueue("no.such", tenant_id=tenant.pk)
    assert not Job.objects.using("operator").filter(tenant_id=tenant.pk).exists()


def test_the_app_role_cannot_enqueue_for_another_tenant(engine, tenant, other_tenant):
    with tenant_context(tenant), pytest.raises(DatabaseError):
        services.enqueue("act", tenant_id=other_tenant.pk)
    with pytest.raises((NoTenant, DatabaseError)):
        services.enqueue("act", tenant_id=other_tenant.pk)
    assert not Job.objects.using("operator").filter(tenant_id=other_tenant.pk).exists()


@pytest.mark.parametrize(
    "statement",
    [
        "update jobs_job set state = 'succeeded'",
        "delete from jobs_job",
        "update jobs_lane set tokens = 1000",
        "update jobs_lane set operator_window = null",
        "update jobs_lane set operator_rate = null",
        "update jobs_lane set operator_paused_until = null",
        "update jobs_lane set operator_why = ''",
        "insert into jobs_lane (key, operator_rate) values ('endpoint:1', 1)",
        "delete from jobs_lane",
        "select count(*) from jobs_drainer",
        "insert into jobs_deadletter (id) values (gen_random_uuid())",
        "insert into jobs_attempt (id) values (gen_random_uuid())",
        "select nextval('jobs_lease_seq')",
    ],
)
def test_the_rest_is_out_of_the_app_roles_reach(tenant, statement):
    refused = pytest.raises(ProgrammingError, match="permission denied")
    with tenant_context(tenant), connections["default"].cursor() as cursor, refused:
        cursor.execute(statement)


def test_the_app_role_sees_its_own_tenants_jobs_attempts_and_letters_alone(
    engine, tenant, other_tenant
):
    for one in (tenant, other_tenant):
        enqueue(one)
    for claim in engine.claim("jobs", drainer=engine.drainer()):
        engine.settle((claim, Fail("never")))
    for model in (Job, Attempt, DeadLetter):
        with tenant_context(tenant):
            assert set(model.objects.values_list("tenant_id", flat=True)) == {tenant.pk}
    assert Drainer.objects.using("operator").exists()


def _said(tenant, key, **words):
    """What a tenant says about a lane of its own."""
    who = {"actor": "user:1", "reason": "because", "using": "default"}
    lanes.set_rate(key=key, tenant_id=tenant.pk, **words, **who)


def test_the_app_role_sees_and_changes_its_own_tenants_lanes_alone(tenant, other_tenant):
    with tenant_context(other_tenant):
        _said(other_tenant, "endpoint:1", rate=5)
    with tenant_context(tenant):
        assert not Lane.objects.exists()
        assert Lane.objects.update(rate=None, paused_why="mine now") == 0
        with pytest.raises(DatabaseError), transaction.atomic():
            _said(other_tenant, "endpoint:2", rate=5)
        _said(tenant, "endpoint:1", rate=7)  # Its own, though the key is the same.
    theirs = Lane.objects.using("operator").get(tenant_id=other_tenant.pk)
    assert (theirs.key, theirs.rate, theirs.paused_why) == ("endpoint:1", 5, "")


# ---- replay, discard, cancel ----


def test_a_replay_runs_the_work_again_with_a_new_budget_behind_the_others(engine):
    work, letter = dead(engine)
    services.replay(dead_letter=letter, actor="operator:1", reason="fixed it")
    work = fresh(work)
    assert (work.state, work.attempts, work.max_attempts, work.priority) == ("pending", 1, 4, 2)
    (claim,) = engine.claim(drainer=engine.drainer())
    assert claim.attempt == 2
    engine.settle((claim, Retry("not yet")))
    assert fresh(work).state == "failed"
    engine.look()
    (claim,) = engine.claim(drainer=engine.drainer())
    engine.settle((claim, Succeeded()))
    assert attempts_of(work) == [(1, "failed"), (2, "retry"), (3, "succeeded")]


def test_a_replay_resolves_the_letter_and_is_audited(engine):
    work, letter = dead(engine)
    services.replay(dead_letter=letter, actor="operator:1", reason="fixed it")
    letter.refresh_from_db(using="operator")
    assert (letter.resolution, letter.resolved_by, letter.why) == (
        "replayed",
        "operator:1",
        "fixed it",
    )
    entry = AuditEntry.objects.using("operator").get(
        target=f"parcels:{work.pk}", action="work.replayed"
    )
    assert (entry.actor, entry.reason, entry.before, entry.after) == (
        "operator:1",
        "fixed it",
        {"state": "dead_letter"},
        {"state": "pending"},
    )


def test_what_is_replayed_cannot_be_replayed_or_discarded_again(engine):
    work, letter = dead(engine)
    services.replay(dead_letter=letter, actor="operator:1", reason="fixed it")
    for again in (services.replay, services.discard):
        with pytest.raises(StaleState):
            again(dead_letter=letter, actor="operator:1", reason="twice")
    assert fresh(work).max_attempts == 4


@pytest.mark.parametrize("act", [services.replay, services.discard])
def test_an_operator_must_say_why(engine, act):
    work, letter = dead(engine)
    with pytest.raises(ReasonMissing):
        act(dead_letter=letter, actor="operator:1", reason=" ")
    assert fresh(work).state == "dead_letter"
    assert letter_of(work).resolved_at is None


def test_a_discard_is_work_with_attempts_of_its_own(engine):
    work, letter = dead(engine)
    services.discard(dead_letter=letter, actor="operator:1", reason="not wanted")
    assert fresh(work).state == "discarding"
    assert engine.look().undoable["parcels"]
    assert engine.claim(drainer=engine.drainer()) == []  # Not to be done: to be undone.
    (claim,) = engine.claim_undo(drainer=engine.drainer())
    assert (claim.discarding, claim.attempt, claim.max_attempts) == (True, 2, 4)
    assert engine.claim_undo(drainer=engine.drainer()) == []  # One drainer at a time.
    engine.settle((claim, Retry("not yet")))
    assert fresh(work).state == "discarding"
    (claim,) = engine.claim_undo(drainer=engine.drainer())
    engine.settle((claim, Succeeded()))
    work = fresh(work)
    assert (work.state, work.finished_at is not None) == ("discarded", True)
    assert attempts_of(work) == [(1, "failed"), (2, "retry"), (3, "succeeded")]


def test_undoing_that_runs_out_of_attempts_comes_back_to_the_inbox(engine):
    work, letter = dead(engine)
    services.discard(dead_letter=letter, actor="operator:1", reason="not wanted")
    for _ in range(3):
        (claim,) = engine.claim_undo(drainer=engine.drainer())
        engine.settle((claim, Retry("cannot undo")))
    assert fresh(work).state == "dead_letter"
    assert letter_of(work).reason == "undo"


@pytest.mark.parametrize("state", ["pending", "scheduled", "failed", "unknown"])
def test_what_is_not_being_done_can_be_cancelled(engine, state):
    (work,) = engine.add(state=state)
    services.cancel(queue="parcels", work_id=work.pk, actor="operator:1", reason="withdrawn")
    assert fresh(work).state == "cancelled"
    assert AuditEntry.objects.using("operator").filter(target=f"parcels:{work.pk}").count() == 1


def cancel(work, queue="parcels"):
    services.cancel(queue=queue, work_id=work.pk, actor="operator:1", reason="withdrawn")
    return fresh(work)


def actions_on(work, queue="parcels"):
    entries = AuditEntry.objects.using("operator").filter(target=f"{queue}:{work.pk}")
    return list(entries.order_by("at").values_list("action", flat=True))


def test_cancelling_the_dead_resolves_its_letter(engine):
    (telegram,) = engine.add(Telegram)
    (claim,) = engine.claim("telegrams", drainer=engine.drainer())
    engine.settle((claim, Fail("never")))
    letter = letter_of(telegram)
    assert cancel(telegram, "telegrams").state == "cancelled"
    letter.refresh_from_db(using="operator")
    assert letter.resolution == "cancelled"


@pytest.mark.parametrize("state", ["pending", "scheduled", "failed", "unknown"])
def test_cancelling_what_was_begun_undoes_it_first(engine, state):
    (work,) = engine.add(state=state, attempts=3, due_at="2100-01-01T00:00Z")
    work = cancel(work)
    assert (work.state, work.finished_at, work.max_attempts) == ("discarding", None, 6)
    assert actions_on(work) == ["work.discarded"]
    (claim,) = engine.claim_undo(drainer=engine.drainer())
    engine.settle((claim, Succeeded()))
    assert fresh(work).state == "discarded"


def test_cancelling_the_dead_undoes_what_they_made_and_resolves_their_letter(engine):
    work, letter = dead(engine)
    assert cancel(work).state == "discarding"
    letter.refresh_from_db(using="operator")
    assert letter.resolution == "discarded"
    assert actions_on(work) == ["work.dead_lettered", "work.discarded"]


def test_cancelling_what_snoozed_half_way_undoes_it_although_no_attempt_counts(engine):
    (work,) = engine.add()
    (claim,) = engine.claim(drainer=engine.drainer())
    engine.settle((claim, Snooze(60, "")))
    assert fresh(work).attempts == 0
    assert cancel(work).state == "discarding"


def test_what_has_no_undo_is_cancelled_at_once_however_often_it_was_tried(engine):
    (telegram,) = engine.add(Telegram, state="failed", attempts=2)
    assert cancel(telegram, "telegrams").state == "cancelled"


def test_what_is_being_done_cannot_be_cancelled(engine):
    (work,) = engine.add()
    engine.claim(drainer=engine.drainer())
    with pytest.raises(StaleState):
        services.cancel(queue="parcels", work_id=work.pk, actor="operator:1", reason="withdrawn")
    assert fresh(work).state == "processing"


def test_a_skipped_head_lets_the_next_of_its_ordered_lane_run(engine):
    tenant = engine.tenant()
    first, second = (engine.add(tenant=tenant, seq=n)[0] for n in (1, 2))
    (claim,) = engine.claim(drainer=engine.drainer())
    engine.settle((claim, Fail("never")))
    assert engine.claim(drainer=engine.drainer()) == []  # A dead head blocks its lane.
    skip(first)
    (undone,) = engine.claim_undo(drainer=engine.drainer())
    engine.settle((undone, Succeeded()))
    assert fresh(first).state == "discarded"
    (claim,) = engine.claim(drainer=engine.drainer())
    assert claim.id == second.pk
    assert actions_on(first) == ["work.dead_lettered", "work.discarded"]


def test_a_head_that_waits_for_its_next_try_is_skipped_too(engine):
    tenant = engine.tenant()
    first, second = (engine.add(tenant=tenant, seq=n, state=state)[0] for n, state in STANDING)
    assert engine.claim(drainer=engine.drainer()) == []
    skip(first)
    (claim,) = engine.claim(drainer=engine.drainer())
    assert (fresh(first).state, claim.id) == ("cancelled", second.pk)


STANDING = [(1, "held"), (2, "pending")]


def skip(work):
    services.skip(queue="parcels", work_id=work.pk, actor="operator:1", reason="unsendable")


def test_what_is_being_done_cannot_be_skipped(engine):
    (work,) = engine.add()
    engine.claim(drainer=engine.drainer())
    with pytest.raises(StaleState):
        skip(work)
    assert fresh(work).state == "processing"


# ---- shut lanes ----


def in_lane(engine, *states):
    tenant = engine.tenant()
    works = [
        engine.add(tenant=tenant, lane="l", state=state, due_at="2100-01-01T00:00Z")[0]
        for state in states
    ]
    return works, {"queue": "parcels", "tenant_id": tenant, "lane": "l"}


def states_of(works):
    return [fresh(work).state for work in works]


def test_a_shut_lane_holds_what_waits_and_leaves_what_runs_or_ended(engine):
    states = ["pending", "scheduled", "failed", "succeeded", "dead_letter", "discarding"]
    works, lane = in_lane(engine, *states)
    running, _ = in_lane(engine, "pending")
    assert shutting.hold(**lane) == 3
    assert states_of(works) == ["held"] * 3 + states[3:]
    assert states_of(running) == ["pending"]  # Another tenant's lane of the same name.


def test_an_opened_lane_runs_all_that_it_held_the_oldest_first(engine):
    works, lane = in_lane(engine, "pending", "failed", "scheduled")
    shutting.hold(**lane)
    assert engine.claim(drainer=engine.drainer()) == []
    assert shutting.release(**lane) == 3
    claims = engine.claim(drainer=engine.drainer())
    assert sorted(claim.id for claim in claims) == [work.pk for work in works]


def test_many_are_held_and_released_chunk_by_chunk(engine, monkeypatch):
    monkeypatch.setattr(shutting, "CHUNK", 2)
    works, lane = in_lane(engine, *["pending"] * 5)
    assert (shutting.hold(**lane), shutting.hold(**lane)) == (5, 0)
    assert (shutting.release(**lane), shutting.release(**lane)) == (5, 0)
    assert states_of(works) == ["pending"] * 5


def test_what_a_shut_lane_cannot_keep_is_dead_not_lost_the_oldest_first(engine, monkeypatch):
    monkeypatch.setattr(shutting, "CHUNK", 2)
    works, lane = in_lane(engine, *["held"] * 6)
    assert shutting.overflow(**lane, keep=1) == 5
    assert states_of(works) == ["dead_letter"] * 5 + ["held"]
    assert {letter_of(work).reason for work in works[:5]} == {"overflow"}
    assert actions_on(works[0]) == ["work.dead_lettered"]
    assert shutting.overflow(**lane, keep=1) == 0


# ---- the fence ----


def test_the_fence_holds_while_the_claim_does_and_no_longer(engine, tenant):
    engine.add(tenant=tenant.pk)
    (claim,) = engine.claim(drainer=engine.drainer())
    with tenant_context(tenant), transaction.atomic():
        hold(claim)
    engine.silence(claim.drainer)
    engine.rescue()
    with tenant_context(tenant), transaction.atomic(), pytest.raises(LeaseLost):
        hold(claim)


def test_the_fence_is_closed_to_other_tenants(engine, tenant, other_tenant):
    engine.add(tenant=tenant.pk)
    (claim,) = engine.claim(drainer=engine.drainer())
    with tenant_context(other_tenant), transaction.atomic(), pytest.raises(LeaseLost):
        hold(claim)


def test_a_rescue_waits_for_what_is_behind_the_fence(engine, tenant):
    (work,) = engine.add(tenant=tenant.pk)
    (claim,) = engine.claim(drainer=engine.drainer())
    engine.silence(claim.drainer)
    engine.sql("set lock_timeout = '200ms'")
    with tenant_context(tenant), transaction.atomic():
        hold(claim)
        with pytest.raises(Exception, match="lock timeout"):
            engine.rescue()
    assert engine.rescue() == 1
    assert fresh(work).state == "pending"


def test_the_fence_is_of_no_use_outside_a_transaction(engine, tenant):
    engine.add(tenant=tenant.pk)
    (claim,) = engine.claim(drainer=engine.drainer())
    with tenant_context(tenant), pytest.raises(RuntimeError):
        hold(claim)
