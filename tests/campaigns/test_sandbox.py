"""The sandbox: each fault, each control, and what Slipway's provider makes of it."""

import asyncio
import socket
import statistics
import subprocess
import sys
import threading
import time
from array import array
from uuid import uuid4

import msgspec
import pytest

from campaigns.providers import (
    Accepted,
    Account,
    AccountRefused,
    Ambiguous,
    BadCallback,
    CredentialsRefused,
    Later,
    Outgoing,
    ProviderUnreachable,
    Refused,
    Slower,
)
from campaigns.providers.sandbox import PROVIDER
from campaigns.sandbox.callbacks import planned
from campaigns.sandbox.faults import FAULTS
from campaigns.sandbox.ledger import most_in_a_second
from campaigns.sandbox.profile import Callbacks, Lognormal, Profile, Uniform
from tests.campaigns.provider import Sandbox
from tests.conftest import ROOT
from webhooks import http
from webhooks.answers import CallFailed, Kind

# What Slipway sees of each fault, and how many messages were accepted in truth.
SEEN = {
    "hang": (Kind.DEADLINE, 0),
    "reset": (Kind.RESET, 0),
    "error_500": (Ambiguous, 0),
    "unavailable": (Later, 0),
    "too_many": (Slower, 0),
    "too_many_until": (Slower, 0),
    "unauthorized": (AccountRefused, 0),
    "refused": (Refused, 0),
    "opted_out": (Refused, 0),
    "accept_hang": (Kind.DEADLINE, 1),
    "accept_reset": (Kind.RESET, 1),
    "accept_500": (Ambiguous, 1),
    "drip": (Kind.DEADLINE, 1),
    "html": (Ambiguous, 1),
    "truncated": (Ambiguous, 1),
    "missing_id": (Ambiguous, 1),
    "wrong_length": (Kind.CLOSED, 1),
}


@pytest.fixture
def open_sandbox(sandbox, settings):
    """The sandbox, where messages may go."""
    settings.WEBHOOK_OPEN_DESTINATIONS = [sandbox.pair]
    return sandbox


def account(sandbox, sender, *, key="key", **options):
    return Account(uuid4(), "sandbox", sandbox.url, sender, {"key": key}, options)


def message(**changes):
    return Outgoing(**({"message_id": uuid4(), "phone": "+4930123456", "text": "Hello"} | changes))


def send(at, outgoing=None, *, timeout=5.0):
    """What Slipway makes of one message: a verdict, or why there was no answer."""

    async def posted():
        request = PROVIDER.request(at, outgoing or message())
        try:
            answer = await http.post(
                url=request.url, body=request.body, headers=request.headers, timeout=timeout
            )
        except CallFailed as failed:
            return failed.kind
        finally:
            await http.close()
        return PROVIDER.judge(at, answer)

    return asyncio.run(posted())


def wait(is_so, seconds=10):
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# ---- What is accepted ----


def test_it_accepts_a_message_and_the_ledger_says_so(open_sandbox):
    sender, outgoing = open_sandbox.sender(), message()
    verdict = send(account(open_sandbox, sender), outgoing)
    (line,) = open_sandbox.lines(sender)
    assert verdict == Accepted(line["id"])
    assert line["key"] == str(outgoing.message_id)
    assert line["phone"] == "+4930123456"
    assert line["sender"] == sender
    ledger = open_sandbox.ledger(sender)
    assert ledger["by_key"] == {line["key"]: 1}
    assert ledger["by_phone"] == {"+4930123456": 1}
    assert ledger["answers"] == {"accepted": 1}
    assert ledger["first_at"] == ledger["last_at"] == line["at"]


def test_the_same_key_is_accepted_once_and_has_the_same_id(sandbox):
    sender = sandbox.sender()
    first, again = (sandbox.post(sender, key="one").json() for _ in range(2))
    assert first == again
    ledger = sandbox.ledger(sender)
    assert (ledger["accepted"], ledger["duplicates"], ledger["requests"]) == (1, 0, 2)


def test_without_idempotency_the_same_key_is_accepted_again(sandbox):
    sender = sandbox.sender(idempotent=False)
    first, again = (sandbox.post(sender, key="one").json() for _ in range(2))
    assert first["id"] != again["id"]
    ledger = sandbox.ledger(sender)
    assert (ledger["accepted"], ledger["duplicates"], ledger["most_of_a_key"]) == (2, 1, 2)
    assert ledger["most_of_a_phone"] == 2


def test_the_faults_are_those_that_are_tested():
    assert set(SEEN) == set(FAULTS)


@pytest.mark.parametrize("fault", SEEN)
def test_each_fault_is_seen_as_what_it_is(open_sandbox, fault):
    seen, accepted = SEEN[fault]
    sender = open_sandbox.sender(faults={fault: 1.0})
    verdict = send(account(open_sandbox, sender), timeout=0.3 if seen is Kind.DEADLINE else 5.0)
    assert verdict is seen or isinstance(verdict, seen if isinstance(seen, type) else ())
    if fault == "opted_out":
        assert verdict.opted_out
    wait(lambda: open_sandbox.ledger(sender)["in_flight"] == 0)
    assert open_sandbox.ledger(sender)["accepted"] == accepted


def test_a_phone_that_is_refused_is_refused_for_good_and_others_are_not(open_sandbox):
    gone, left, fine = "+4930111111", "+4930222222", "+4930333333"
    sender = open_sandbox.sender(refused=[gone], opted_out=[left])
    at = account(open_sandbox, sender)
    assert isinstance(send(at, message(phone=gone)), Refused)
    refusal = send(at, message(phone=left))
    assert refusal.opted_out
    assert left[1:] not in refusal.error
    assert isinstance(send(at, message(phone=fine)), Accepted)
    assert open_sandbox.ledger(sender)["by_phone"] == {fine: 1}


def test_a_key_is_not_taken_any_more_from_some_request_on(sandbox):
    sender = sandbox.sender(unauthorized_after=2)
    assert [sandbox.post(sender).status_code for _ in range(4)] == [200, 200, 401, 401]
    assert sandbox.ledger(sender)["accepted"] == 2
    sandbox.set(sender, latency=0.0)
    assert sandbox.post(sender).status_code == 200


# ---- How fast ----


def test_beyond_its_rate_it_refuses_and_accepts_nothing(sandbox):
    sender = sandbox.sender(rate={"per_second": 0.001, "burst": 3, "retry_after": 7})
    answers = [sandbox.post(sender) for _ in range(5)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429]
    assert answers[-1].headers["Retry-After"] == "7"
    ledger = sandbox.ledger(sender)
    assert (ledger["accepted"], ledger["throttled"]) == (3, 2)


def test_a_rate_may_say_so_in_whatsapps_way_and_not_until_when(open_sandbox):
    sender = open_sandbox.sender(rate={"per_second": 0.001, "burst": 1, "code": 400})
    assert open_sandbox.post(sender).ok
    refused = open_sandbox.post(sender)
    assert refused.status_code == 400
    assert refused.json()["error"]["code"] == 130429
    assert "Retry-After" not in refused.headers
    assert isinstance(send(account(open_sandbox, sender)), Slower)


def test_a_rate_gives_back_what_it_took(sandbox):
    sender = sandbox.sender(rate={"per_second": 50, "burst": 1})
    assert sandbox.post(sender).ok
    wait(lambda: sandbox.post(sender).ok)


def test_beyond_its_slots_messages_queue(sandbox):
    sender = sandbox.sender(slots=2, latency=0.1)
    posts = [threading.Thread(target=sandbox.post, args=[sender]) for _ in range(6)]
    for post in posts:
        post.start()
    for post in posts:
        post.join()
    ledger = sandbox.ledger(sender)
    assert ledger["in_flight_most"] == 6
    first, *_, last = sandbox.lines(sender)
    assert last["at"] - first["at"] >= 0.19


def test_answers_take_as_long_as_their_distribution_says():
    shares = [(n + 0.5) / 1000 for n in range(1000)]
    even = [Uniform(0.1, 0.3).at(share) for share in shares]
    assert min(even) >= 0.1
    assert max(even) <= 0.3
    long_tailed = [Lognormal(p50=0.3, p99=2.0).at(share) for share in shares]
    assert statistics.median(long_tailed) == pytest.approx(0.3, rel=0.01)
    assert statistics.quantiles(long_tailed, n=100)[98] == pytest.approx(2.0, rel=0.05)


def test_the_most_in_a_second_is_of_any_second():
    assert most_in_a_second(array("d")) == 0
    assert most_in_a_second(array("d", [0.0, 0.9, 1.0, 1.1, 1.8, 3.0])) == 4


# ---- Chance ----


def test_a_run_repeats_by_its_seed_and_mixes_as_it_is_told():
    profile, other = (Profile(seed=s, faults={"reset": 0.1, "html": 0.2}) for s in ("a", "b"))
    keys = [str(n) for n in range(3000)]
    drawn = [profile.fault(key, 1) for key in keys]
    assert drawn == [profile.fault(key, 1) for key in keys]
    assert drawn != [other.fault(key, 1) for key in keys]
    assert drawn != [profile.fault(key, 2) for key in keys]
    assert drawn.count("reset") == pytest.approx(300, abs=60)
    assert drawn.count("html") == pytest.approx(600, abs=80)


def test_a_share_of_phones_is_refused_whatever_the_message():
    profile = Profile(refused_share=0.1, opted_out_share=0.1)
    phones = [f"+4930{n}" for n in range(2000)]
    found = [profile.refuses(phone) for phone in phones]
    assert found == [profile.refuses(phone) for phone in phones]
    assert found.count("refused") == pytest.approx(200, abs=50)
    assert found.count("opted_out") == pytest.approx(200, abs=50)


# ---- Callbacks ----


def told(replies, at):
    """Each status that came, in order, from callbacks that are genuine."""
    receipts = []
    for asked in replies.asked:
        assert PROVIDER.genuine(at, asked.headers, asked.body)
        assert not PROVIDER.genuine(at, asked.headers, asked.body + b" ")
        receipts += PROVIDER.receipts(at, asked.headers, asked.body)
    return receipts


def test_it_tells_what_became_of_a_message_and_signs_it(open_sandbox, replies):
    callbacks = {"url": f"{replies.url}/v1/callbacks/{{account}}", "delay": 0.03, "read": 1.0}
    sender = open_sandbox.sender(callbacks=callbacks)
    at, outgoing = account(open_sandbox, sender), message()
    sent = PROVIDER.request(at, outgoing)
    answer = open_sandbox.session.post(sent.url, data=sent.body, headers=dict(sent.headers))
    wait(lambda: len(told(replies, at)) == 3)
    receipts = told(replies, at)
    assert [receipt.what for receipt in receipts] == ["sent", "delivered", "read"]
    assert {receipt.message_id for receipt in receipts} == {outgoing.message_id}
    assert {receipt.provider_id for receipt in receipts} == {answer.json()["id"]}
    assert {asked.path for asked in replies.asked} == {f"/v1/callbacks/acc_{at.id}"}
    stranger = account(open_sandbox, sender, key="other")
    assert not PROVIDER.genuine(stranger, replies.asked[0].headers, replies.asked[0].body)
    wait(lambda: open_sandbox.ledger(sender)["callbacks_taken"] == 3)


def test_a_message_may_fail_after_all_since_its_recipient_has_left(sandbox, replies):
    callbacks = {"url": replies.url, "delay": 0.0, "failed": 1.0, "opted_out": 1.0}
    sender = sandbox.sender(callbacks=callbacks)
    sandbox.post(sender)
    at = account(sandbox, sender)
    wait(lambda: len(told(replies, at)) == 2)
    sent, failed = told(replies, at)
    assert (sent.what, failed.what, failed.error, failed.opted_out) == (
        "sent", "failed", "opted_out", True,
    )  # fmt: skip


def test_a_callback_may_come_before_the_answer(sandbox, replies):
    callbacks = {"url": replies.url, "delay": 60.0, "early": 1.0}
    sender = sandbox.sender(callbacks=callbacks)
    assert sandbox.post(sender).ok
    assert [receipt.what for receipt in told(replies, account(sandbox, sender))] == ["sent"]


def test_a_callback_that_is_not_taken_comes_again(sandbox, replies):
    replies.say(500)
    sender = sandbox.sender(callbacks={"url": replies.url, "delay": 0.0, "delivered": 0.0})
    sandbox.post(sender)
    wait(lambda: len(replies.asked) == 1)
    replies.say(200)
    wait(lambda: sandbox.ledger(sender)["callbacks_taken"] == 1)
    assert len(replies.asked) == 2


@pytest.mark.parametrize(
    ("how", "statuses"),
    [
        ({}, ["sent", "delivered"]),
        ({"doubled": 1.0}, ["sent", "sent", "delivered", "delivered"]),
        ({"reversed": 1.0}, ["delivered", "sent"]),
        ({"missing": 1.0}, []),
        ({"sent": 0.0, "read": 1.0}, ["delivered", "read"]),
    ],
)
def test_callbacks_come_doubled_out_of_order_or_not_at_all(how, statuses):
    plan = planned(Profile(callbacks=Callbacks(url="http://x", **how)), "key")
    assert [status for _, status in plan] == statuses
    assert [at for at, _ in plan] == sorted(at for at, _ in plan)


def test_a_callback_that_cannot_be_read_is_refused_and_unknown_kinds_are_passed_over(sandbox):
    at = account(sandbox, "any")
    with pytest.raises(BadCallback):
        PROVIDER.receipts(at, {}, b'{"statuses": 1}')
    odd = b'{"statuses": [{"status": "warmed", "id": "1"}, {"status": "read"}, 7]}'
    assert PROVIDER.receipts(at, {}, odd) == []


# ---- The account ----


def test_credentials_are_verified(open_sandbox):
    sender = open_sandbox.sender(key="right")
    PROVIDER.verify(account(open_sandbox, sender, key="right"))
    with pytest.raises(CredentialsRefused):
        PROVIDER.verify(account(open_sandbox, sender, key="other"))
    assert isinstance(send(account(open_sandbox, sender, key="other")), AccountRefused)
    open_sandbox.set(sender)
    with pytest.raises(CredentialsRefused):
        PROVIDER.verify(account(open_sandbox, sender, key="wrong-by-name"))


def test_a_sandbox_that_is_not_there_is_unreachable(settings, free_port):
    settings.WEBHOOK_OPEN_DESTINATIONS = [("127.0.0.1", free_port)]
    nowhere = Account(uuid4(), "sandbox", f"http://127.0.0.1:{free_port}", "s", {"key": "k"}, {})
    with pytest.raises(ProviderUnreachable):
        PROVIDER.verify(nowhere)


def test_what_an_attempt_keeps_of_a_request_is_nobodys_business(sandbox):
    at = account(sandbox, "shop", key="secret-key")
    request = PROVIDER.request(at, message(phone="+4930555666", text="Dear Ada"))
    kept = repr(request.shown)
    for personal in ("4930555666", "Ada", "secret-key"):
        assert personal not in kept
    assert b"Dear Ada" in request.body


def test_what_is_wrong_with_an_account_is_named(sandbox):
    bad = Account(uuid4(), "sandbox", sandbox.url, "a b", {"token": "x"}, {"idempotent": "no"})
    assert {flaw.pointer for flaw in PROVIDER.flaws(bad)} == {
        "/sender",
        "/credentials/key",
        "/credentials/token",
        "/options/idempotent",
    }
    assert list(PROVIDER.flaws(account(sandbox, "shop", idempotent=False))) == []


# ---- Control ----


@pytest.mark.parametrize(
    "profile",
    [
        {"faults": {"explode": 0.1}},
        {"faults": {"reset": 0.6, "html": 0.6}},
        {"latency": {"kind": "lognormal", "p50": 2, "p99": 1}},
        {"rate": {"per_second": 1, "code": 500}},
        {"latencies": 1},
    ],
)
def test_a_profile_that_makes_no_sense_is_refused_and_changes_nothing(sandbox, profile):
    sender = sandbox.sender(slots=7)
    url = f"{sandbox.url}/control/accounts/{sender}"
    assert sandbox.session.put(url, json=profile).status_code == 400
    assert sandbox.session.get(url).json()["slots"] == 7
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(profile, Profile)


def test_one_sender_is_forgotten_and_no_other(sandbox):
    gone, kept = sandbox.sender(slots=1), sandbox.sender()
    for sender in (gone, kept):
        assert sandbox.post(sender).ok
    sandbox.forget(gone)
    assert sandbox.ledger(gone)["accepted"] == sandbox.ledger(gone)["requests"] == 0
    assert sandbox.session.get(f"{sandbox.url}/control/accounts/{gone}").json()["slots"] is None
    assert sandbox.ledger(kept)["accepted"] == 1


def test_what_it_does_not_know_is_not_found(sandbox):
    assert sandbox.session.get(f"{sandbox.url}/v2/messages").status_code == 404
    assert sandbox.session.post(f"{sandbox.url}/v1/messages", data=b"{}").status_code == 400


# ---- The process ----


def test_a_killed_one_forgets_nothing_that_it_accepted_and_a_stop_waits_for_nobody(tmp_path):
    ledger = tmp_path / "accepted.jsonl"
    killed = Sandbox("--ledger", str(ledger))
    assert killed.url.startswith("http://127.0.0.1:")  # Nobody else's machine reaches it.
    first = killed.post("shop", key="one").json()
    killed.post("other", key="two")
    killed.forget("other")
    killed.kill()

    with ledger.open("ab") as file:
        file.write(b'{"at": 1.0, "sen')  # What a machine that stops may leave.
    again = Sandbox("--ledger", str(ledger), "--profile", '{"faults": {"hang": 1.0}}')
    again.set("shop", latency=0.0)
    assert again.post("shop", key="one").json() == first
    assert again.post("shop", key="three").ok
    assert again.ledger("shop")["by_key"] == {"one": 1, "three": 1}
    assert again.ledger("other")["accepted"] == 0
    with socket.create_connection(again.pair) as hanging:
        hanging.sendall(b"POST /v1/messages HTTP/1.1\r\nauthorization: Bearer key\r\n")
        hanging.sendall(b'host: x\r\ncontent-length: 23\r\n\r\n{"from": "a", "to":"b"}')
        wait(lambda: again.ledger("a")["in_flight"] == 1)
        began = time.monotonic()
        assert again.stop() == 0
        assert time.monotonic() - began < 2


def test_it_needs_no_django_and_says_why_it_cannot_start():
    lean = "import sys; import campaigns.sandbox.__main__ as m; print('django' in sys.modules);"
    lean += "sys.exit(m.main(['--port', '0', '--profile', '{\"slots\": 0}']))"
    ran = subprocess.run([sys.executable, "-c", lean], cwd=ROOT, capture_output=True, text=True)
    assert ran.stdout == "False\n"
    assert ran.returncode == 1
    assert "The sandbox cannot start" in ran.stderr
