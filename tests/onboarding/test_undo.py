"""Undoing a sign-up: nothing is left to be done, and nobody's tenant is destroyed under them."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from uuid import uuid4

import pytest
from django.db import connection, connections, transaction

from jobs import replaying
from jobs.models import DeadLetter, Replay
from jobs.outcomes import Fail, Succeeded
from jobs.selection import Selection
from onboarding import backfill, ledger, steps
from tenants import activation, hosts, problems
from tenants.context import tenant_context
from tests.onboarding import world
from tests.onboarding.hands import settle, take, take_job
from tests.onboarding.test_hangs import wait_until
from tests.people import PASSWORD, Browser


def provision_with_a_mail_for_tomorrow(platform, operator) -> int:
    """A tenant whose owner got another tenant's welcome today: this one's waits as a job."""
    email = f"{uuid4().hex}@twice.example"
    world.provision(operator, platform.sign_up(email=email))
    return world.provision(operator, platform.sign_up(email=email))


def undo(operator, tenant_id: int):
    claim = take(operator, request_of(operator, tenant_id), discarding=True)
    outcome = steps.undo(claim)
    if outcome == Succeeded():
        settle(operator, claim, "discarded")
    return outcome


def request_of(operator, tenant_id: int):
    return operator.execute(
        "select id from onboarding_pendingonboarding where tenant_id = %s", [tenant_id]
    ).fetchone()[0]


def token_of(operator, tenant_id: int) -> str:
    (user_id,) = operator.execute(
        "select user_id from tenants_membership where tenant_id = %s", [tenant_id]
    ).fetchone()
    return activation.make_token(user_id=user_id, tenant_id=tenant_id)


def status_of(operator, tenant_id: int) -> str:
    return operator.execute(
        "select status from tenants_tenant where id = %s", [tenant_id]
    ).fetchone()[0]


# ---- The tenant's jobs ----


def test_it_withdraws_the_mail_that_waits_for_tomorrow(platform, operator):
    tenant_id = provision_with_a_mail_for_tomorrow(platform, operator)
    assert world.traces(operator, tenant_id)["jobs_job"] == 1
    assert undo(operator, tenant_id) == Succeeded()
    assert world.traces(operator, tenant_id) == {}
    [(job, state)] = operator.execute(
        "select id, state from jobs_job where tenant_id = %s", [tenant_id]
    ).fetchall()
    assert state == "cancelled"
    told = operator.execute(
        "select actor, reason, before, after from tenants_auditentry"
        " where action = 'work.cancelled' and target = %s", [f"jobs:{job}"],
    )  # fmt: skip
    assert told.fetchall() == [
        (
            "system:onboarding",
            "Its tenant was undone.",
            {"state": "scheduled"},
            {"state": "cancelled"},
        )
    ]


def test_it_withdraws_a_dead_job_with_its_letter(platform, operator):
    tenant_id = provision_with_a_mail_for_tomorrow(platform, operator)
    (job,) = operator.execute(
        "update jobs_job set state = 'dead_letter' where tenant_id = %s returning id", [tenant_id]
    ).fetchone()
    letter = DeadLetter.objects.using("operator").create(
        tenant_id=tenant_id, queue="jobs", work_id=job, reason="failed"
    )
    assert undo(operator, tenant_id) == Succeeded()
    letter.refresh_from_db()
    assert (letter.resolution, letter.resolved_by) == ("cancelled", "system:onboarding")
    assert world.traces(operator, tenant_id) == {}


@pytest.mark.parametrize("kind", ["onboarding.welcome", "onboarding.step"])
@pytest.mark.parametrize("gone", ["all", "tenant", "being undone"])
def test_a_job_for_what_is_gone_is_done(platform, operator, smtp, kind, gone):
    tenant_id = provision_with_a_mail_for_tomorrow(platform, operator)
    operator.execute(
        "update jobs_job set kind = %s, args = args || '{\"step\": \"storage\"}'"
        " where tenant_id = %s", [kind, tenant_id],
    )  # fmt: skip
    claim = take_job(operator, tenant_id, kind)
    if gone == "being undone":
        operator.execute("update tenants_tenant set status = 'closing' where id = %s", [tenant_id])
    else:
        assert undo(operator, tenant_id) == Succeeded()
    if gone == "all":
        operator.execute(
            "delete from onboarding_pendingonboarding where tenant_id = %s", [tenant_id]
        )
    smtp.mails.clear()
    do = backfill.send_welcome if kind == "onboarding.welcome" else backfill.run_step
    assert do(claim) == Succeeded()
    assert smtp.mails == []


def test_a_mail_for_an_owner_who_was_removed_is_done(platform, operator, smtp):
    tenant_id = provision_with_a_mail_for_tomorrow(platform, operator)
    claim = take_job(operator, tenant_id, "onboarding.welcome")
    operator.execute("delete from tenants_membership where tenant_id = %s", [tenant_id])
    assert backfill.send_welcome(claim) == Succeeded()


def test_nothing_is_left_of_what_was_to_be_done_again(platform, operator):
    tenant_id = world.provision(operator, platform.sign_up())
    replaying.start(
        selection=Selection(queue="deliveries", tenant_id=tenant_id),
        action=Replay.Action.REPLAY,
        actor="system:test",
        reason="its gateway is back",
        using="operator",
    )
    before = world.traces(operator, tenant_id)
    assert (before["jobs_replay"], before["jobs_job"]) == (1, 1)
    assert undo(operator, tenant_id) == Succeeded()
    assert world.traces(operator, tenant_id) == {}


# ---- The owner's click ----


def test_the_link_is_dead_in_a_tenant_that_is_being_undone(platform, operator):
    tenant_id = world.provision(operator, platform.sign_up())
    token = token_of(operator, tenant_id)
    assert Browser().get(f"/activate/{token}").status_code == 200
    claim = take(operator, request_of(operator, tenant_id), discarding=True)
    with tenant_context(claim.tenant):
        assert ledger.close(claim)
    assert Browser().get(f"/activate/{token}").status_code == 410
    with pytest.raises(problems.InvalidLink):
        activation.activate(token=token, password=PASSWORD)


@pytest.mark.parametrize("status", ["provisioning", "active"])
def test_it_destroys_nothing_of_a_tenant_whose_owner_came_first(platform, operator, status):
    tenant_id = world.provision(operator, platform.sign_up(plan="pro"))
    operator.execute("update tenants_tenant set status = %s where id = %s", [status, tenant_id])
    before = world.traces(operator, tenant_id)
    activation.activate(token=token_of(operator, tenant_id), password=PASSWORD)
    assert undo(operator, tenant_id) == Fail("undo: the tenant is in use")
    assert world.traces(operator, tenant_id) == before
    assert status_of(operator, tenant_id) == status


@contextmanager
def in_an_open_transaction(deed):
    """Another connection has done `deed` and not committed yet; it does at the end of the block."""
    done, go_on = threading.Event(), threading.Event()

    def do():
        try:
            with transaction.atomic():
                deed()
                done.set()
                assert go_on.wait(20)
        finally:
            done.set()
            connections.close_all()

    with ThreadPoolExecutor(1) as thread:
        doing = thread.submit(do)
        assert done.wait(20)
        yield go_on
        go_on.set()
        doing.result(timeout=20)


def somebody_waits_for_a_lock(superuser) -> bool:
    return bool(
        superuser.execute(
            "select 1 from pg_stat_activity where datname = current_database()"
            " and wait_event_type = 'Lock'"
        ).fetchall()
    )


def test_a_click_and_an_undo_at_once_the_click_first(platform, operator, superuser):
    tenant_id = world.provision(operator, platform.sign_up(plan="pro"))
    token, before = token_of(operator, tenant_id), world.traces(operator, tenant_id)
    claim = take(operator, request_of(operator, tenant_id), discarding=True)

    with (
        ThreadPoolExecutor(1) as thread,
        in_an_open_transaction(
            lambda: activation.activate(token=token, password=PASSWORD)
        ) as commit,
    ):
        undoing = thread.submit(steps.undo, claim)
        wait_until(lambda: somebody_waits_for_a_lock(superuser))
        commit.set()
        assert undoing.result(timeout=20) == Fail("undo: the tenant is in use")
    assert world.traces(operator, tenant_id) == before
    assert status_of(operator, tenant_id) == "active"


def test_a_click_and_an_undo_at_once_the_undo_first(platform, operator, superuser):
    tenant_id = world.provision(operator, platform.sign_up(plan="pro"))
    token = token_of(operator, tenant_id)
    claim = take(operator, request_of(operator, tenant_id), discarding=True)

    def close():
        with tenant_context(claim.tenant):
            assert ledger.close(claim)

    with ThreadPoolExecutor(1) as thread, in_an_open_transaction(close) as commit:
        clicking = thread.submit(activation.activate, token=token, password=PASSWORD)
        wait_until(lambda: somebody_waits_for_a_lock(superuser))
        commit.set()
        with pytest.raises(problems.InvalidLink):
            clicking.result(timeout=20)
    assert steps.undo(claim) == Succeeded()
    assert world.traces(operator, tenant_id) == {}


# ---- Ways back, and what comes after ----


def test_a_sign_up_is_replayed_after_its_undoing_failed(platform, operator, smtp):
    email = f"{uuid4().hex}@again.example"
    tenant_id = world.provision(operator, platform.sign_up(email=email))
    storage = steps.step_named("storage")
    claim = take(operator, request_of(operator, tenant_id), discarding=True)
    storage.undo = lambda ctx, recorded: 1 / 0
    try:
        assert steps.undo(claim).error.startswith("undo storage: ZeroDivisionError")
    finally:
        del storage.undo
    assert status_of(operator, tenant_id) == "closing"
    again = take(operator, claim.id)
    assert steps.run(again) == Succeeded()
    assert status_of(operator, tenant_id) == "active"
    activation.activate(token=token_of(operator, tenant_id), password=PASSWORD)


def test_it_asks_redis_nothing_inside_a_transaction(platform, operator, monkeypatch):
    tenant_id = world.provision(operator, platform.sign_up())
    seen, forget = [], hosts.forget

    def watched(names):
        seen.append(connection.in_atomic_block)
        forget(names)

    monkeypatch.setattr(hosts, "forget", watched)
    assert undo(operator, tenant_id) == Succeeded()
    assert seen == [False, False]  # The step `cache`, and the tenant's own.
