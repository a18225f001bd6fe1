"""What operators and developers do from a terminal."""

import json
import os
import pty
import re
import subprocess
import sys
import threading
from contextlib import contextmanager
from io import StringIO

import pytest
import requests
from django.core.management import CommandError, call_command

from jobs import replaying
from jobs.models import DeadLetter, Job, Replay
from tenants.models import AuditEntry
from tests.conftest import ROOT, child_environment
from tests.jobs.conftest import Engine, withdraw_everything
from tests.webhooks.letters import OPERATOR, Desk, change, fresh, kill, outside
from webhooks import listening, secrets
from webhooks.signing import sign

WHY = "--reason=the receiver is well again"


@pytest.fixture
def desk(client, tenant):
    withdraw_everything()
    DeadLetter.objects.using(OPERATOR).all().delete()
    return Desk(client, tenant)


@pytest.fixture
def engine():
    taken_apart = Engine()
    yield taken_apart
    taken_apart.close()


def manage(*arguments) -> str:
    out = StringIO()
    call_command(*arguments, stdout=out, stderr=StringIO())
    return out.getvalue()


def in_json(*arguments) -> dict:
    sure = [] if "--dry-run" in arguments else ["--yes"]
    return json.loads(manage(*arguments, *sure, "--json"))


def run_jobs(engine):
    for claim in engine.claim("jobs", drainer=engine.drainer(), slots=16):
        engine.settle((claim, replaying.run(claim)))


def states(deliveries):
    return [fresh(delivery).state for delivery in deliveries]


# ---- replay, discard ----


def test_replay_counts_with_a_dry_run_and_changes_nothing(desk):
    desk.endpoint()
    dead = desk.dead(3)
    assert manage("replay", "deliveries", "--dry-run") == "3 found; nothing was changed.\n"
    said = in_json("replay", "deliveries", "--dry-run")
    assert (said["found"], said["tenants"], said["replays"]) == (3, 1, [])
    assert said["sample"] == [str(one.pk) for one in dead]
    assert not Replay.objects.using(OPERATOR).filter(tenant_id=desk.owner.pk).exists()


@pytest.mark.parametrize(("act", "state"), [("replay", "pending"), ("discard", "discarding")])
def test_it_hands_over_to_the_workers_what_it_found(desk, engine, act, state):
    desk.endpoint()
    dead = desk.dead(2)
    said = in_json(act, "deliveries", WHY)
    ((begun),) = said["replays"]
    assert (begun["total"], begun["status"]) == (2, "pending")
    run_jobs(engine)
    assert set(states(dead)) == {state}
    (entry,) = AuditEntry.objects.using(OPERATOR).filter(target=f"replay:{begun['id'][4:]}")
    assert entry.actor.startswith("system:terminal:")
    assert entry.reason == "the receiver is well again"


def test_it_acts_for_all_tenants_each_in_a_replay_of_its_own(desk, client, other_tenant, engine):
    desk.endpoint()
    other = Desk(client, other_tenant)
    other.endpoint()
    dead = desk.dead(1) + other.dead(2)
    said = in_json("replay", "deliveries", WHY)
    assert (said["found"], said["tenants"], len(said["replays"])) == (3, 2, 2)
    run_jobs(engine)
    assert set(states(dead)) == {"pending"}


def test_it_chooses_by_tenant_endpoint_type_reason_and_id(desk, client, other_tenant):
    one, two = desk.endpoint(event_types=["a.b"]), desk.endpoint(event_types=["c.d"])
    first, second = desk.dead(type="a.b") + desk.dead(type="c.d")
    other = Desk(client, other_tenant)
    other.endpoint()
    other.dead()
    for options, found in {
        ("--tenant", desk.owner.slug): [first, second],
        ("--tenant", f"tnt_{desk.owner.uuid}"): [first, second],
        ("--endpoint", outside("ep", one)): [first],
        ("--tenant", desk.owner.slug, "--type", "c.d"): [second],
        ("--tenant", desk.owner.slug, "--dead-reason", "poison"): [],
        ("--id", outside("dlv", second)): [second],
        ("--endpoint", outside("ep", two), "--until", "2020-01-01"): [],
        ("--tenant", "platform"): [],
    }.items():
        said = in_json("replay", "deliveries", "--dry-run", *options)
        assert said["sample"] == [str(one.pk) for one in found], options


@pytest.mark.parametrize(
    "options",
    [
        ["--tenant", "nobody-at-all"],
        ["--endpoint", "ep_1"],
        ["--id", "evt_1"],
        ["--state", "succeeded"],  # Of all tenants.
        ["--missing"],
        ["--since", "0001-01-01T00:00+14:00"],  # Before the first year of UTC.
        [],  # No reason.
    ],
)
def test_what_it_cannot_do_it_refuses_and_changes_nothing(desk, options):
    desk.endpoint()
    dead = desk.dead()
    with pytest.raises(CommandError):
        manage("replay", "deliveries", *options)
    assert states(dead) == ["dead_letter"]
    assert not Replay.objects.using(OPERATOR).filter(tenant_id=desk.owner.pk).exists()


def test_the_other_queues_are_replayed_by_the_same_command(engine):
    withdraw_everything()
    DeadLetter.objects.using(OPERATOR).all().delete()
    (job,) = engine.add(Job, kind="act", args={"act": "succeed"}, state="dead_letter")
    letter = {"tenant_id": job.tenant_id, "queue": "jobs", "work_id": job.pk, "reason": "failed"}
    DeadLetter(**letter).save(using=OPERATOR, force_insert=True)
    assert in_json("replay", "jobs", "--type", "other", "--dry-run")["found"] == 0
    assert in_json("replay", "jobs", "--type", "act", WHY)["found"] == 1
    run_jobs(engine)
    assert fresh(job).state == "pending"


def test_it_makes_what_is_missing(desk, engine):
    event = desk.publish()
    endpoint = desk.endpoint()
    options = ["--missing", "--since", "2020-01-01", "--endpoint", outside("ep", endpoint)]
    assert in_json("replay", "deliveries", *options, WHY)["found"] == 1
    run_jobs(engine)
    assert [one.event_id for one in desk.deliveries()] == [event.pk]


def test_backfill_tells_a_new_endpoint_what_was_published_since(desk, engine):
    events = [desk.publish(n=n) for n in range(3)]
    endpoint = desk.endpoint()
    desk.endpoint()
    options = ["--endpoint", outside("ep", endpoint), "--since", "2020-01-01", WHY]
    said = in_json("backfill", "events", *options, "--dry-run")
    assert said == {"found": 3, "handed_over": 0}
    assert in_json("backfill", "events", *options) == {"found": 3, "handed_over": 3}
    run_jobs(engine)
    told = desk.deliveries()
    assert [one.event_id for one in told] == [event.pk for event in events]
    assert {one.endpoint_id for one in told} == {endpoint.pk}
    assert in_json("backfill", "events", *options)["found"] == 0
    begun = Replay.objects.using(OPERATOR).get(tenant_id=desk.owner.pk)
    assert begun.actor.startswith("system:terminal:")
    assert begun.reason == "the receiver is well again"


def test_backfill_refuses_an_endpoint_that_is_not_there(desk):
    with pytest.raises(CommandError, match="no endpoint"):
        manage("backfill", "events", "--endpoint", "ep_x", "--since", "2020-01-01")


def on_a_terminal(answer: str):
    """`replay`, asked and answered; its process, and what it said."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "manage.py", "replay", "deliveries", WHY]
    asked = subprocess.Popen(
        command, cwd=ROOT, env=child_environment(), stdin=theirs, stderr=subprocess.PIPE, text=True
    )
    os.write(ours, f"{answer}\n".encode())
    _, said = asked.communicate(timeout=60)
    return asked, said


@pytest.mark.thorough
@pytest.mark.parametrize(("answer", "code", "state"), [("yes", 0, 1), ("no", 2, 0)])
def test_on_a_terminal_it_asks_before_it_does_anything(desk, answer, code, state):
    desk.endpoint()
    desk.dead()
    asked, said = on_a_terminal(answer)
    assert "1 works of 1 tenants" in said
    assert asked.returncode == code
    assert Replay.objects.using(OPERATOR).filter(tenant_id=desk.owner.pk).count() == state


def acts(desk):
    """Each command that acts, on a dead delivery of one endpoint and what another is missing."""
    desk.endpoint()
    desk.dead()
    new = outside("ep", desk.endpoint())
    return [
        ("replay", "deliveries"),
        ("discard", "deliveries"),
        ("backfill", "events", "--endpoint", new, "--since", "2020-01-01"),
    ]


@pytest.mark.parametrize("how", [[], ["--json"]])
def test_where_nobody_can_be_asked_it_acts_only_on_yes(desk, how):
    for command in acts(desk):
        with pytest.raises(CommandError, match="--yes") as refused:
            manage(*command, WHY, *how)
        assert refused.value.returncode == 1
        assert not Replay.objects.using(OPERATOR).filter(tenant_id=desk.owner.pk).exists()
        manage(*command, "--dry-run", *how)
        manage(*command, WHY, "--yes", *how)
        Replay.objects.using(OPERATOR).filter(tenant_id=desk.owner.pk).delete()


def test_no_act_goes_without_a_reason(desk):
    for command in acts(desk):
        with pytest.raises(CommandError, match="--reason"):
            manage(*command, "--yes")
    assert not Replay.objects.using(OPERATOR).filter(tenant_id=desk.owner.pk).exists()


@pytest.mark.thorough
def test_no_escape_of_a_receivers_reaches_the_terminal_of_who_is_asked(desk):
    desk.endpoint()
    (dead,) = desk.dead()
    change(dead, last_error="HTTP 500 \x1b]0;owned\x07\x9b31m\u202e\nType yes: ")
    _, said = on_a_terminal("no")
    (line,) = [line for line in said.splitlines() if str(dead.pk) in line]
    assert "HTTP 500" in line
    assert "Type yes" in line  # On the line that is a receiver's, not on one of its own.
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", said)


def test_a_dry_run_says_what_is_left_out_and_why(desk):
    desk.endpoint(disabled_at="2026-01-01T00:00Z")
    for delivery in desk.deliveries(desk.publish()):
        kill(delivery)
    said = manage("replay", "deliveries", "--dry-run")
    assert said == "0 found, 1 left out (endpoint_disabled); nothing was changed.\n"
    assert manage("replay", "deliveries", WHY, "--yes") == said


@pytest.mark.parametrize("command", ["replay", "discard", "backfill", "webhooks"])
def test_help_shows_examples(command, capsys):
    with pytest.raises(SystemExit):
        call_command(command, "--help")
    if command != "backfill":
        assert f"manage.py {command} " in capsys.readouterr().out.split("examples:")[1]


# ---- webhooks listen, webhooks verify ----


def signed(secret, body, message_id="evt_1", *, at):
    return sign([secret], message_id=message_id, timestamp=at, body=body)


@contextmanager
def listener(secret, **options):
    told = []
    options = {"status": 204, "forward": None} | options
    server = listening.Listener(secret=secret, port=0, tell=told.append, **options)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.port}/in", told
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def secret():
    return secrets.make()


@pytest.fixture
def now():
    import time

    return int(time.time())


def test_a_listener_verifies_and_prints_what_arrives(secret, now):
    body = b'{"type":"a.b","data":{"n":1}}'
    with listener(secret) as (url, told):
        answer = requests.post(url, data=body, headers=signed(secret, body, at=now), timeout=5)
    assert answer.status_code == 204
    assert re.search(r"/in evt_1 verified\n", told[0])
    assert '"n": 1' in told[0]


@pytest.mark.parametrize("flaw", ["body", "secret", "age", "headers"])
def test_a_listener_answers_401_to_what_does_not_verify(secret, now, flaw):
    body = b"{}"
    by = secrets.make() if flaw == "secret" else secret
    headers = signed(by, body, at=now - 600 if flaw == "age" else now)
    headers = {} if flaw == "headers" else headers
    with listener(secret) as (url, told):
        sent = b"{ }" if flaw == "body" else body
        assert requests.post(url, data=sent, headers=headers, timeout=5).status_code == 401
    assert "NOT VERIFIED" in told[0]


def test_no_escape_of_a_strangers_reaches_the_terminal(secret, now):
    body = b'{"data":"\\u001b[2J\\u009b31m\\u202e"}' + b"\x1b]0;owned\x07"
    with listener(secret) as (url, told):
        requests.post(url, data=body, headers={"webhook-id": "a\x9bb"}, timeout=5)
        requests.post(url, data=b'{"a":"\x9b"}', timeout=5)
    for line in told:
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", line)


def test_a_listener_sends_what_verified_on_and_passes_the_answer_back(secret, now):
    body = b'{"n":1}'
    with (
        listener(secret, status=202) as (further, arrived),
        listener(secret, forward=further) as (url, told),
    ):
        answer = requests.post(url, data=body, headers=signed(secret, body, at=now), timeout=5)
        assert answer.status_code == 202
        assert requests.post(url, data=body, timeout=5).status_code == 401
    assert len(arrived) == 1
    assert "  sent on: 202" in told


def test_a_body_too_large_is_refused(secret):
    with listener(secret) as (url, told):
        assert requests.post(url, data=b"x" * 1_048_577, timeout=5).status_code == 413
    assert told == []


@pytest.fixture
def captured(tmp_path, secret, now):
    body = b'{"n":1}'
    lines = [f"{name}: {value}" for name, value in signed(secret, body, at=now).items()]
    (tmp_path / "headers").write_text("POST /in HTTP/1.1\n" + "\n".join(lines) + "\n")
    (tmp_path / "body").write_bytes(body)
    return tmp_path


def verify(captured, secret, *options):
    files = ["--headers", str(captured / "headers"), "--body", str(captured / "body")]
    return manage("webhooks", "verify", *files, "--secret", secret, *options)


def test_a_captured_request_is_verified(captured, secret):
    assert verify(captured, secret) == "Verified.\n"


def test_a_captured_request_of_somebody_elses_is_not_and_exits_with_1(captured):
    with pytest.raises(CommandError, match="Not verified") as refused:
        verify(captured, secrets.make())
    assert refused.value.returncode == 1


def test_what_cannot_be_read_exits_with_2(captured, secret):
    (captured / "body").unlink()
    with pytest.raises(CommandError) as refused:
        verify(captured, secret)
    assert refused.value.returncode == 2


def test_the_secret_need_not_be_on_the_command_line(captured, secret, monkeypatch):
    files = ["--headers", str(captured / "headers"), "--body", str(captured / "body")]
    with pytest.raises(CommandError, match="WEBHOOK_SECRET"):
        manage("webhooks", "verify", *files)
    (captured / "secret").write_text(f"{secret}\n")
    by_file = ["--secret-file", str(captured / "secret")]
    assert manage("webhooks", "verify", *files, *by_file) == "Verified.\n"
    monkeypatch.setattr("sys.stdin", StringIO(f"{secret}\n"))
    assert manage("webhooks", "verify", *files, "--secret-file", "-") == "Verified.\n"
    monkeypatch.setenv("WEBHOOK_SECRET", secret)
    assert manage("webhooks", "verify", *files) == "Verified.\n"


def test_an_old_capture_is_verified_when_asked_for(captured, secret, now):
    body = (captured / "body").read_bytes()
    lines = [f"{name}: {value}" for name, value in signed(secret, body, at=now - 9999).items()]
    (captured / "headers").write_text("\n".join(lines))
    with pytest.raises(CommandError, match="seconds off"):
        verify(captured, secret)
    assert verify(captured, secret, "--any-time") == "Verified.\n"
