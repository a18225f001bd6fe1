"""Messages of which nobody can tell whether they were sent, and who resolves them."""

from datetime import timedelta

import pytest
from django.db import transaction
from django.utils import timezone

from campaigns import accounts, lanes, services, unknown
from campaigns.errors import StaleCampaign
from campaigns.models import Message, ProviderAccount
from jobs.errors import ReasonMissing
from jobs.models import DeadLetter, Job
from jobs.models import Drainer as Drainers
from tenants.context import tenant_context
from tenants.models import AuditEntry
from tests.campaigns.posting import came_to, fresh, sending
from tests.chaos.conftest import until

OPERATOR = "operator"


def made_unknown(post, count=1, *, account=None, since=timedelta(), **columns):
    """A mailing whose messages were begun once, and nobody knows how that ended."""
    mailing = post.mailing(count, account=account, unknown=count, **columns)
    rows = Message.objects.using(OPERATOR).filter(campaign_id=mailing.campaign.pk)
    rows.update(
        state="unknown",
        attempts=1,
        last_error="perhaps sent: HTTP 500",
        due_at=timezone.now() - since,
    )
    return mailing


@pytest.fixture
def mailing(post):
    return made_unknown(post)


def test_a_callback_tells_that_it_was_sent(post, mailing):
    assert told(post, mailing, to="sent", provider_id="wamid.1")
    message = mailing.message
    assert (message.state, message.provider_id, message.last_error) == ("succeeded", "wamid.1", "")
    assert message.finished_at is not None
    assert mailing.counters == {"sent": 1}
    assert finishing(post) == 1


def test_a_second_callback_moves_and_counts_nothing(post, mailing):
    assert told(post, mailing, to="sent", provider_id="wamid.1")
    assert not told(post, mailing, to="sent", provider_id="wamid.2")
    assert not told(post, mailing, to="failed", error="131026")
    assert mailing.message.provider_id == "wamid.1"
    assert mailing.counters == {"sent": 1}


def test_a_callback_tells_that_it_failed_for_good(post, mailing):
    with tenant_context(post.tenant), transaction.atomic():
        assert unknown.resolve(
            message_id=mailing.message.pk, to="failed", error="131026: no", actor="system:receipts"
        )
        assert mailing.states == ["unknown"]  # Until the caller's transaction is committed.
    assert mailing.states == ["dead_letter"]
    assert mailing.counters == {"failed": 1}
    letter = DeadLetter.objects.using(OPERATOR).get(work_id=mailing.message.pk)
    assert (letter.queue, letter.reason, letter.error) == ("messages", "failed", "131026: no")
    target = f"messages:{mailing.message.pk}"
    entry = AuditEntry.objects.using(OPERATOR).get(target=target)
    assert (entry.actor, entry.action) == ("system:receipts", "work.dead_lettered")


def test_a_failure_that_is_rolled_back_was_never_told(post, mailing):
    with tenant_context(post.tenant), transaction.atomic():
        unknown.resolve(message_id=mailing.message.pk, to="failed", actor="system:receipts")
        transaction.set_rollback(True)
    assert mailing.states == ["unknown"]


def test_nobody_resolves_another_tenants_message(post, mailing, make_tenant):
    with tenant_context(make_tenant()):
        for to in ("sent", "again"):
            assert not unknown.resolve(message_id=mailing.message.pk, to=to, actor="system:test")
    assert mailing.states == ["unknown"]


def test_only_what_is_unknown_is_resolved(post):
    mailing = post.mailing()
    assert not told(post, mailing, to="sent", provider_id="wamid.1")
    assert mailing.states == ["pending"]


# ---- Policy ----


def test_hold_keeps_them_unknown_for_ever(post):
    mailing = made_unknown(post, since=timedelta(days=2))
    assert tended(post) == 0
    assert mailing.states == ["unknown"]


def test_retry_sends_them_again_after_a_quarter_of_an_hour_and_not_before(post):
    waiting = made_unknown(post, on_unknown="retry", since=timedelta(minutes=14))
    due = made_unknown(post, on_unknown="retry", since=timedelta(minutes=16))
    assert tended(post) == 1
    assert (waiting.states, due.states) == (["unknown"], ["succeeded"])
    assert due.counters == {"sent": 1}


def test_an_idempotent_provider_is_asked_again_at_once(post):
    mailing = made_unknown(post, account=post.account(idempotent=True))
    assert tended(post) == 1
    assert mailing.states == ["succeeded"]


def test_what_a_dead_drainer_held_is_unknown_since_then_and_asked_again_of_such_a_provider(post):
    """Rescued like any work, and not done again by the engine itself."""
    account = post.account(idempotent=True, led_at="2019-01-01T00:00Z")
    mailing = post.mailing(account=account)
    dead = Drainers.objects.using(OPERATOR).create(
        host="gone", pid=1, dead_at="2020-01-01T00:00Z", beat_at="2020-01-01T00:00Z"
    )
    rows = Message.objects.using(OPERATOR).filter(pk=mailing.message.pk)
    rows.update(
        state="processing", drainer=dead.pk, lease=-1, attempts=1, due_at="2020-01-01T00:00Z"
    )
    with sending():
        until(lambda: mailing.states == ["unknown"], 5)
    assert came_to(mailing.message) == ["lost"]
    assert timezone.now() - mailing.message.due_at < timedelta(minutes=1)
    assert mailing.counters == {"unknown": 1}
    assert tended(post) == 1
    assert mailing.states == ["succeeded"]
    assert post.ledger(account)["most_of_a_key"] == 1


def test_what_has_had_its_tries_is_left_to_its_tenant(post):
    mailing = made_unknown(post, account=post.account(idempotent=True))
    Message.objects.using(OPERATOR).filter(pk=mailing.message.pk).update(attempts=4)
    assert tended(post) == 0
    assert mailing.states == ["unknown"]


def test_what_the_provider_told_of_while_its_reply_was_awaited_is_sent(post):
    """The callback came first, when the message was not yet unknown."""
    mailing = made_unknown(post, 2)
    rows = Message.objects.using(OPERATOR).filter(pk=mailing.messages[0].pk)
    rows.update(delivered_at=timezone.now())
    assert tended(post) == 1
    assert mailing.states == ["succeeded", "unknown"]
    assert mailing.counters == {"sent": 1, "unknown": 1}


def test_nothing_of_a_cancelled_campaign_is_sent_again(post):
    mailing = made_unknown(post, on_unknown="retry", state="cancelled", since=timedelta(hours=1))
    assert tended(post) == 0
    assert mailing.states == ["unknown"]


def test_it_is_asked_for_once_a_minute_however_often_it_is_looked(post, monkeypatch):
    made_unknown(post, account=post.account(idempotent=True))
    now = timezone.now().replace(second=30)
    monkeypatch.setattr(timezone, "now", lambda: now)
    assert unknown.tend() == unknown.tend() == 1
    assert jobs(post).count() == 1


def led_elsewhere(account) -> None:
    """The account was changed after all that has been sent through it."""
    rows = ProviderAccount.objects.using(OPERATOR).filter(pk=account.pk)
    rows.update(led_at=timezone.now() + timedelta(seconds=5))


def test_who_knows_nothing_of_it_is_not_asked_about_it(post):
    """An idempotent provider sends once what it has seen: not what another has."""
    account = post.account(idempotent=True)
    mailing = made_unknown(post, account=account)
    led_elsewhere(account)
    assert tended(post) == 0
    assert mailing.states == ["unknown"]


def test_a_policy_that_may_send_twice_does_so_through_whatever_account(post):
    account = post.account(idempotent=True)
    mailing = made_unknown(post, account=account, on_unknown="retry", since=timedelta(minutes=16))
    led_elsewhere(account)
    assert tended(post) == 1
    assert mailing.states == ["succeeded"]


def test_what_waits_and_was_perhaps_sent_is_not_sent_through_another_provider(post):
    """Unless its tenant has had it tried again since."""
    account = post.account(idempotent=True)
    mailing = made_unknown(post, 4, account=account)
    doubtful, lost, decided_over, surely_not = mailing.messages
    rows = Message.objects.using(OPERATOR)
    rows.filter(pk=lost.pk).update(last_error="lost", forgiven=1, losses=1)
    for message in (doubtful, lost):
        with tenant_context(post.tenant):
            assert unknown.resolve(message_id=message.pk, to="again", actor="system:test")
    rows.filter(pk=decided_over.pk).update(state="pending", forgiven=1)
    rows.filter(pk=surely_not.pk).update(state="pending", last_error="connection refused")
    led_elsewhere(account)
    with sending():
        until(lambda: mailing.all_are("unknown", "succeeded"), 8)
    assert mailing.states == ["unknown", "unknown", "succeeded", "succeeded"]
    assert len(post.sandbox.lines(account.sender)) == 2
    assert fresh(doubtful).last_error.startswith("perhaps sent: ")


def test_nothing_is_sent_again_through_an_account_that_is_gone(post):
    for idempotent in (False, True):
        account = post.account(idempotent=idempotent)
        made_unknown(post, account=account, on_unknown="retry", state="completed",
                     since=timedelta(hours=1))  # fmt: skip
        delete(post, account)
    assert tended(post) == 0


def test_a_message_whose_account_is_gone_fails_and_its_campaign_comes_to_its_end(post):
    """It was being tried again when the account was deleted."""
    mailing = made_unknown(post, 2, state="completed", finished_at=timezone.now())
    Message.objects.using(OPERATOR).filter(pk=mailing.messages[0].pk).update(last_error="")
    decided(post, mailing, "again")
    delete(post, mailing.account)
    with sending("jobs"):
        until(lambda: mailing.all_are("dead_letter", "unknown"), 8)
        until(lambda: fresh(mailing.campaign).state == "completed", 8)
    assert mailing.messages[0].last_error == "its account is gone"
    assert mailing.counters == {"failed": 1, "unknown": 1}
    with tenant_context(post.tenant), pytest.raises(StaleCampaign):
        services.retry_failed(campaign_id=mailing.campaign.pk, actor="user:1", reason="again")


# ---- The tenant's decision ----


def test_a_tenant_has_all_unknown_of_a_campaign_sent_again(post):
    mailing = made_unknown(post, 3)
    other = made_unknown(post)
    assert decided(post, mailing, "again") == 3
    with sending():
        until(lambda: mailing.all_are("succeeded"), 5)
    assert other.states == ["unknown"]
    assert mailing.counters == {"sent": 3}
    assert audited(mailing, "unknown_resolved").after == {"messages": 3, "to": "again"}
    replayed = AuditEntry.objects.using(OPERATOR).filter(action="work.replayed")
    assert replayed.filter(target=f"messages:{mailing.messages[0].pk}").count() == 1


def test_a_tenant_gives_them_up(post):
    mailing = made_unknown(post, 3)
    assert decided(post, mailing, "given_up") == 3
    assert mailing.states == ["cancelled"] * 3
    assert mailing.counters == {"cancelled": 3}
    assert finishing(post) == 1


def test_a_tenant_takes_them_as_sent(post):
    mailing = made_unknown(post, 2)
    assert decided(post, mailing, "sent") == 2
    assert mailing.counters == {"sent": 2}
    assert audited(mailing, "unknown_resolved").reason == "the customer told us"


def test_a_decision_needs_a_reason_and_a_campaign_that_may_send(post):
    mailing = made_unknown(post, state="cancelled")
    with pytest.raises(ReasonMissing), tenant_context(post.tenant):
        unknown.decide(campaign_id=mailing.campaign.pk, to="sent", actor="user:1", reason=" ")
    with pytest.raises(StaleCampaign):
        decided(post, mailing, "again")
    assert mailing.states == ["unknown"]


def test_a_completed_campaign_runs_again_for_those_that_are_sent_again(post):
    mailing = made_unknown(post, 2, state="completed", finished_at=timezone.now())
    with tenant_context(post.tenant):
        lanes.tell(mailing.campaign)  # Shut, as at its end.
    decided(post, mailing, "again")
    with sending("jobs"):
        until(lambda: mailing.all_are("succeeded"), 8)
        until(lambda: fresh(mailing.campaign).state == "completed", 8)
    assert mailing.counters == {"sent": 2}


def delete(post, account) -> None:
    with tenant_context(post.tenant):
        accounts.delete(account_id=account.pk, actor="user:1")


def told(post, mailing, **words) -> bool:
    with tenant_context(post.tenant):
        return unknown.resolve(message_id=mailing.message.pk, actor="system:receipts", **words)


def decided(post, mailing, to) -> int:
    with tenant_context(post.tenant):
        return unknown.decide(
            campaign_id=mailing.campaign.pk, to=to, actor="user:1", reason="the customer told us"
        )


def tended(post) -> int:
    """How many campaigns there was something to do for; it is done afterwards."""
    count = unknown.tend()
    if count:
        with sending("jobs"):
            until(lambda: not jobs(post).exclude(state="succeeded").exists(), 5)
            rows = Message.objects.using(OPERATOR).filter(tenant_id=post.tenant.pk)
            until(lambda: not rows.filter(state__in=["pending", "processing"]).exists(), 5)
    return count


def jobs(post):
    rows = Job.objects.using(OPERATOR).filter(tenant_id=post.tenant.pk)
    return rows.filter(kind="campaigns.unknown")


def finishing(post) -> int:
    rows = Job.objects.using(OPERATOR).filter(tenant_id=post.tenant.pk, kind="campaigns.finish")
    return rows.count()


def audited(mailing, action) -> AuditEntry:
    target = f"cmp_{mailing.campaign.pk}"
    rows = AuditEntry.objects.using(OPERATOR).filter(target=target)
    return rows.get(action=f"campaign.{action}")
