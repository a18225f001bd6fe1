"""Settling: attempts, next states, dead letters, and whatever cannot be written."""

import logging
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from jobs import partitions
from jobs.engine import verdict
from jobs.models import Attempt, DeadLetter
from jobs.outcomes import Exchange, Fail, Retry, Snooze, Succeeded, Unknown, Withdrawn
from tenants.models import AuditEntry
from tests.jobs.conftest import attempts_of, fresh, letter_of
from tests.works.models import Missive, Telegram

EXCHANGE = Exchange({"method": "POST", "url": "https://a.test/"}, {"status": 503, "body": "no"})


def claimed(engine, count=1, **columns):
    """Works in the hands of one drainer, with their claims."""
    works = [engine.add(**columns)[0] for _ in range(count)]
    claims = {claim.id: claim for claim in engine.claim(drainer=engine.drainer())}
    return [(work, claims[work.pk]) for work in works]


def test_success_ends_a_work(engine):
    [(work, claim)] = claimed(engine)
    assert engine.settle((claim, Succeeded(exchange=EXCHANGE))) == 1
    work = fresh(work)
    assert (work.state, work.attempts, work.lease, work.drainer) == ("succeeded", 1, None, None)
    assert work.finished_at is not None
    attempt = Attempt.objects.using("operator").get(work_id=work.pk)
    assert (attempt.number, attempt.outcome, attempt.duration_ms) == (1, "succeeded", 10)
    assert attempt.request == EXCHANGE.request
    assert attempt.response == EXCHANGE.response


def test_a_retry_waits_as_long_as_its_policy_says_by_the_databases_clock(engine):
    [(work, claim)] = claimed(engine)
    engine.settle((claim, Retry("not yet", after=120)))
    work = fresh(work)
    assert (work.state, work.priority, work.last_error) == ("failed", 1, "not yet")
    waits = work.due_at - datetime.now(UTC)
    assert timedelta(seconds=115) < waits < timedelta(seconds=121)
    assert attempts_of(work) == [(1, "retry")]


def test_the_last_attempt_ends_in_a_dead_letter_with_its_exchange_and_an_audit_entry(engine):
    [(work, claim)] = claimed(engine, max_attempts=1)
    engine.settle((claim, Retry("not yet", exchange=EXCHANGE)))
    assert fresh(work).state == "dead_letter"
    assert attempts_of(work) == [(1, "failed")]
    letter = letter_of(work)
    assert (letter.reason, letter.error, letter.request) == (
        "exhausted",
        "not yet",
        EXCHANGE.request,
    )
    entry = AuditEntry.objects.using("operator").get(target=f"parcels:{work.pk}")
    assert (entry.action, entry.actor, entry.reason) == (
        "work.dead_lettered",
        "system:engine",
        "exhausted",
    )


def test_failing_for_good_spends_no_further_attempts(engine):
    [(work, claim)] = claimed(engine)
    engine.settle((claim, Fail("never")))
    assert fresh(work).state == "dead_letter"
    assert letter_of(work).reason == "failed"


def test_what_its_step_withdraws_is_cancelled_untried(engine):
    [(work, claim)] = claimed(engine)
    engine.settle((claim, Withdrawn("its customer said no")))
    work = fresh(work)
    assert (work.state, work.attempts, work.lease) == ("cancelled", 0, None)
    assert work.last_error == "its customer said no"
    assert work.finished_at is not None
    assert attempts_of(work) == []
    assert not DeadLetter.objects.using("operator").filter(work_id=work.pk).exists()


def test_what_is_being_undone_cannot_be_withdrawn(engine):
    (work,) = engine.add(state="discarding")
    (claim,) = engine.claim_undo(drainer=engine.drainer())
    engine.settle((claim, Withdrawn("its customer said no")))
    assert fresh(work).state == "dead_letter"
    assert letter_of(work).reason == "undo"


def test_a_snooze_is_no_attempt(engine):
    [(work, claim)] = claimed(engine)
    engine.settle((claim, Snooze(60, "not now")))
    work = fresh(work)
    assert (work.state, work.attempts, work.last_error) == ("scheduled", 0, "not now")
    assert attempts_of(work) == []


def test_what_is_handed_back_was_never_claimed(engine):
    [(work, claim)] = claimed(engine)
    engine.hand_back(claim)
    work = fresh(work)
    assert (work.state, work.attempts, work.priority, work.lease) == ("pending", 0, 0, None)
    assert attempts_of(work) == []


def test_unknown_is_a_state_only_where_nothing_may_happen_twice(engine):
    (telegram,) = engine.add(Telegram)
    me = engine.drainer()
    (claim,) = engine.claim("telegrams", drainer=me)
    engine.settle((claim, Unknown("no answer")))
    assert fresh(telegram).state == "unknown"
    assert attempts_of(telegram) == [(1, "unknown")]
    [(parcel, claim)] = claimed(engine)
    engine.settle((claim, Unknown("no answer")))
    assert fresh(parcel).state == "failed"


@pytest.mark.parametrize(
    "outcome",
    [Succeeded(patch={"act": "x" * 201}), Succeeded(patch={"act": object()}), None],
    ids=["refused-by-the-database", "not-to-be-encoded", "no-outcome"],
)
def test_what_is_done_once_is_unknown_where_its_result_cannot_be_written(engine, outcome):
    works = engine.add(Missive, 2)
    claims = engine.claim("missives", drainer=engine.drainer())
    claims += engine.claim("missives", drainer=engine.drainer(), slots=8 - len(claims))
    assert {claim.id for claim in claims} == {work.pk for work in works}
    assert engine.settle(*zip(claims, (outcome, Succeeded()), strict=True)) == 2
    odd, other = (Missive.objects.using("operator").get(pk=claim.id) for claim in claims)
    assert (odd.state, other.state) == ("unknown", "succeeded")
    assert odd.last_error.startswith("lost: ")
    assert attempts_of(odd) == [(1, "unknown")]
    assert not DeadLetter.objects.using("operator").filter(work_id=odd.pk).exists()


def test_a_patch_is_written_with_the_success(engine):
    [(work, claim)] = claimed(engine)
    engine.settle((claim, Succeeded(patch={"result": "done"})))
    assert (fresh(work).state, fresh(work).result) == ("succeeded", "done")


def test_a_patch_reaches_no_other_column(engine):
    [(work, claim)] = claimed(engine)
    engine.settle((claim, Succeeded(patch={"act": "changed", "max_attempts": 99})))
    work = fresh(work)
    assert (work.state, work.act, work.max_attempts) == ("succeeded", "succeed", 3)


def test_a_lost_lease_settles_nothing(engine):
    [(work, claim)] = claimed(engine)
    engine.silence(claim.drainer)
    engine.rescue()
    assert engine.settle((claim, Succeeded())) == 0
    work = fresh(work)
    assert (work.state, work.attempts) == ("pending", 1)
    assert attempts_of(work) == [(1, "lost")]


def test_a_lost_lease_settles_nothing_while_another_holds_the_work(engine):
    [(work, lost)] = claimed(engine)
    engine.silence(lost.drainer)
    engine.rescue()
    (held,) = engine.claim(drainer=engine.drainer())
    assert engine.settle((lost, Succeeded())) == 0
    assert engine.hand_back(lost) == 0
    assert (fresh(work).state, fresh(work).lease) == ("processing", held.lease)
    assert engine.settle((held, Succeeded())) == 1
    assert attempts_of(work) == [(1, "lost"), (2, "succeeded")]


def test_settling_twice_counts_once(engine):
    [(work, claim)] = claimed(engine)
    assert engine.settle((claim, Succeeded())) == 1
    assert engine.settle((claim, Fail("no"))) == 0
    assert fresh(work).state == "succeeded"
    assert attempts_of(work) == [(1, "succeeded")]
    assert not DeadLetter.objects.using("operator").filter(work_id=work.pk).exists()


def test_refused_data_splits_the_batch_and_everything_else_is_written(engine):
    held = claimed(engine, 8)
    ends = [(claim, Succeeded()) for _, claim in held]
    too_long = "x" * 50  # The column takes ten.
    ends[5] = (ends[5][0], Succeeded(patch={"result": too_long}))
    assert engine.settle(*ends) == 8
    states = [fresh(work).state for work, _ in held]
    assert states == ["succeeded"] * 5 + ["dead_letter"] + ["succeeded"] * 2
    assert "could not be written" in letter_of(held[5][0]).error
    for work, _ in held:
        assert len(attempts_of(work)) == 1


def test_an_attempt_without_a_partition_blocks_nothing_and_is_logged(engine, caplog):
    held = claimed(engine, 3)
    long_ago = datetime(2001, 1, 1, tzinfo=UTC)
    (settled, *others) = [
        verdict.Settlement(claim, verdict.State.SUCCEEDED, came=Attempt.Came.SUCCEEDED)
        for _, claim in held
    ]
    orphan = replace(settled, claim=replace(settled.claim, started_at=long_ago))
    with caplog.at_level(logging.ERROR):
        assert engine.write(orphan, *others) == 3
    assert [fresh(work).state for work, _ in held] == ["succeeded"] * 3
    assert "attempt_unwritten" in caplog.text
    assert [len(attempts_of(work)) for work, _ in held] == [0, 1, 1]


def test_errors_of_any_sort_can_be_written(engine):
    held = claimed(engine, 3)
    errors = ["x" * 1_000_000, "nul \x00 and \ud800", "ünïcode 🛥"]
    ends = [
        (
            claim,
            Retry(
                error,
                exchange=Exchange({"body": error}, {"body": error.encode("utf-8", "replace")}),
            ),
        )
        for (_, claim), error in zip(held, errors, strict=True)
    ]
    assert engine.settle(*ends) == 3
    stored = [fresh(work).last_error for work, _ in held]
    assert stored == ["x" * 500, "nul  and ?", "ünïcode 🛥"]
    bodies = [
        Attempt.objects.using("operator").get(work_id=work.pk).request["body"] for work, _ in held
    ]
    assert [len(body) for body in bodies] == [64 * 1024, 10, 9]


def test_partitions_are_made_a_fortnight_ahead_and_dropped_after_their_retention(engine):
    from django.db import connections

    today = datetime.now(UTC).date()
    with connections["owner"].cursor() as cursor:
        assert partitions.missing(cursor, today=today) == []
        ahead = partitions.missing(cursor, today=today + timedelta(days=1))
        assert ahead == [today + timedelta(days=15)]
        assert partitions.make(cursor, ahead) == [partitions.name_of(ahead[0])]
        assert partitions.missing(cursor, today=today + timedelta(days=1)) == []
        old = [today - timedelta(days=40)]
        partitions.make(cursor, old)
        assert partitions.expired(cursor, today=today, keep_days=30) == old
        assert partitions.drop(cursor, old) == [partitions.name_of(old[0])]
        assert old[0] not in partitions.existing(cursor)


def test_no_role_has_any_right_on_a_partition_itself(superuser):
    rows = superuser.execute(
        "select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid"
        " where i.inhparent = 'jobs_attempt'::regclass and exists ("
        " select 1 from aclexplode(c.relacl) where grantee <> c.relowner)"
    ).fetchall()
    assert rows == []
