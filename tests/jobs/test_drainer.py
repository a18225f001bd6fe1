"""The loop's own parts: hints, the beat, the sweep, mail, and the command for partitions."""

import asyncio
import contextlib
import itertools
import json
import socket
import threading
import time
from datetime import UTC, datetime
from io import StringIO

import pytest
from aiosmtpd.controller import Controller
from django.core import mail
from django.core.management import call_command
from django.db import connections, transaction

from config.redis import client
from jobs import hints, services
from jobs.engine import beat, link
from jobs.engine.beat import Beat
from jobs.mail import send
from jobs.models import Drainer as DrainerRow
from jobs.outcomes import Fail, Retry, Succeeded
from tenants.context import tenant_context
from tests.jobs.conftest import attempts_of, drain, fresh, wait
from tests.works.models import Telegram

# ---- hints ----


@pytest.fixture
def heard():
    with client().pubsub() as channel:
        channel.subscribe(hints.CHANNEL)
        channel.get_message(timeout=1)
        yield lambda: channel.get_message(timeout=1)


def test_a_hint_is_sent_after_the_commit_and_not_before(heard):
    with transaction.atomic():
        services.wake_after_commit("jobs")
        assert heard() is None
    assert heard()["data"] == b"jobs"


def test_no_hint_is_sent_for_what_was_rolled_back(heard):
    with transaction.atomic():
        services.wake_after_commit("jobs")
        transaction.set_rollback(True)
    assert heard() is None


def test_a_thousand_hints_at_once_are_a_few(heard):
    for _ in range(1000):
        hints.send("jobs")
    count = 0
    while heard():
        count += 1
    assert 1 <= count <= 50


def test_sending_a_hint_costs_nothing_while_redis_is_away(valkey):
    valkey.stop()
    began_at = time.monotonic()
    for _ in range(100):
        hints.send("jobs")
    assert time.monotonic() - began_at < 0.1


def test_a_listener_hears_again_after_redis_was_away(valkey):
    names = []

    async def listen():
        await asyncio.wait_for(hints.listen(lambda hint: names.append(hint.queue)), 20)

    listener = threading.Thread(target=lambda: suppressed(listen()), daemon=True)
    listener.start()
    wait(lambda: hints.send("before") or "before" in names)
    valkey.stop()
    valkey.start()
    wait(lambda: hints.send("after") or "after" in names, 15)


def test_a_listener_ends_when_it_is_told_to_also_while_it_connects():
    async def told(after: float) -> bool:
        listener = asyncio.create_task(hints.listen(lambda hint: None))
        await asyncio.sleep(after)
        listener.cancel()
        done, _ = await asyncio.wait({listener}, timeout=3)
        return bool(done)

    async def listeners() -> list[bool]:
        return await asyncio.gather(*(told(n / 5000) for n in range(100)))

    assert all(asyncio.run(listeners()))


def suppressed(coroutine):
    with contextlib.suppress(TimeoutError):
        asyncio.run(coroutine)


# ---- the loop ----


def test_a_drainer_says_hello_and_goodbye(engine):
    died = drain(lambda *_: DrainerRow.objects.using("operator").filter(slots=8).exists())
    assert died == []
    assert not DrainerRow.objects.using("operator").exists()


def test_a_claim_whose_answer_was_lost_is_handed_back(engine, monkeypatch):
    monkeypatch.setattr("jobs.engine.drainer.SWEEP", 0.2)
    (telegram,) = engine.add(Telegram, state="scheduled", due_at="2100-01-01T00:00Z")

    def claim_behind_its_back(drainer):
        if drainer.id:
            engine.sql(
                "update works_telegram set state = 'processing', lease = 1, drainer = %s,"
                " attempts = 1 where id = %s and state = 'scheduled'",
                drainer.id,
                telegram.pk,
            )

    drain(lambda *_: fresh(telegram).state == "succeeded", meanwhile=claim_behind_its_back)
    assert attempts_of(telegram) == [(1, "succeeded")]


def test_many_works_start_a_few_in_each_turn_of_the_loop(engine):
    """The loop has answers to read, and the next claim's too, while it starts the last one's."""
    ours = Telegram.objects.using("operator").filter(
        pk__in=[one.pk for one in engine.add(Telegram, count=60)]
    )
    begun, after_turn = [], [0]

    def turn(loop):
        after_turn.append(len(begun))
        if len(begun) < 60:
            loop.call_soon(turn, loop)

    async def step(claim):
        if not begun:
            loop = asyncio.get_running_loop()
            loop.call_soon(turn, loop)
        begun.append(claim)
        return Succeeded()

    def done(*_):
        return not ours.exclude(state="succeeded").exists()

    drain(done, step=step, slots=60, lane_window=60, tenant_window=60)
    most = max(after - before for before, after in itertools.pairwise(after_turn))
    assert 1 < most <= 20
    assert len(begun) == 60


def test_a_plan_that_a_migration_made_useless_is_made_again(engine, superuser):
    superuser.execute("create table changing (a int); grant select on changing to public")

    async def columns_now(connection):
        return len((await connection.execute("select * from changing", prepare=True)).description)

    async def before_and_after():
        one = link.Link("test")
        before = await one.run(columns_now)
        superuser.execute("alter table changing add b int")
        after = await one.run(columns_now)
        await one.close()
        return before, after

    try:
        assert asyncio.run(before_and_after()) == (1, 2)
    finally:
        superuser.execute("drop table changing")


def test_a_plan_is_made_anew_for_a_table_that_has_grown(engine, superuser, monkeypatch):
    superuser.execute("create table growing (n int); grant select on growing to public")

    async def expected(connection):
        await connection.execute("select * from growing where n <> %s", [0], prepare=True)
        named = "select name from pg_prepared_statements where statement like '%growing where%'"
        [(name,)] = await (await connection.execute(named)).fetchall()
        cursor = await connection.execute(f"explain (format json) execute {name}(0)")
        return (await cursor.fetchone())[0][0]["Plan"]["Plan Rows"]

    async def as_it_grows():
        one = link.Link("test")
        small = await one.run(expected)
        superuser.execute("insert into growing select generate_series(1, 100000)")
        kept = await one.run(expected)
        monkeypatch.setattr(link, "PLANS_LAST", 0.0)
        anew = await one.run(expected)
        await one.close()
        return small, kept, anew

    try:
        small, kept, anew = asyncio.run(as_it_grows())
        assert small == kept < anew
    finally:
        superuser.execute("drop table growing")


def test_too_many_threads_that_hang_end_the_process(engine):
    let_go = threading.Event()
    engine.add(Telegram, count=8, max_attempts=1)

    def hang(claim):
        let_go.wait(60)

    changes = {"step": hang, "deadline": 0.1, "lane_window": 8, "tenant_window": 8}
    died = drain(lambda drainer, died: died, **changes)
    let_go.set()
    assert "hang in steps past their deadline" in died[0]


def test_a_loop_that_is_stuck_gets_no_beat_and_one_that_turns_does(engine, monkeypatch, caplog):
    monkeypatch.setattr(beat, "EVERY", 0.1)
    monkeypatch.setattr(beat, "STUCK", 1.5)
    me = engine.drainer(silent=60)
    heart = Beat(me, busy=lambda: 3)
    heart.start()

    def beaten():
        row = DrainerRow.objects.using("operator").get(pk=me)
        return (datetime.now(UTC) - row.beat_at).total_seconds() < 30 and row.busy == 3

    def found_stuck(times):
        return caplog.text.count("loop_stuck") >= times

    wait(beaten)
    wait(lambda: found_stuck(1))  # Nobody ticks.
    engine.silence(me)
    wait(lambda: found_stuck(3))
    assert not beaten()
    heart.tick()
    wait(beaten)
    heart.stop()


def test_a_beat_that_finds_its_row_dead_ends_the_process(engine, monkeypatch):
    monkeypatch.setattr(beat, "EVERY", 0.1)
    died = []
    me = engine.drainer()
    heart = Beat(me, busy=lambda: 0, on_death=died.append)
    heart.start()
    engine.sql("update jobs_drainer set dead_at = now() where id = %s", me)
    wait(lambda: died)
    heart.stop()


def test_a_beat_that_fails_in_any_way_ends_the_process(engine, monkeypatch, superuser):
    monkeypatch.setattr(beat, "EVERY", 0.1)
    died = []
    heart = Beat(engine.drainer(), busy=lambda: 0, on_death=died.append)
    superuser.execute("revoke update on jobs_drainer from slipway_operator")
    try:
        heart.start()
        wait(lambda: died)
    finally:
        superuser.execute("grant update on jobs_drainer to slipway_operator")
    assert died == ["its beat failed: InsufficientPrivilege"]
    wait(lambda: not heart.is_alive())


def test_a_drainer_whose_beat_has_ended_ends_the_process(engine):
    def end_the_beat(drainer):
        if hasattr(drainer, "_beat"):
            drainer._beat.stop()

    died = drain(lambda drainer, died: died, meanwhile=end_the_beat)
    assert died[0] == "its beat has ended"


def test_each_slot_of_the_shipped_queues_finds_a_connection(engine, settings):
    slots = sum(settings.SLIPWAY["QUEUES"][name]["slots"] for name in ("onboarding", "jobs"))
    telegrams = engine.add(Telegram, count=slots, max_attempts=1)
    all_at_once = threading.Barrier(slots, timeout=20)

    def hold_a_connection(claim):
        with connections["default"].cursor():
            all_at_once.wait()
        return Succeeded()

    def done(*_):
        return all(state != "pending" for state in states()) and "processing" not in states()

    def states():
        rows = Telegram.objects.using("operator").filter(pk__in=[one.pk for one in telegrams])
        return list(rows.values_list("state", flat=True))

    windows = {"lane_window": slots, "tenant_window": slots, "slots": slots}
    drain(done, step=hold_a_connection, seconds=30, **windows)
    connections["default"].close_pool()
    assert states() == ["succeeded"] * slots


def test_whoever_comes_back_first_judges_nobody_yet(monkeypatch):
    heart = Beat(1, busy=lambda: 0)
    assert heart.fresh
    assert not heart.steady  # It has not beaten long enough to blame others for their silence.
    later = beat.now() + beat.STEADY + 1
    heart._beaten_at = later
    monkeypatch.setattr(beat, "now", lambda: later)
    assert heart.steady
    monkeypatch.setattr(beat, "now", lambda: later + beat.FRESH + 1)
    assert not heart.fresh
    assert not heart.steady


def test_its_connections_are_the_operators_and_cannot_hold_locks_for_long():
    given = link.parameters("test")
    assert given["user"] == "slipway_operator"
    assert "idle_in_transaction_session_timeout=10s" in given["options"]


# ---- mail ----


def claimed_mail(engine, tenant, **args):
    args = {"to": ["a@example.com"], "subject": "Hello", "text": "There"} | args
    with tenant_context(tenant):
        job = services.enqueue("mail.send", tenant_id=tenant.pk, args=args)
    (claim,) = engine.claim("jobs", drainer=engine.drainer())
    return job, claim


def test_mail_is_sent_with_one_message_id_and_then_forgotten(engine, tenant):
    job, claim = claimed_mail(engine, tenant, html="<p>There</p>")
    outcome = send(claim)
    send(claim)
    first, again = mail.outbox[-2:]
    assert first.to == ["a@example.com"]
    assert first.message()["Message-ID"] == again.message()["Message-ID"]
    assert engine.settle((claim, outcome)) == 1
    assert fresh(job).args == {"sent_to": 1}


class Postmaster:
    """A real mail server that answers as it is told."""

    def __init__(self) -> None:
        self.recipient, self.data, self.seconds = "250 OK", "250 OK", 0.0

    async def handle_RCPT(self, server, session, envelope, address, options):
        envelope.rcpt_tos.append(address)
        return self.recipient

    async def handle_DATA(self, server, session, envelope):
        await asyncio.sleep(self.seconds)
        return self.data


@pytest.fixture
def postmaster(settings):
    handler = Postmaster()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = Controller(handler, hostname="127.0.0.1", port=port)
    server.start()
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_TIMEOUT = "127.0.0.1", 1
    settings.EMAIL_PORT = port
    handler.server = server
    yield handler
    if server.server is not None:
        server.stop()


@pytest.mark.parametrize(
    ("answers", "outcome"),
    [
        ({}, Succeeded),
        ({"recipient": "550 nobody here"}, Fail),
        ({"recipient": "450 busy"}, Retry),
        ({"data": "554 no"}, Fail),
        ({"data": "451 later"}, Retry),
        ({"seconds": 3}, Retry),
    ],
)
def test_what_the_mail_server_says_decides_whether_it_is_tried_again(
    engine, tenant, postmaster, answers, outcome
):
    vars(postmaster).update(answers)
    _, claim = claimed_mail(engine, tenant)
    assert isinstance(send(claim), outcome)


def test_mail_waits_for_a_mail_server_that_is_away(engine, tenant, postmaster):
    postmaster.server.stop()
    _, claim = claimed_mail(engine, tenant)
    assert isinstance(send(claim), Retry)


# ---- partitions ----


def test_the_command_says_what_it_would_do_and_does_nothing_twice():
    out = StringIO()
    call_command("partitions", "--json", "--dry-run", stdout=out)
    call_command("partitions", "--json", stdout=StringIO())
    again = StringIO()
    call_command("partitions", "--json", stdout=again)
    second = json.loads(again.getvalue())
    assert set(second) == set(json.loads(out.getvalue()))
    assert second["made"] == second["dropped"] == second["refused"] == []
    assert second["days_ahead"] == {"jobs_attempt": 14, "webhooks_payload": 14}


def test_a_success_of_mail_is_a_patch_and_nothing_else(engine, tenant):
    _, claim = claimed_mail(engine, tenant)
    assert send(claim) == Succeeded(patch={"args": {"sent_to": 1}})
