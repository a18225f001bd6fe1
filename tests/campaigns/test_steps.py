"""The step of a message: what each answer of a provider comes to, at a real one that misbehaves."""

import json

import pytest

from campaigns.models import Message
from campaigns.providers import AccountRefused, sandbox
from customers.models import Customer, Suppression
from jobs.models import DeadLetter, Job
from tenants.context import tenant_context
from tests.campaigns.posting import KEY, attempts_of, came_to, fresh, key_of, send, sending
from tests.chaos.conftest import until

# What goes wrong with a message that was accepted, or may have been.
AMBIGUOUS = [
    "hang",
    "reset",
    "error_500",
    "accept_hang",
    "accept_reset",
    "accept_500",
    "drip",
    "html",
    "truncated",
    "missing_id",
    "wrong_length",
]
SHORT = {"timeout": 0.3}


def test_a_message_is_sent_and_counted_and_its_provider_is_given_its_id_as_the_key(post):
    mailing = post.mailing()
    send(mailing, lambda: mailing.all_are("succeeded"))
    message = mailing.message
    ledger = post.ledger(mailing.account)
    assert ledger["by_key"] == {key_of(message): 1}
    assert ledger["by_phone"] == {message.phone: 1}
    assert message.provider_id.startswith("sbx-")
    assert came_to(message) == ["succeeded"]
    assert mailing.counters == {"sent": 1}
    job = Job.objects.using("operator").get(kind="campaigns.finish", tenant_id=post.tenant.pk)
    assert job.args == {"campaign": str(mailing.campaign.pk)}


def test_an_attempt_keeps_nothing_personal_and_no_credentials(post):
    mailing = post.mailing(account=post.account({"faults": {"refused": 1.0}}))
    send(mailing, lambda: mailing.all_are("dead_letter"))
    message = mailing.message
    (attempt,) = attempts_of(message)
    letter = DeadLetter.objects.using("operator").get(work_id=message.pk)
    kept = json.dumps(
        [attempt.request, attempt.response, attempt.error, letter.request, letter.response]
    )
    assert message.phone[1:] not in kept  # The sandbox names it in its answer.
    assert "Ada" not in kept
    assert KEY not in kept
    assert "[phone]" in attempt.response["body"]
    assert attempt.response["status"] == 422
    assert attempt.request["method"] == "POST"
    assert attempt.request["body_bytes"] > 0
    assert message.phone[1:] not in message.last_error


def test_a_refused_recipient_fails_at_once_and_says_nothing_of_the_account(post):
    mailing = post.mailing(12, account=post.account({"refused_share": 1.0}))
    send(mailing, lambda: mailing.all_are("dead_letter"))
    assert mailing.counters == {"failed": 12}
    assert post.ledger(mailing.account)["requests"] == 12
    assert mailing.lane is None or mailing.lane.failures == 0


def test_who_opted_out_at_the_provider_is_never_written_to_again(post):
    account = post.account({"opted_out_share": 1.0})
    mailing = post.mailing(3, account=account)
    send(mailing, lambda: len(suppressed(post)) == 3, "jobs")
    assert mailing.states == ["dead_letter"] * 3
    assert suppressed(post) == {(one.phone, "opted_out") for one in mailing.customers}
    with tenant_context(post.tenant):
        assert set(Customer.objects.values_list("consent", flat=True)) == {"withdrawn"}


def suppressed(post) -> set:
    with tenant_context(post.tenant):
        return set(Suppression.objects.values_list("phone", "reason"))


def test_what_surely_was_not_accepted_is_tried_again(post):
    mailing = post.mailing(account=post.account({"faults": {"unavailable": 1.0}}))
    with sending():
        until(lambda: mailing.states == ["failed"], 5)
        post.profile(mailing.account.sender, latency=0.0)
        mailing.hasten()
        until(lambda: mailing.states == ["succeeded"], 5)
    assert came_to(mailing.message) == ["retry", "succeeded"]
    assert post.ledger(mailing.account)["most_of_a_key"] == 1


def test_a_connection_that_is_refused_was_no_request_and_is_tried_again(post, free_port):
    account = post.account(base_url=f"http://127.0.0.1:{free_port}")
    with post.opened(free_port):
        mailing = post.mailing(account=account)
        send(mailing, lambda: mailing.states == ["failed"])
    assert mailing.message.last_error.startswith("unreachable")
    assert mailing.counters == {}


def test_an_address_inside_is_not_called_with_a_message(post):
    """Whatever was looked at when the account was made: the message's own connection is."""
    for inside in ("https://10.0.0.1", "https://[::ffff:127.0.0.1]", post.sandbox.url):
        mailing = post.mailing(account=post.account(base_url=inside))
        open_ = list(post.open_destinations)
        post.open_destinations.clear()
        send(mailing, lambda mailing=mailing: mailing.states == ["failed"])
        post.open_destinations.extend(open_)
        assert mailing.message.last_error.startswith(("blocked", "bad_request"))
        assert post.ledger(mailing.account)["requests"] == 0


@pytest.mark.parametrize("fault", AMBIGUOUS)
def test_what_may_have_been_accepted_is_unknown_and_never_sent_again(post, fault):
    account = post.account({"faults": {fault: 1.0}}, options=SHORT)
    mailing = post.mailing(account=account)
    with sending():
        until(lambda: mailing.states == ["unknown"], 5)
        mailing.hasten()
    assert came_to(mailing.message) == ["unknown"]
    assert mailing.message.last_error.startswith("perhaps sent: ")
    assert mailing.counters == {"unknown": 1}
    ledger = post.ledger(account)
    assert ledger["requests"] == 1
    assert ledger["accepted"] == (0 if fault in ("hang", "reset", "error_500") else 1)


@pytest.mark.parametrize("fault", ["accept_hang", "accept_500", "html"])
def test_a_provider_that_sends_the_same_message_once_is_asked_again(post, fault):
    account = post.account({"faults": {fault: 1.0}}, idempotent=True, options=SHORT)
    mailing = post.mailing(account=account)
    with sending():
        until(lambda: mailing.states == ["failed"], 5)
        post.profile(account.sender, latency=0.0, idempotent=True)
        mailing.hasten()
        until(lambda: mailing.states == ["succeeded"], 5)
    ledger = post.ledger(account)
    assert (ledger["requests"], ledger["accepted"]) == (2, 1)
    assert mailing.counters == {"sent": 1}


def test_what_was_perhaps_sent_never_ends_as_failed(post):
    """Its first try was accepted and not answered; the others never came through."""
    account = post.account({"faults": {"accept_500": 1.0}}, idempotent=True)
    mailing = post.mailing(account=account)
    with sending():
        until(lambda: mailing.states == ["failed"], 5)
        post.profile(account.sender, faults={"unavailable": 1.0}, idempotent=True)
        until(lambda: mailing.hasten() or mailing.states == ["unknown"], 5)
    assert came_to(mailing.message) == ["retry", "retry", "retry", "unknown"]
    assert mailing.message.last_error.startswith("perhaps sent: ")
    assert mailing.counters == {"unknown": 1}


def test_tries_are_few(post):
    mailing = post.mailing(account=post.account({"faults": {"unavailable": 1.0}}))
    send(mailing, lambda: mailing.hasten() or mailing.all_are("dead_letter"))
    assert came_to(mailing.message) == ["retry", "retry", "retry", "failed"]
    assert mailing.counters == {"failed": 1}


def test_a_message_whose_time_has_passed_is_withdrawn(post):
    mailing = post.mailing(2, send_until="2020-01-01T00:00Z")
    send(mailing, lambda: mailing.all_are("cancelled"))
    assert mailing.messages[0].last_error == "send_until has passed"
    assert mailing.counters == {"cancelled": 2}
    assert post.ledger(mailing.account)["requests"] == 0


def test_a_message_of_a_cancelled_campaign_is_withdrawn(post):
    mailing = post.mailing(state="cancelled")
    send(mailing, lambda: mailing.all_are("cancelled"))
    assert mailing.message.last_error == "its campaign was cancelled"
    assert post.ledger(mailing.account)["requests"] == 0


def test_an_erased_customers_message_is_withdrawn(post):
    mailing = post.mailing()
    rows = Message.objects.using("operator").filter(pk=mailing.message.pk)
    rows.update(phone="", customer_id=None, params={})
    send(mailing, lambda: mailing.all_are("cancelled"))
    assert mailing.message.last_error == "its customer was erased"


def test_a_message_whose_campaign_is_paused_just_then_waits(post):
    mailing = post.mailing(state="paused")  # And its lane is open, as in the moment between.
    send(mailing, lambda: mailing.all_are("scheduled"))
    assert mailing.message.last_error == "its campaign is paused"
    assert (mailing.message.attempts, attempts_of(mailing.message)) == (0, [])


def test_a_test_goes_out_whatever_its_campaign_does_and_nobody_counts_it(post):
    mailing = post.mailing(0, state="draft", materialised_at=None)
    message = post.test_message(mailing, "+4930555001")
    with sending():
        until(lambda: fresh(message).state == "succeeded", 5)
    assert post.ledger(mailing.account)["by_phone"] == {"+4930555001": 1}
    assert mailing.counters == {}


def test_a_test_of_a_refused_template_fails_and_says_so(post, monkeypatch):
    """Nobody pauses a test: it would be tried once a minute for ever."""
    refused = AccountRefused("132001: no such template", template=True)
    monkeypatch.setattr(sandbox.PROVIDER, "judge", lambda account, answer: refused)
    mailing = post.mailing(0, state="draft", materialised_at=None)
    message = post.test_message(mailing, "+4930555001")
    with sending():
        until(lambda: fresh(message).state == "dead_letter", 5, fresh(message).state)
    assert message.last_error == "132001: no such template"
    (attempt,) = attempts_of(message)
    assert attempt.response["status"] == 200
    assert mailing.lane is None or mailing.lane.failures == 0


@pytest.mark.parametrize(
    ("profile", "noticed"), [({"refused_share": 1.0}, 0), ({"opted_out_share": 1.0}, 1)]
)
def test_what_was_perhaps_sent_and_is_then_refused_is_unknown(post, profile, noticed):
    """A refusal of the second request says nothing of the first, where there is no key."""
    mailing = post.mailing(account=post.account(profile))
    rows = Message.objects.using("operator").filter(pk=mailing.message.pk)
    rows.update(last_error="perhaps sent: HTTP 500")
    send(mailing, lambda: mailing.all_are("dead_letter", "unknown"), "jobs")
    message = mailing.message
    assert message.state == "unknown"
    assert message.last_error.startswith("perhaps sent: HTTP 422")
    assert attempts_of(message)[0].response["status"] == 422
    assert mailing.counters == {"unknown": 1}
    notices = Job.objects.using("operator").filter(
        kind="campaigns.account", tenant_id=post.tenant.pk
    )
    assert notices.count() == noticed


def test_what_is_refused_by_a_provider_that_keeps_to_its_key_has_failed(post):
    account = post.account({"refused_share": 1.0}, idempotent=True)
    mailing = post.mailing(account=account)
    rows = Message.objects.using("operator").filter(pk=mailing.message.pk)
    rows.update(last_error="perhaps sent: HTTP 500")
    send(mailing, lambda: mailing.all_are("dead_letter", "unknown"))
    assert mailing.states == ["dead_letter"]


def test_a_message_that_cannot_be_made_leaves_nothing_of_its_customer_in_the_log(
    post, monkeypatch, caplog
):
    def break_off(account, message):
        raise ValueError(f"no room for {message.phone}")

    monkeypatch.setattr(sandbox.PROVIDER, "request", break_off)
    mailing = post.mailing()
    send(mailing, lambda: mailing.all_are("failed"))
    assert "message_not_made" in caplog.text
    assert "ValueError" in caplog.text
    assert mailing.message.phone[1:] not in caplog.text
    assert mailing.message.last_error == "it cannot be made: ValueError"


def test_credentials_that_cannot_be_read_spend_nothing(post, settings):
    mailing = post.mailing()
    ring = settings.STORED_SECRET_KEYS
    settings.STORED_SECRET_KEYS = ["YW5vdGhlci1rZXktYW5vdGhlci1rZXktYW5vdGhlci0="]
    with sending():
        until(lambda: mailing.lane and mailing.lane.paused_until, 5)
        assert (mailing.message.attempts, mailing.states) == (0, ["pending"])
        settings.STORED_SECRET_KEYS = ring
        mailing.open()
        until(lambda: mailing.states == ["succeeded"], 5)
    assert mailing.counters == {"sent": 1}


def test_a_provider_that_is_not_there_any_more_spends_nothing(post):
    account = post.account()
    type(account).objects.using("operator").filter(pk=account.pk).update(provider="gone")
    mailing = post.mailing(account=account)
    send(mailing, lambda: mailing.lane and mailing.lane.paused_until)
    assert (mailing.message.attempts, mailing.states) == (0, ["pending"])


def test_a_message_with_a_gap_in_it_is_not_sent(post):
    mailing = post.mailing()
    Message.objects.using("operator").filter(pk=mailing.message.pk).update(params={})
    send(mailing, lambda: mailing.all_are("dead_letter"))
    assert mailing.message.last_error == "The variable name says nothing."
    assert post.ledger(mailing.account)["requests"] == 0
