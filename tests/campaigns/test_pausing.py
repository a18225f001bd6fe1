"""What holds messages back: a paused campaign or account, a provider that asks for less."""

import time
from datetime import timedelta

import pytest
from django.utils import timezone

from campaigns import accounts, services, steps
from campaigns.models import ProviderAccount
from campaigns.providers import Accepted, AccountRefused, Later, PairLimit, Refused, Slower
from jobs.models import Attempt, Job
from jobs.outcomes import Exchange, Fail, Retry, Snooze, Succeeded, Throttled
from jobs.pacing import BATCH
from jobs.steps import Claim
from tenants.context import tenant_context
from tests.campaigns.posting import came_to, fresh, sending
from tests.chaos.conftest import until
from tests.people import make_user

OPERATOR = "operator"


def test_a_paused_campaign_sends_nothing_new_within_a_second_and_another_goes_on(post):
    account = post.account({"latency": 0.05})
    paused, other = post.mailing(150, account=account), post.mailing(150, account=account)
    with sending():
        until(lambda: accepted_of(post, paused) > 20, 8)
        with tenant_context(post.tenant):
            services.pause(campaign_id=paused.campaign.pk, actor="user:1", reason="a typo")
        paused_at = time.time()
        until(lambda: other.all_are("succeeded"), 20)
        until(lambda: time.time() > paused_at + 1, 2)
        late = [at for key, at in acceptances(post, paused) if at > paused_at + 1]
        assert late == []
        assert "pending" in paused.states
        with tenant_context(post.tenant):
            services.resume(campaign_id=paused.campaign.pk, actor="user:1")
        until(lambda: paused.hasten() or paused.all_are("succeeded"), 20)
    assert post.ledger(account)["most_of_a_key"] == 1
    assert fresh(paused.campaign).sent == 150


@pytest.mark.thorough
def test_a_cancelled_campaign_sends_nothing_new_within_a_second_and_counts_what_it_withdrew(post):
    account = post.account({"latency": 0.05}, max_in_flight=3)
    mailing = post.mailing(300, account=account)
    with sending("jobs"):
        until(lambda: accepted_of(post, mailing) > 10, 8)
        with tenant_context(post.tenant):
            services.cancel(campaign_id=mailing.campaign.pk, actor="user:1", reason="a mistake")
        cancelled_at = time.time()
        until(lambda: mailing.all_are("succeeded", "cancelled"), 20)
        until(lambda: time.time() > cancelled_at + 1.5, 3)
    late = [at for key, at in acceptances(post, mailing) if at > cancelled_at + 1]
    assert late == []
    accepted = accepted_of(post, mailing)
    assert mailing.counters == {"sent": accepted, "cancelled": 300 - accepted}
    assert accepted < 200
    assert fresh(mailing.campaign).state == "cancelled"


@pytest.mark.thorough
def test_a_resumed_campaign_goes_on_within_a_second(post):
    """Of three times the middle one: the machine may be busy with something else once."""
    account = post.account({"latency": 0.02}, max_in_flight=2)
    mailing = post.mailing(2_000, account=account)
    waited = []
    with sending():
        for _ in range(3):
            before = accepted_of(post, mailing)
            until(lambda before=before: accepted_of(post, mailing) > before, 8)
            with tenant_context(post.tenant):
                services.pause(campaign_id=mailing.campaign.pk, actor="user:1", reason="a typo")
            until(lambda: "processing" not in mailing.states, 5)
            resumed_at = time.time()
            with tenant_context(post.tenant):
                services.resume(campaign_id=mailing.campaign.pk, actor="user:1")
            since = lambda at=resumed_at: [t for _, t in acceptances(post, mailing) if t > at]  # noqa: E731
            until(since, 8)
            waited.append(since()[0] - resumed_at)
    assert sorted(waited)[1] < 1, waited


def test_retry_after_holds_the_account_in_all_drainers_and_spends_nothing(post):
    # With a declared rate nobody has to learn anew how much it bears.
    account = post.account({"faults": {"too_many_until": 1.0}}, rate=200.0)
    first, second = post.mailing(20, account=account), post.mailing(20, account=account)
    with sending(drainers=2):
        until(lambda: first.lane and first.lane.paused_until, 8)
        until(lambda: timezone.now() > first.lane.paused_until - timedelta(seconds=0.2), 5)
        held_until = first.lane.paused_until
        # Retry-After is a second: nobody was asked about the same message twice within it.
        assert post.ledger(account)["requests"] <= 40
        post.profile(account.sender, latency=0.0, idempotent=False)
        until(lambda: first.all_are("succeeded") and second.all_are("succeeded"), 10)
    ledger = post.ledger(account)
    assert ledger["first_at"] > held_until.timestamp() - 0.05
    assert ledger["most_of_a_key"] == 1
    assert {one.attempts for one in first.messages + second.messages} == {1}
    throttled = Attempt.objects.using(OPERATOR).filter(
        tenant_id=post.tenant.pk, queue="messages", outcome="throttled"
    )
    assert throttled.count() >= 1


def test_credentials_refused_in_mid_run_pause_the_account_and_nothing_is_lost_or_spent(
    post, mailoutbox
):
    owner = make_user(post.tenant)
    # So few that the refusals must not be taken for the rate that the account bears.
    account = post.account({"unauthorized_after": 2, "latency": 0.01})
    mailing, other = post.mailing(80, account=account), post.mailing(3)
    with sending("jobs"):
        until(lambda: fresh(account).status == "paused", 15)
        until(lambda: mailoutbox, 5)
        until(lambda: other.all_are("succeeded"), 5)  # Through another account.
        until(lambda: mailing.all_are("succeeded", "pending", "scheduled"), 5)
        assert mailing.counters == {"sent": 2}
        assert "refuses the account" in account.paused_reason
        assert {one.attempts for one in mailing.messages if one.state == "pending"} == {0}
        post.profile(account.sender, latency=0.0, idempotent=False)
        with tenant_context(post.tenant):
            accounts.resume(account_id=account.pk, actor="user:1")
        until(lambda: mailing.hasten() or mailing.all_are("succeeded"), 15)
    assert mailing.counters == {"sent": 80}
    ledger = post.ledger(account)
    assert (ledger["accepted"], ledger["most_of_a_key"]) == (80, 1)
    (mail,) = mailoutbox
    assert mail.to == [owner.email]
    assert f"acc_{account.pk}" in mail.body
    assert "+49" not in mail.body


def test_a_refusal_that_comes_after_the_account_was_changed_pauses_nothing(post):
    from campaigns import account_notices

    account = post.account()
    claim = made_claim(
        queue="jobs",
        tenant_id=post.tenant.pk,
        created_at=timezone.now(),
        data={"args": {"what": "account_refused", "lane": account.key, "reason": "401"}},
    )
    rows = ProviderAccount.objects.using(OPERATOR).filter(pk=account.pk)
    rows.update(updated_at=timezone.now())
    account_notices.notice(claim)
    assert fresh(account).status == "active"
    rows.update(updated_at="2020-01-01T00:00Z")
    account_notices.notice(claim)
    assert fresh(account).status == "paused"


def test_an_answer_to_the_old_token_holds_up_nothing_of_the_new_one(post):
    """It was asked before the change, and answered after it."""
    account = post.account({"unauthorized_after": 0, "latency": 1.0})  # Long enough to be seen.
    mailing = post.mailing(account=account)
    rows = ProviderAccount.objects.using(OPERATOR).filter(pk=account.pk)
    with sending("jobs"):
        until(lambda: post.ledger(account)["requests"] == 1, 10)
        rows.update(updated_at=timezone.now())
        post.profile(account.sender, latency=0.0, idempotent=False)  # For what comes from now on.
        until(lambda: notices(post, "account_refused", state="succeeded"), 10)
        assert fresh(account).status == "active"
        assert mailing.lane.paused_until is None
        until(lambda: mailing.hasten() or mailing.states == ["succeeded"], 10)


def notices(post, what, **columns) -> int:
    rows = Job.objects.using(OPERATOR).filter(kind="campaigns.account", tenant_id=post.tenant.pk)
    return rows.filter(args__what=what, **columns).count()


def test_compat_sends_thirty_at_a_time(post):
    account = post.account({"latency": 0.2}, mode=ProviderAccount.Mode.COMPAT)
    mailing = post.mailing(90, account=account)
    with sending():
        until(lambda: mailing.all_are("succeeded"), 15)
    assert post.ledger(account)["in_flight_most"] == BATCH == 30


# ---- What a clear answer means ----

EXCHANGE = Exchange({"method": "POST"}, {"status": 200})
VERDICTS = [
    (Accepted("wamid.1"), Succeeded(EXCHANGE, patch={"provider_id": "wamid.1"})),
    (Refused("131026: no"), Fail("131026: no", EXCHANGE, healthy=True)),
    (
        Refused("131050", opted_out=True),
        Fail("131050", EXCHANGE, healthy=True, notice="opted_out"),
    ),
    (Later("131000"), Retry("131000", None, EXCHANGE)),
    (Later("503", after=7.0), Retry("503", 7.0, EXCHANGE)),
    (Slower(3.0, "130429"), Throttled(3.0, "130429", EXCHANGE)),
    (PairLimit(4.0, "131056"), Retry("131056", 64.0, EXCHANGE, healthy=True)),
    (
        AccountRefused("190"),
        Throttled(steps.REFUSED, "190", EXCHANGE, notice="account_refused", pace=False),
    ),
    (
        AccountRefused("132001", template=True),
        Snooze(steps.ASIDE, "132001", notice="template_refused"),
    ),
]


@pytest.mark.parametrize(("verdict", "outcome"), VERDICTS, ids=lambda one: type(one).__name__)
def test_each_verdict_has_its_outcome(verdict, outcome):
    claim = made_claim(attempt=5, forgiven=2, data={"test": False})
    assert steps._judged(verdict, claim, EXCHANGE) == outcome


def test_a_refused_template_pauses_the_campaigns_that_send_it_and_no_others(post, mailoutbox):
    from campaigns import account_notices

    owner = make_user(post.tenant)
    account = post.account()
    refused, other = post.mailing(2, account=account), post.mailing(account=account)
    args = {
        "what": "template_refused", "lane": account.key, "count": 1, "reason": "132001",
        "works": [str(refused.messages[0].pk)],
    }  # fmt: skip
    claim = made_claim(queue="jobs", tenant_id=post.tenant.pk, data={"args": args})
    account_notices.notice(claim)
    account_notices.notice(claim)  # Another message met it too.
    assert fresh(refused.campaign).state == "paused"
    assert fresh(refused.campaign).reason == "the provider refuses its template: 132001"
    assert fresh(other.campaign).state == "running"
    assert fresh(account).status == "active"
    with sending("jobs"):
        until(lambda: mailoutbox, 5)
        until(lambda: other.all_are("succeeded"), 5)
    assert [mail.to for mail in mailoutbox] == [[owner.email]]
    assert came_to(refused.messages[0]) == []


def made_claim(**columns) -> Claim:
    columns = {
        "queue": "messages", "id": None, "tenant_id": 1, "schema": "pool", "lane": "campaign:1",
        "lease": 1, "attempt": 1, "max_attempts": 4, "forgiven": 0, "losses": 0,
        "discarding": False, "created_at": timezone.now(), "started_at": timezone.now(),
        "drainer": 1, "deadline": 0.0,
    } | columns  # fmt: skip
    return Claim(**columns)


def acceptances(post, mailing) -> list[tuple[str, float]]:
    its = {str(message.pk) for message in mailing.messages}
    lines = post.sandbox.lines(mailing.account.sender)
    return [(line["key"], line["at"]) for line in lines if line["key"] in its]


def accepted_of(post, mailing) -> int:
    return len(acceptances(post, mailing))
