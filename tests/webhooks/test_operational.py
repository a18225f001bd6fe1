"""What is told of webhooks themselves, who is disabled without asking, and that it never loops."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from django.core.management import call_command

from jobs.models import Job, Lane
from jobs.states import State
from tenants.context import PLATFORM, PLATFORM_ID
from tenants.models import AuditEntry
from tests.chaos.conftest import until
from tests.people import make_user, tenant_key
from tests.webhooks.hooks import Hook, draining
from tests.webhooks.serving import serving
from tests.webhooks.test_endpoints import Api
from webhooks import endpoints, operational, tending
from webhooks.models import OPERATIONAL, Delivery, Endpoint, Event, Payload

NOBODY = SimpleNamespace(pk=PLATFORM_ID)
LONG_AGO = timedelta(days=5, minutes=1)


@pytest.fixture
def platform_hook(hooks):
    """Makes endpoints of the platform's, which hear of every tenant, until the test ends."""
    made: list[Hook] = []

    def make(*behaviour, **columns):
        made.append(hooks.endpoint(*behaviour, tenant=NOBODY, **columns))
        return made[-1]

    yield make
    for hook in made:
        hook.update(deleted_at=datetime.now(UTC))


@pytest.fixture
def owner(tenant):
    return make_user(tenant)


@pytest.fixture
def api(client, tenant):
    return Api(client, tenant_key(tenant))


def endpoint_of(hook) -> Endpoint:
    return Endpoint.objects.using("operator").get(pk=hook.endpoint.pk)


def told(tenant, *types):
    """The data of the tenant's events of these types, by type."""
    rows = Event.objects.using("operator").filter(tenant_id=tenant.pk, type__in=types)
    return Counter(rows.values_list("type", flat=True))


def heard(hook, type):
    """What an endpoint was told of this type."""
    bodies = [hook.verified(request) for request in hook.seen]
    return [body["data"] for body in bodies if body["type"] == type]


def said_of(ids):
    """The platform's operational events about these endpoints."""
    rows = Event.objects.using("operator").filter(tenant_id=PLATFORM_ID, type__in=OPERATIONAL)
    said = Payload.objects.using("operator").filter(event_id__in=rows.values("pk"))
    return [payload.data for payload in said if any(id in payload.data for id in ids)]


def going_on() -> list:
    """Jobs and deliveries that are still to be done now.

    Not what was published while its endpoint was being disabled: webhooks.tending holds that.
    """
    going = [State.PENDING, State.PROCESSING]
    jobs = Job.objects.using("operator").filter(state__in=going)
    deliveries = Delivery.objects.using("operator").filter(state__in=going)
    deliveries = deliveries.filter(endpoint__disabled_at=None)
    # One statement, one snapshot: the one makes the other.
    return list(deliveries.values_list("pk").union(jobs.values_list("pk")))


def run_dry(seconds=20):
    """Serve both queues until nothing is left to do."""
    with serving("deliveries", "jobs"):
        until(lambda: not going_on(), seconds)


def fail_since(hook, since: timedelta, *, last: timedelta = timedelta()):
    """Let an endpoint's lane have failed from then until then."""
    now = datetime.now(UTC)
    Lane.objects.using("operator").update_or_create(
        tenant_id=hook.endpoint.tenant_id,
        key=hook.endpoint.lane,
        defaults={"failures": 9, "failing_since": now - since, "failed_at": now - last},
    )


# ---- 410 ----


def test_410_disables_the_endpoint_and_everybody_hears_of_it(
    hooks, tenant, owner, platform_hook, mailoutbox
):
    # Of invoices alone: else it holds the news of its own failures, when they are quick.
    gone = hooks.endpoint("status", 410, description="Billing", event_types=["invoice.*"])
    other = hooks.endpoint(event_types=["endpoint.*"])
    platform = platform_hook()
    hooks.publish(n=1)
    with serving("deliveries", "jobs"):
        until(lambda: heard(platform, "endpoint.disabled"), 15)
        until(lambda: heard(other, "endpoint.disabled"), 15)
        until(lambda: len(mailoutbox) > 1, 15)
    endpoint = endpoint_of(gone)
    assert (endpoint.disabled_reason, endpoint.disabled_at is not None) == ("gone", True)
    (data,) = heard(platform, "endpoint.disabled")
    assert data["endpoint_id"] == f"ep_{gone.endpoint.pk}"
    assert data["tenant_id"] == f"tnt_{tenant.uuid}"
    assert (data["reason"], data["held"]) == ("gone", 0)
    mails = {mail.subject: mail for mail in mailoutbox}
    mail = mails[f"{tenant.name}: a webhook endpoint was disabled"]
    assert mail.to == [owner.email]
    assert f"ep_{gone.endpoint.pk}" in mail.body
    assert '("Billing")' in mail.body
    assert "410 Gone" in mail.body
    assert gone.inbox.token not in mail.body  # The URL's path is a password to some.
    entry = AuditEntry.objects.using("operator").get(
        target=f"ep_{gone.endpoint.pk}", action="endpoint.disabled"
    )
    assert (entry.actor, entry.after["because"]) == ("system:webhooks", "gone")


def test_410_to_a_test_event_disables_too(hooks, api):
    gone = hooks.endpoint("status", 410)
    api.send("post", f"/ep_{gone.endpoint.pk}/test")
    run_dry()
    assert endpoint_of(gone).disabled_reason == "gone"


# ---- Days of failure ----


def test_auto_disable_fires_after_five_days_of_only_failures(
    hooks, tenant, owner, platform_hook, valkey, mailoutbox
):
    """And nothing but Postgres knows of it: Valkey is emptied, every process is a new one."""
    platform = platform_hook()
    hook = hooks.endpoint("status", 500)
    hooks.publish(n=1)
    with draining():
        until(lambda: hook.states == ["failed"], 10)
    Lane.objects.using("operator").filter(key=hook.endpoint.lane).update(
        failing_since=datetime.now(UTC) - LONG_AGO
    )
    valkey.stop()
    valkey.start()
    hook.hasten()
    with draining():
        until(lambda: len(hook.seen) == 2, 10)
        until(lambda: hook.states == ["failed"], 10)
    call_command("tend", "--json")
    assert endpoint_of(hook).disabled_reason == "failing"
    assert hook.states == ["held"]
    run_dry()
    (data,) = heard(platform, "endpoint.disabled")
    assert data["reason"] == "failing"
    assert data["failing_since"][:10] == (datetime.now(UTC) - LONG_AGO).date().isoformat()
    assert any("only failed for days" in mail.body for mail in mailoutbox)


def test_five_days_are_not_over_before_they_are(hooks):
    hook = hooks.endpoint()
    fail_since(hook, timedelta(days=5) - timedelta(minutes=1))
    assert tending.tend().disabled == 0
    # Failing since long ago, and not tried since: that says nothing.
    fail_since(hook, timedelta(days=30), last=timedelta(days=29))
    assert tending.tend().disabled == 0
    assert endpoint_of(hook).disabled_at is None


def test_a_success_between_begins_the_days_anew(hooks):
    hook = hooks.scripted("ok", "status/500")
    fail_since(hook, LONG_AGO)
    hooks.publish(n=1)
    with draining():
        until(lambda: hook.states == ["succeeded"], 10)
    hooks.publish(n=2)
    with draining():
        until(lambda: hook.states == ["succeeded", "failed"], 10)
    assert tending.tend().disabled == 0
    assert endpoint_of(hook).disabled_at is None


def test_auto_disable_does_not_wait_for_beat(hooks):
    hook = hooks.endpoint("status", 500, schedule=[])
    fail_since(hook, LONG_AGO)
    hooks.publish(n=1)
    run_dry()
    assert endpoint_of(hook).disabled_reason == "failing"


def test_who_is_enabled_again_begins_with_a_clean_slate(hooks, api):
    hook = hooks.endpoint()
    fail_since(hook, LONG_AGO)
    assert tending.tend().disabled == 1
    assert tending.tend().disabled == 0
    shown = api.send("post", f"/ep_{hook.endpoint.pk}/enable").json()
    assert (shown["health"]["state"], shown["health"]["failures"]) == ("enabled", 0)
    assert tending.tend().disabled == 0
    assert endpoint_of(hook).disabled_at is None


def test_the_row_of_a_deleted_endpoints_lane_goes(hooks, api):
    hook = hooks.endpoint(rate=1)
    api.send("delete", f"/ep_{hook.endpoint.pk}")
    assert hook.lane.paused_until.year == 9999
    hook.update(deleted_at=datetime.now(UTC) - timedelta(hours=2))
    tending.tend()
    assert hook.lane is None


# ---- Exhausted, recovered ----


def test_exhausted_deliveries_are_told_of(hooks, tenant, owner, platform_hook, mailoutbox):
    platform = platform_hook()
    hook = hooks.endpoint("status", 500, schedule=[])
    hooks.publish(n=1)
    run_dry()
    (data,) = heard(platform, "delivery.exhausted")
    assert data["endpoint_id"] == f"ep_{hook.endpoint.pk}"
    assert f"dlv_{hook.deliveries[0].pk}" in data["deliveries"]
    assert (data["count"], data["reason"]) == (1, "exhausted")
    (mail,) = mailoutbox
    assert mail.subject == f"{tenant.name}: a webhook could not be delivered"
    assert f"dlv_{hook.deliveries[0].pk}" in mail.body


def test_one_mail_an_endpoint_and_matter_a_day(hooks, owner, mailoutbox, tenant):
    other = make_user(tenant)  # Each owner gets it.
    make_user(tenant, role="member")
    hook = hooks.endpoint("status", 500, schedule=[], event_types=["invoice.paid"])
    for n in range(3):
        hooks.publish(n=n)
        run_dry()
    assert told(tenant, "delivery.exhausted") == {"delivery.exhausted": 3}
    assert sorted(mail.to for mail in mailoutbox) == sorted([[owner.email], [other.email]])
    second = hooks.endpoint("status", 500, schedule=[], event_types=["invoice.paid"])
    hook.update(event_types=["nothing"])
    hooks.publish(n=4)
    run_dry()
    assert len(mailoutbox) == 4
    assert all(f"ep_{second.endpoint.pk}" in mail.body for mail in mailoutbox[2:])


def test_a_recovery_is_told_of_once(hooks, tenant, owner, platform_hook, mailoutbox):
    platform = platform_hook()
    hook = hooks.endpoint(event_types=["invoice.paid"])
    fail_since(hook, timedelta(hours=1))
    Lane.objects.using("operator").filter(key=hook.endpoint.lane).update(trips=1)
    hooks.publish(n=1)
    hooks.publish(n=2)
    run_dry()
    (data,) = heard(platform, "delivery.recovered")
    assert data["endpoint_id"] == f"ep_{hook.endpoint.pk}"
    assert data["failing_since"] is not None
    (mail,) = mailoutbox
    assert mail.subject == f"{tenant.name}: a webhook endpoint answers again"


def test_a_notice_that_is_run_twice_tells_once(hooks, tenant):
    hook = hooks.endpoint("status", 500, schedule=[], event_types=["invoice.paid"])
    hooks.publish(n=1)
    run_dry()
    jobs = Job.objects.using("operator").filter(tenant_id=tenant.pk, kind="webhooks.notice")
    done = jobs.update(state="pending", finished_at=None)
    assert done > 0
    run_dry()
    assert told(tenant, *OPERATIONAL) == {"delivery.exhausted": 1}
    assert hook.states == ["dead_letter"]


# ---- No loops ----


def test_operational_events_never_loop(hooks, tenant, owner, platform_hook, mailoutbox):
    """Everybody who could hear of a failure is dead too, and asks for every event there is."""
    platform = [platform_hook("status", 500, schedule=[]) for _ in range(2)]
    dead = [hooks.endpoint("status", 500, schedule=[]) for _ in range(2)]
    hooks.publish(n=1)
    run_dry()
    # One for each endpoint that the invoice did not reach; none for those that did not hear of it.
    assert told(tenant, *OPERATIONAL) == {"delivery.exhausted": 2}
    assert [sorted(hook.states) for hook in dead] == [["dead_letter"] * 3] * 2
    assert [hook.states for hook in platform] == [["dead_letter"] * 2] * 2
    ours = {f"ep_{hook.endpoint.pk}" for hook in platform}
    assert not said_of(ours)
    assert len(mailoutbox) == 2


def test_the_platforms_own_dead_endpoint_begets_nothing_about_itself(hooks, tenant, platform_hook):
    """410 to an operational event: it is disabled, and that is told once, to whoever is left."""
    gone, left = platform_hook("status", 410), platform_hook()
    hook = hooks.endpoint("status", 500, schedule=[])
    hooks.publish(n=1)
    run_dry()
    assert endpoint_of(gone).disabled_reason == "gone"
    assert [data["endpoint_id"] for data in heard(left, "delivery.exhausted")] == [
        f"ep_{hook.endpoint.pk}"
    ]
    assert [data["endpoint_id"] for data in heard(left, "endpoint.disabled")] == [
        f"ep_{gone.endpoint.pk}"
    ]
    assert not heard(left, "delivery.recovered")


def test_a_test_event_that_fails_is_nobodys_news(hooks, api, tenant, owner, mailoutbox):
    hook = hooks.endpoint("status", 500, schedule=[])
    api.send("post", f"/ep_{hook.endpoint.pk}/test")
    run_dry()
    assert hook.states == ["dead_letter"]
    assert told(tenant, *OPERATIONAL) == {}
    assert mailoutbox == []


def test_nobody_is_mailed_about_the_platforms_endpoints(hooks, platform_hook, owner, mailoutbox):
    hook = platform_hook("status", 410)
    endpoint = hook.endpoint
    hook.update(event_types=["tenant.ready"])
    assert operational.disable(
        tenant=PLATFORM, endpoint_id=endpoint.pk, because=Endpoint.Disabled.GONE
    )
    run_dry()
    assert mailoutbox == []
    entry = AuditEntry.objects.using("operator").get(
        target=f"ep_{endpoint.pk}", action="endpoint.disabled"
    )
    assert entry.tenant_id == PLATFORM_ID


def test_an_endpoint_that_was_deleted_is_nobodys_news(hooks, tenant):
    hook = hooks.endpoint("status", 500, schedule=[])
    hooks.publish(n=1)
    with draining():
        until(lambda: hook.states == ["dead_letter"], 10)
    endpoints.delete(tenant=tenant.ref, endpoint_id=hook.endpoint.pk, actor="system:test")
    run_dry()
    jobs = Job.objects.using("operator").filter(tenant_id=tenant.pk, kind="webhooks.notice")
    assert {job.state for job in jobs} == {"succeeded"}
    assert told(tenant, *OPERATIONAL) == {}
