"""Replaying and discarding by filter: counted first, done in the background, never half."""

import os
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connections, transaction
from django.db.utils import DatabaseError

from config.ids import uuid7
from jobs import replaying, selection
from jobs.errors import LeaseLost, ReasonMissing, StaleState
from jobs.models import DeadLetter, Job, Replay
from jobs.outcomes import Fail, Snooze
from jobs.selection import Selection
from jobs.states import State
from tenants.context import tenant_context
from tenants.models import AuditEntry
from tests.jobs.conftest import drain, fresh
from tests.works.models import Parcel

OPERATOR = "operator"
WHY = {"actor": "operator:1", "reason": "the receiver is well again"}


def dead_parcels(engine, count, *, tenant=None, reason="failed", **columns):
    """Dead parcels and their letters, as the engine leaves them, without running it."""
    works = engine.add(Parcel, count, tenant=tenant, state="dead_letter", attempts=3, **columns)
    letters = [
        DeadLetter(
            tenant_id=work.tenant_id, queue="parcels", work_id=work.pk, reason=reason, error="no"
        )
        for work in works
    ]
    DeadLetter.objects.using(OPERATOR).bulk_create(letters)
    return works


def of(works, **fields):
    return Selection(queue="parcels", tenant_id=works[0].tenant_id, **fields)


def start(selected, action="replay", **fields):
    return replaying.start(
        selection=selected, action=Replay.Action(action), using=OPERATOR, **(WHY | fields)
    )


def job_of(replay):
    return Job.objects.using(OPERATOR).get(args={"replay": str(replay.pk)})


def claim_job(engine, replay):
    wanted = job_of(replay).pk
    (claim,) = [c for c in engine.claim("jobs", drainer=engine.drainer()) if c.id == wanted]
    return claim


def done(engine, replay):
    """Run the job to its end, and give the replay as it stands then."""
    while replay.finished_at is None:
        claim = claim_job(engine, replay)
        outcome = replaying.run(claim)
        engine.settle((claim, outcome))
        engine.look()
        replay.refresh_from_db(using=OPERATOR)
    return replay


def progress(replay):
    return replay.status, replay.total, replay.done, replay.skipped


def entries(target, action):
    return AuditEntry.objects.using(OPERATOR).filter(target=target, action=action)


def test_it_counts_first_and_shows_a_sample_and_changes_nothing(engine):
    works = dead_parcels(engine, 7)
    found = replaying.preview(of(works), action=Replay.Action.REPLAY, using=OPERATOR)
    assert found.count == 7
    assert [one.id for one in found.sample] == [work.pk for work in works[:5]]
    assert {fresh(work).state for work in works} == {"dead_letter"}
    assert not Job.objects.using(OPERATOR).filter(tenant_id=works[0].tenant_id).exists()


@pytest.mark.parametrize(
    ("action", "state", "resolution"),
    [("replay", "pending", "replayed"), ("discard", "discarding", "discarded")],
)
def test_it_moves_all_that_the_filter_finds_in_the_background(engine, action, state, resolution):
    works = dead_parcels(engine, 3)
    replay = start(of(works), action)
    assert {fresh(work).state for work in works} == {"dead_letter"}  # Asked for, not done.
    assert progress(done(engine, replay)) == ("finished", 3, 3, 0)
    assert {fresh(work).state for work in works} == {state}
    letters = DeadLetter.objects.using(OPERATOR).filter(tenant_id=works[0].tenant_id)
    assert {(one.resolution, one.resolved_by, one.why) for one in letters} == {
        (resolution, "operator:1", WHY["reason"])
    }


def test_what_is_replayed_has_a_new_budget_and_starts_at_once(engine):
    (work,) = dead_parcels(engine, 1, due_at="2100-01-01T00:00Z", losses=2)
    done(engine, start(of([work])))
    work = fresh(work)
    assert (work.attempts, work.max_attempts, work.losses, work.finished_at) == (3, 6, 0, None)
    assert work.due_at <= datetime.now(UTC)


def test_what_is_replayed_runs_behind_fresh_work(engine):
    tenant = engine.tenant()
    old = dead_parcels(engine, 2, tenant=tenant)
    done(engine, start(of(old)))
    new = engine.add(tenant=tenant, count=2)
    drainer = engine.drainer()
    first = {claim.id for claim in engine.claim(drainer=drainer, slots=2)}
    then = {claim.id for claim in engine.claim(drainer=drainer, slots=2)}
    assert (first, then) == ({work.pk for work in new}, {work.pk for work in old})


def test_the_audit_trail_has_one_entry_for_the_whole_and_one_for_each_work(engine):
    works = dead_parcels(engine, 3)
    replay = done(engine, start(of(works)))
    (whole,) = entries(f"replay:{replay.pk}", "works.replayed")
    assert (whole.actor, whole.reason, whole.after["total"]) == (*WHY.values(), 3)
    for work in works:
        (entry,) = entries(f"parcels:{work.pk}", "work.replayed")
        assert (entry.actor, entry.reason) == tuple(WHY.values())
        assert (entry.before, entry.after) == ({"state": "dead_letter"}, {"state": "pending"})


HOUR_AGO = datetime.now(UTC) - timedelta(hours=1)


@pytest.mark.parametrize(
    ("filter_", "columns"),
    [
        ({"lane": "l1"}, {"lane": "l1"}),
        ({"reason": "poison"}, {"reason": "poison"}),
        ({"until": HOUR_AGO}, {"created_at": HOUR_AGO - timedelta(minutes=1)}),
    ],
)
def test_it_moves_nothing_that_the_filter_does_not_find(engine, filter_, columns):
    tenant = engine.tenant()
    meant = dead_parcels(engine, 1, tenant=tenant, **columns)
    others = dead_parcels(engine, 1, tenant=tenant) + dead_parcels(engine, 1, **columns)
    replay = done(engine, start(of(meant, **filter_)))
    assert progress(replay) == ("finished", 1, 1, 0)
    assert [fresh(work).state for work in meant + others] == ["pending"] + ["dead_letter"] * 2


def test_it_finds_jobs_by_their_kind(engine):
    tenant = engine.tenant()
    meant, other = (
        engine.add(Job, tenant=tenant, kind=kind, state="cancelled")[0] for kind in ("a", "b")
    )
    selected = Selection(
        queue="jobs", tenant_id=tenant, type="a", states=(State.CANCELLED, State.SUCCEEDED)
    )
    assert selection.look(selected, place="", most=10, using=OPERATOR).ids == [meant.pk]
    assert other.pk != meant.pk


def test_named_works_alone_are_moved(engine):
    works = dead_parcels(engine, 3)
    done(engine, start(of(works, ids=(works[1].pk,))))
    assert [fresh(work).state for work in works] == ["dead_letter", "pending", "dead_letter"]


def test_what_was_resolved_in_the_meantime_is_skipped_and_said_so(engine, monkeypatch):
    monkeypatch.setattr(replaying, "CHUNK", 1)  # So that what is skipped is a chunk of its own.
    works = dead_parcels(engine, 3)
    replay = start(of(works, states=(State.DEAD_LETTER, State.SUCCEEDED)))
    Parcel.objects.using(OPERATOR).filter(pk=works[1].pk).update(state="succeeded")
    assert progress(done(engine, replay)) == ("finished", 3, 2, 1)


def test_what_waits_is_withdrawn_where_there_is_nothing_to_undo(engine):
    held, dead = engine.add(Job, 2, tenant=engine.tenant(), kind="act", state="held")
    Job.objects.using(OPERATOR).filter(pk=dead.pk).update(state="dead_letter")
    states = (State.HELD, State.DEAD_LETTER)
    selected = Selection(queue="jobs", tenant_id=held.tenant_id, states=states)
    done(engine, start(selected, "discard"))
    held = fresh(held)
    assert (held.state, held.finished_at is not None) == ("cancelled", True)
    assert fresh(dead).state == "discarding"


def test_it_goes_on_where_it_was_killed(engine, monkeypatch):
    monkeypatch.setattr(replaying, "CHUNK", 2)
    works = dead_parcels(engine, 5)
    replay = start(of(works))
    killed = claim_job(engine, replay)
    with tenant_context(killed.tenant):
        assert not replaying._one_chunk(killed, replay.pk, OPERATOR)
    engine.silence(killed.drainer)
    engine.rescue()
    assert [fresh(work).state for work in works] == ["pending"] * 2 + ["dead_letter"] * 3
    assert progress(done(engine, replay)) == ("finished", 5, 5, 0)
    assert {entries(f"parcels:{work.pk}", "work.replayed").count() for work in works} == {1}


def test_who_lost_the_job_moves_nothing_more(engine, monkeypatch):
    works = dead_parcels(engine, 2)
    replay = start(of(works))
    frozen = claim_job(engine, replay)
    engine.silence(frozen.drainer)
    engine.rescue()
    with pytest.raises(LeaseLost):
        replaying.run(frozen)
    assert {fresh(work).state for work in works} == {"dead_letter"}
    assert done(engine, replay).done == 2


def test_it_stops_when_it_is_cancelled_and_what_was_done_stays_done(engine, monkeypatch):
    monkeypatch.setattr(replaying, "CHUNK", 2)
    works = dead_parcels(engine, 5)
    replay = start(of(works))
    claim = claim_job(engine, replay)
    with tenant_context(claim.tenant):
        replaying._one_chunk(claim, replay.pk, OPERATOR)
    replaying.cancel(replay=replay, using=OPERATOR, **WHY)
    engine.settle((claim, replaying.run(claim)))
    replay.refresh_from_db(using=OPERATOR)
    assert progress(replay) == ("cancelled", 5, 2, 0)
    assert fresh(works[4]).state == "dead_letter"
    assert entries(f"replay:{replay.pk}", "works.replay_cancelled").get().after["done"] == 2
    with pytest.raises(StaleState):
        replaying.cancel(replay=replay, using=OPERATOR, **WHY)


def test_it_gives_its_place_up_now_and_then_and_comes_back(engine, monkeypatch):
    monkeypatch.setattr(replaying, "CHUNK", 2)
    monkeypatch.setattr(replaying, "STRETCH", 0.0)
    monkeypatch.setattr(replaying, "PACE", 2.0)
    works = dead_parcels(engine, 5)
    replay = start(of(works))
    outcome = replaying.run(claim_job(engine, replay))
    assert outcome == Snooze(0.0, "there is more to do")


def test_it_writes_no_faster_than_its_pace(engine, monkeypatch):
    monkeypatch.setattr(replaying, "CHUNK", 2)
    monkeypatch.setattr(replaying, "PACE", 20.0)
    works = dead_parcels(engine, 5)
    replay = start(of(works))
    began_at = time.monotonic()
    replaying.run(claim_job(engine, replay))
    assert time.monotonic() - began_at >= 0.2  # Two pauses of a tenth, between three chunks.


@pytest.mark.thorough
def test_thousands_of_dead_letters_take_few_statements_and_no_time_out(engine):
    count = 10_000 if os.environ.get("SLIPWAY_CHAOS") == "long" else 2_500
    tenant = engine.tenant()
    replay = start(of(dead_parcels(engine, count, tenant=tenant)))
    statements = []

    def counted(execute, sql, params, many, context):
        statements.append(sql)
        return execute(sql, params, many, context)

    with connections[OPERATOR].execute_wrapper(counted):
        done(engine, replay)
    assert progress(replay) == ("finished", count, count, 0)
    assert len(statements) <= 10 * (count // replaying.CHUNK + 1)
    Parcel.objects.using(OPERATOR).filter(tenant_id=tenant).update(state="cancelled")


def test_a_drainer_does_it(engine):
    works = dead_parcels(engine, 3)
    replay = start(of(works))

    def ended(drainer, died):
        replay.refresh_from_db(using=OPERATOR)
        return replay.status == "finished"

    drain(ended, name="jobs")
    assert progress(replay) == ("finished", 3, 3, 0)


def test_whoever_asks_must_say_why(engine):
    works = dead_parcels(engine, 1)
    with pytest.raises(ReasonMissing):
        start(of(works), reason=" ")
    assert not Replay.objects.using(OPERATOR).filter(tenant_id=works[0].tenant_id).exists()


def test_nobody_knows_what_another_queue_may_be_missing(engine):
    works = dead_parcels(engine, 1)
    with pytest.raises(LookupError):
        start(of(works), "missing")


# ---- As whom it runs ----


def test_the_app_role_cannot_pass_its_replay_for_the_operators(tenant):
    statement = (
        "insert into jobs_replay (id, tenant_id, queue, action, selection, actor, reason, total,"
        " by_operator) values (%s, %s, 'parcels', 'discard', '{}', 'a', 'b', 0, true)"
    )
    refused = pytest.raises(DatabaseError, match="permission denied")
    with tenant_context(tenant), connections["default"].cursor() as cursor, refused:
        cursor.execute(statement, [uuid7(), tenant.pk])
    with tenant_context(tenant), refused, transaction.atomic():
        Replay.objects.update(by_operator=True)


def test_a_tenants_replay_does_not_touch_what_tenants_may_not(engine, tenant):
    works = dead_parcels(engine, 1, tenant=tenant.pk)
    with tenant_context(tenant):
        replay = replaying.start(
            selection=of(works),
            action=Replay.Action.DISCARD,
            using="default",
            actor="x",
            reason="y",
        )
    assert not Replay.objects.using(OPERATOR).get(pk=replay.pk).by_operator
    claim = claim_job(engine, replay)
    with pytest.raises(DatabaseError, match="permission denied"):
        replaying.run(claim)
    assert fresh(works[0]).state == "dead_letter"


def test_a_replay_that_names_another_tenants_works_finds_none_of_them(engine, tenant, other_tenant):
    theirs = dead_parcels(engine, 1, tenant=other_tenant.pk)
    mine = Selection(queue="parcels", tenant_id=other_tenant.pk)
    with tenant_context(tenant):
        assert selection.look(mine, place="", most=10, using="default").ids == []
    found = selection.look(mine, place="", most=10, using=OPERATOR).ids
    assert found == [one.pk for one in theirs]


def test_a_cancel_and_a_chunk_do_not_cross(engine, monkeypatch):
    """The cancel waits for the chunk that runs, and no other follows."""
    works = dead_parcels(engine, 4)
    replay = start(of(works))
    claim = claim_job(engine, replay)
    monkeypatch.setattr(replaying, "CHUNK", 2)
    inside, resolve = threading.Event(), replaying.resolve

    def slowly(**what):
        inside.set()
        time.sleep(0.3)
        return resolve(**what)

    monkeypatch.setattr(replaying, "resolve", slowly)
    thread = threading.Thread(target=replaying.run, args=[claim])
    thread.start()
    assert inside.wait(5)
    replaying.cancel(replay=replay, using=OPERATOR, **WHY)
    thread.join()
    replay.refresh_from_db(using=OPERATOR)
    assert (replay.status, replay.done) == ("cancelled", 2)
    engine.settle((claim, Fail("over")))
