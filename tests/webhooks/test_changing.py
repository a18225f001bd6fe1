"""What changes of an endpoint may not undo: an order, an operator's word, what blocks a lane."""

import threading
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connections, transaction

from jobs import lanes
from jobs.models import Job, Lane
from tenants.context import tenant_context
from tests.chaos.conftest import until
from tests.people import tenant_key
from tests.webhooks.hooks import draining
from tests.webhooks.serving import serving
from tests.webhooks.test_endpoints import Api
from webhooks import endpoints, tending
from webhooks.models import Delivery, Endpoint, Event
from webhooks.services import publish


@pytest.fixture
def api(client, tenant):
    return Api(client, tenant_key(tenant))


@pytest.fixture
def publisher(hooks):
    """Publishes in a transaction of its own, which stays open until it is told to end."""
    begun, end = threading.Event(), threading.Event()

    def run():
        with tenant_context(hooks.tenant.ref), transaction.atomic():
            publish(tenant_id=hooks.tenant.pk, type="invoice.paid", payload={"n": 1})
            begun.set()
            end.wait(10)
        connections.close_all()

    thread = threading.Thread(target=run)

    def start():
        thread.start()
        begun.wait(10)

    def finish():
        end.set()
        thread.join()

    yield start, finish
    if thread.ident:
        finish()


def id_of(hook):
    return f"ep_{hook.endpoint.pk}"


def switch(hook, **fields):
    """Change an endpoint in a thread, which may have to wait; gives back the thread."""

    def run():
        tenant = hook.endpoint.tenant.ref
        pk = hook.endpoint.pk
        endpoints.change(tenant=tenant, endpoint_id=pk, fields=fields, actor="user:1")
        connections.close_all()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def waits(superuser):
    """Whether some statement waits for the row of an endpoint."""
    return superuser.execute(
        "select exists (select from pg_stat_activity where wait_event_type = 'Lock'"
        " and datname = current_database() and query ~ 'webhooks_')"
    ).fetchone()[0]


# ---- Order ----


def test_a_publisher_under_way_has_its_place_in_the_order_that_is_asked_for(
    hooks, publisher, superuser
):
    hook = hooks.endpoint()
    start, finish = publisher
    hooks.publish(n=0)
    start()
    thread = switch(hook, ordered=True)
    until(lambda: waits(superuser), 10)
    finish()
    thread.join()
    hooks.publish(n=2)
    assert [one.seq for one in hook.deliveries] == [1, 2, 3]
    with draining(drainers=2):
        until(lambda: hook.states == ["succeeded"] * 3, 10)
    assert hook.numbers == [0, 1, 2]


def test_a_publisher_under_way_leaves_no_number_when_order_is_given_up(hooks, publisher, superuser):
    hook = hooks.endpoint(ordered=True)
    start, finish = publisher
    start()
    thread = switch(hook, ordered=False)
    until(lambda: waits(superuser), 10)
    finish()
    thread.join()
    assert [one.seq for one in hook.deliveries] == [None]


def test_a_publisher_that_waited_for_the_switch_obeys_it(hooks, superuser):
    hook = hooks.endpoint()
    with transaction.atomic(using="operator"):
        rows = Endpoint.objects.using("operator").select_for_update()
        rows.get(pk=hook.endpoint.pk)
        thread = threading.Thread(target=lambda: (hooks.publish(n=1), connections.close_all()))
        thread.start()
        until(lambda: waits(superuser), 10)
        hook.update(ordered=True)
    thread.join()
    assert hook.delivery.seq == 1


def test_a_publisher_that_waited_for_the_enabling_of_an_ordered_endpoint_is_not_held(
    hooks, superuser
):
    hook = hooks.endpoint(ordered=True, disabled_at=datetime.now(UTC))
    with transaction.atomic(using="operator"):
        hook.update(disabled_at=None)
        thread = threading.Thread(target=lambda: (hooks.publish(n=1), connections.close_all()))
        thread.start()
        until(lambda: waits(superuser), 10)
    thread.join()
    assert hook.states == ["pending"]


def test_publishers_to_ordered_endpoints_wait_for_each_other_and_do_not_cross(hooks):
    """Both hold every endpoint against a change, and draw numbers from both."""
    one, other = hooks.endpoint(ordered=True), hooks.endpoint(ordered=True)
    failed = []

    def run():
        try:
            for n in range(10):
                hooks.publish(n=n)
        except Exception as error:
            failed.append(error)
        connections.close_all()

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    for hook in (one, other):
        assert sorted(delivery.seq for delivery in hook.deliveries) == list(range(1, 41))


def test_a_dead_deliverys_old_number_blocks_no_order_that_is_asked_for_again(hooks, api):
    hook = hooks.endpoint()
    for n in range(2):
        hooks.publish(n=n)
    rows = Delivery.objects.using("operator").filter(pk=hook.deliveries[0].pk)
    rows.update(seq=1, state="dead_letter")  # Its number was not taken away in time.
    assert api.change(id_of(hook), ordered=True).status_code == 200
    assert [one.seq for one in hook.deliveries] == [None, 1]


# ---- What blocks ----


def test_a_dead_head_is_said_to_block_its_endpoint(hooks, api):
    hook = hooks.endpoint(ordered=True)
    for n in range(2):
        hooks.publish(n=n)
    head = hook.deliveries[0].pk
    Delivery.objects.using("operator").filter(pk=head).update(state="dead_letter")
    health = api.get(id_of(hook))["health"]
    assert (health["state"], health["blocked_by"]) == ("blocked", f"dlv_{head}")
    Delivery.objects.using("operator").filter(pk=head).update(state="discarded")
    health = api.get(id_of(hook))["health"]
    assert (health["state"], health["blocked_by"]) == ("enabled", None)


def test_an_overflow_is_told_with_what_it_blocks(hooks, api, settings):
    webhooks = settings.SLIPWAY["WEBHOOKS"] | {"held_most": 1}
    settings.SLIPWAY = settings.SLIPWAY | {"WEBHOOKS": webhooks}
    hook = hooks.endpoint(ordered=True, event_types=["invoice.paid"])
    api.send("post", f"/{id_of(hook)}/disable")
    for n in range(3):
        hooks.publish(n=n)
    assert tending.tend().overflowed == 2
    oldest = [f"dlv_{one.pk}" for one in hook.deliveries[:2]]
    api.send("post", f"/{id_of(hook)}/enable")
    assert api.get(id_of(hook))["health"]["blocked_by"] == oldest[0]
    ear = hooks.endpoint(event_types=["delivery.exhausted"])
    with serving("jobs"), draining():
        until(lambda: ear.states == ["succeeded"], 10)
    (request,) = ear.seen
    said = ear.verified(request)["data"]
    assert (said["reason"], said["count"], said["deliveries"]) == ("overflow", 2, oldest)
    assert said["blocked_by"] == oldest[0]
    assert Event.objects.using("operator").filter(type="delivery.exhausted").count() >= 1
    assert not Job.objects.using("operator").filter(state="dead_letter").exists()


def test_it_says_since_when_the_oldest_waits(hooks, api):
    hook = hooks.endpoint()
    assert api.get(id_of(hook))["health"]["oldest_pending_at"] is None
    for n in range(2):
        hooks.publish(n=n)
    oldest = hook.deliveries[0]
    rows = Delivery.objects.using("operator").filter(pk=oldest.pk)
    rows.update(created_at="2026-01-02T03:04:05Z", priority=1)
    health = api.get(id_of(hook))["health"]
    assert health["oldest_pending_at"].startswith("2026-01-02T03:04:05")


# ---- Somewhere else ----


def test_a_new_url_begins_with_a_clean_slate(hooks, api):
    hook = hooks.endpoint(max_in_flight=3)
    now = datetime.now(UTC)
    until_then = now + timedelta(hours=1)
    failing = {
        "failures": 12,
        "trips": 2,
        "failing_since": now - timedelta(days=4),
        "failed_at": now,
        "opened_at": now,
        "opened_until": until_then,
        "paused_until": until_then,
        "paused_why": "breaker: HTTP 500",
    }
    Lane.objects.using("operator").create(
        tenant_id=hooks.tenant.pk, key=hook.endpoint.lane, **failing
    )
    assert api.get(id_of(hook))["health"]["paused_why"] == "breaker"
    api.change(id_of(hook), description="x")
    assert hook.lane.trips == 2
    api.change(id_of(hook), url=hook.inbox.url + "?other")
    lane = hook.lane
    assert (lane.failures, lane.trips, lane.failing_since, lane.paused_until) == (0, 0, None, None)
    health = api.get(id_of(hook))["health"]
    assert (health["state"], health["paused_why"]) == ("enabled", None)


def test_a_new_url_does_not_open_a_disabled_endpoint(hooks, api):
    hook = hooks.endpoint()
    api.send("post", f"/{id_of(hook)}/disable")
    api.change(id_of(hook), url=hook.inbox.url + "?other")
    assert hook.lane.paused_until.year == 9999


# ---- An operator's word ----


@pytest.fixture
def limited(hooks, api):
    """An endpoint that an operator paused, and gave a window and a rate."""
    hook = hooks.endpoint(rate=50, max_in_flight=8)
    who = {"actor": "operator:1", "reason": "abuse: ticket 12"}
    lane = {"key": hook.endpoint.lane, "tenant_id": hooks.tenant.pk}
    lanes.set_window(**lane, window=1, **who)
    lanes.set_rate(**lane, rate=0.5, **who)
    lanes.pause(**lane, until=datetime.now(UTC) + timedelta(days=1), **who)
    return hook


def test_no_change_by_a_tenant_lifts_what_an_operator_said(limited, api, hooks):
    before = limited.lane
    api.change(id_of(limited), description="x", rate=100, max_in_flight=100)
    for deed in ("disable", "enable"):
        api.send("post", f"/{id_of(limited)}/{deed}")
    api.change(id_of(limited), url=limited.inbox.url + "?other", rate=None, max_in_flight=None)
    lane = limited.lane
    assert (lane.operator_window, lane.operator_rate) == (1, 0.5)
    assert lane.operator_paused_until == before.operator_paused_until
    hooks.publish(n=1)
    with draining():
        threading.Event().wait(0.3)  # Nothing happens, and that takes a while.
    assert (limited.states, limited.seen) == (["pending"], [])


def test_an_operators_window_and_rate_hold_beside_the_tenants(limited, api, hooks):
    lane = {"key": limited.endpoint.lane, "tenant_id": hooks.tenant.pk}
    api.change(id_of(limited), rate=100, max_in_flight=100)
    lanes.resume(**lane, actor="operator:1")
    for n in range(3):
        hooks.publish(n=n)
    with draining():
        until(lambda: "succeeded" in limited.states, 10)
        threading.Event().wait(0.3)  # At two a second less than one more.
    assert len(limited.seen) == 1


def test_a_tenant_hears_that_an_operator_paused_it_and_not_why(limited, api):
    answer = api.send("get", f"/{id_of(limited)}")
    health = answer.json()["health"]
    assert (health["state"], health["paused_why"]) == ("paused", "operator")
    assert health["paused_until"] is not None
    assert "ticket" not in answer.content.decode()


def test_a_change_of_something_else_leaves_the_lane_alone(hooks, api):
    hook = hooks.endpoint()
    who = {"actor": "user:1", "reason": "slowly", "using": "default"}
    with tenant_context(hooks.tenant.ref):
        lanes.set_rate(key=hook.endpoint.lane, tenant_id=hooks.tenant.pk, rate=2.0, **who)
    api.change(id_of(hook), description="x")
    assert hook.lane.rate == 2.0
