"""Accounts whose provider is away for long: paused, and why, until somebody resumes them."""

from datetime import timedelta

import pytest
from django.db.models import F
from django.utils import timezone

from campaigns import accounts, failing, tasks
from campaigns.policy import BREAKER
from jobs.models import Job, Lane
from jobs.outcomes import Retry
from tenants.context import tenant_context
from tenants.models import AuditEntry
from tests.campaigns.desk import Desk
from tests.people import make_user

OPERATOR = "operator"
AWAY = Retry("no connection: 503")


def lanes(account):
    return Lane.objects.using(OPERATOR).filter(tenant_id=account.tenant_id, key=account.key)


def opened(account, trips):
    """Say of the account that its breaker has opened so often in a row."""
    now = timezone.now()
    lanes(account).update_or_create(
        tenant_id=account.tenant_id,
        key=account.key,
        defaults={
            "trips": trips, "failures": trips + 9, "failing_since": now, "failed_at": now,
            "opened_at": now, "opened_until": now + timedelta(seconds=60),
            "paused_until": now + timedelta(seconds=60), "paused_why": "breaker: 503",
        },
    )  # fmt: skip


def fail_on(workshop, seconds):
    """Let each try fail, for as long as the breaker's pauses last; time passes in the row alone."""
    while seconds > 0:
        workshop.send(AWAY)
        lane = lanes(workshop.account).get()
        if lane.trips:
            seconds -= (lane.opened_until - lane.opened_at).total_seconds()
        hour = timedelta(hours=1)
        lanes(workshop.account).update(
            **{name: F(name) - hour for name in ("opened_at", "opened_until", "paused_until")}
        )


@pytest.mark.thorough
def test_an_account_is_paused_when_its_breaker_was_open_for_ten_minutes(workshop):
    workshop.running(40)
    fail_on(workshop, seconds=400)
    assert failing.tend() == 0
    fail_on(workshop, seconds=300)
    assert failing.tend() == 1
    workshop.account.refresh_from_db(using=OPERATOR)
    assert workshop.account.status == "paused"
    assert workshop.take() == []


def test_the_pause_says_why_in_the_api_and_in_the_audit_trail(client, workshop):
    opened(workshop.account, failing.trips())
    failing.tend()
    desk = Desk(client, workshop.tenant)
    told = desk.get(f"/accounts/acc_{workshop.account.pk}").json()
    reason = "its provider has failed for long: 503"
    assert (told["status"], told["paused_reason"]) == ("paused", reason)
    assert told["health"]["state"] == "paused"
    entry = AuditEntry.objects.using(OPERATOR).get(target=f"acc_{workshop.account.pk}")
    assert (entry.action, entry.actor) == ("account.paused", "system:campaigns")
    assert entry.reason == reason


def test_its_owners_are_told_once(workshop):
    owner = make_user(workshop.tenant)
    opened(workshop.account, failing.trips())
    assert (failing.tend(), failing.tend()) == (1, 0)
    mails = Job.objects.using(OPERATOR).filter(kind="mail.send", tenant_id=workshop.tenant.pk)
    (args,) = mails.values_list("args", flat=True)
    assert args["to"] == [owner.email]
    assert f"/v1/accounts/acc_{workshop.account.pk}/resume" in args["text"]
    assert "503" in args["text"]


def test_it_goes_on_when_it_is_resumed_and_has_ten_minutes_again(workshop):
    campaign = workshop.running(1)
    opened(workshop.account, failing.trips())
    tasks.tend()  # What beat calls.
    with tenant_context(workshop.tenant):
        accounts.resume(account_id=workshop.account.pk, actor="user:1")
    assert failing.tend() == 0
    assert len(workshop.take()) == 1
    assert workshop.fresh(campaign).state == "running"


@pytest.mark.parametrize("trips", [0, 1, 13])
def test_one_that_has_not_failed_for_long_is_left_alone(workshop, trips):
    opened(workshop.account, trips)
    # By the clock alone it has: a failure long ago, and nothing to send since.
    lanes(workshop.account).update(failing_since=timezone.now() - timedelta(days=1))
    assert failing.tend() == 0


def test_its_own_pauses_are_what_counts(settings):
    before = failing.trips() - 1
    waited = sum(BREAKER.pauses[min(n, len(BREAKER.pauses) - 1)] for n in range(before))
    assert 600 <= waited < 660
