"""What becomes of deliveries when their endpoint is disabled, enabled, changed or deleted."""

import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest
from django.core.management import call_command

from jobs import shutting
from jobs.models import DeadLetter, Job
from tenants.context import tenant_context
from tenants.models import AuditEntry
from tests.chaos.conftest import until
from tests.people import tenant_key
from tests.webhooks.hooks import attempts_of, draining, kept
from tests.webhooks.serving import serving
from tests.webhooks.test_endpoints import Api, pointers, problem
from webhooks import moving, secrets, tending
from webhooks.models import Delivery, Endpoint

ACTOR = "system:test"


@pytest.fixture
def api(client, tenant):
    return Api(client, tenant_key(tenant))


@pytest.fixture
def bounds(settings):
    """Sets what SLIPWAY["WEBHOOKS"] says."""

    def change(**entries):
        webhooks = settings.SLIPWAY["WEBHOOKS"] | entries
        settings.SLIPWAY = settings.SLIPWAY | {"WEBHOOKS": webhooks}

    return change


def path(hook, deed=""):
    return f"/ep_{hook.endpoint.pk}{deed}"


def audited(hook, action):
    rows = AuditEntry.objects.using("operator").filter(target=f"ep_{hook.endpoint.pk}")
    return rows.get(action=action)


def force(hook, **columns):
    """Let a delivery stand as nobody but the engine could have put it."""
    rows = Delivery.objects.using("operator").filter(endpoint_id=hook.endpoint.pk)
    rows.filter(pk=hook.deliveries[-1].pk).update(**columns)


@contextmanager
def in_chunks_of(count, monkeypatch):
    monkeypatch.setattr(moving, "AT_ONCE", count)
    yield


# ---- Disabled: held; enabled: delivered, or discarded ----


@pytest.mark.parametrize("ordered", [False, True])
def test_events_for_disabled_endpoints_do_not_vanish(hooks, api, ordered):
    hook = hooks.endpoint(ordered=ordered, max_in_flight=1)
    assert api.send("post", path(hook, "/disable"), {"reason": "moving"}).status_code == 200
    for n in range(5):
        hooks.publish(n=n)
    assert hook.states == ["held"] * 5
    with draining():
        time.sleep(0.3)  # Nothing happens, and that takes a while.
        assert hook.seen == []
        shown = api.send("post", path(hook, "/enable")).json()
        assert shown["disabled"] is False
        until(lambda: hook.states == ["succeeded"] * 5, 10)
    assert sorted(hook.numbers) == list(range(5))


def test_held_events_of_an_ordered_endpoint_are_delivered_in_order(hooks, api):
    hook = hooks.endpoint(ordered=True)
    hooks.publish(n=0)
    api.send("post", path(hook, "/disable"))
    for n in range(1, 20):
        hooks.publish(n=n)
    api.send("post", path(hook, "/enable"))
    hooks.publish(n=20)
    with draining(drainers=2):
        until(lambda: hook.states == ["succeeded"] * 21, 15)
    assert hook.numbers == list(range(21))


def test_held_events_are_discarded_with_a_reason_if_one_says_so(hooks, api):
    hook = hooks.endpoint()
    api.send("post", path(hook, "/disable"))
    hooks.publish(n=1)
    refused = api.send("post", path(hook, "/enable"), {"held": "discard"})
    assert pointers(refused) == ["/reason"]
    assert hook.states == ["held"]
    body = {"held": "discard", "reason": "a load test"}
    assert api.send("post", path(hook, "/enable"), body).status_code == 200
    assert hook.states == ["cancelled"]
    assert hook.delivery.finished_at is not None
    entry = audited(hook, "endpoint.enabled")
    assert entry.reason == "a load test"
    assert entry.after == {"disabled": False, "held": "discard", "at_once": 1}
    hooks.publish(n=2)
    with draining():
        until(lambda: hook.states == ["cancelled", "succeeded"], 10)
    assert hook.numbers == [2]


@pytest.mark.parametrize("state", ["pending", "scheduled", "failed"])
def test_what_waits_is_held_when_its_endpoint_is_disabled(hooks, api, state):
    hook = hooks.endpoint()
    hooks.publish(n=1)
    force(hook, state=state, due_at=datetime.now(UTC) + timedelta(hours=10))
    api.send("post", path(hook, "/disable"))
    assert hook.states == ["held"]
    api.send("post", path(hook, "/enable"))
    assert hook.states == ["pending"]


@pytest.mark.parametrize("state", ["succeeded", "dead_letter", "cancelled", "discarded"])
def test_what_is_at_rest_stays_as_it_is(hooks, api, state):
    hook = hooks.endpoint()
    hooks.publish(n=1)
    force(hook, state=state)
    for deed in ("/disable", "/enable"):
        api.send("post", path(hook, deed))
        assert hook.states == [state]
    api.send("delete", path(hook))
    assert hook.states == [state]


def test_what_is_on_its_way_finishes(hooks, api):
    hook = hooks.endpoint("slow", 1)
    hooks.publish(n=1)
    with draining():
        until(lambda: hook.states == ["processing"], 10)
        api.send("post", path(hook, "/disable"))
        until(lambda: hook.states == ["succeeded"], 10)
    assert hook.numbers == [1]


def test_disabling_and_enabling_again_change_nothing(hooks, api):
    hook = hooks.endpoint()
    first = api.send("post", path(hook, "/disable")).json()
    assert api.send("post", path(hook, "/disable")).json() == first
    assert (first["disabled"], first["disabled_reason"]) == (True, "requested")
    assert first["health"]["state"] == "disabled"
    first = api.send("post", path(hook, "/enable")).json()
    assert api.send("post", path(hook, "/enable")).json() == first
    assert audited(hook, "endpoint.disabled")
    assert audited(hook, "endpoint.enabled")


def test_an_endpoint_may_be_made_disabled(hooks, api, receiver):
    made = api.made(disabled=True)
    assert (made["disabled"], made["disabled_reason"]) == (True, "requested")
    refused = api.send("post", f"/{made['id']}/test")
    assert problem(refused, 409)["code"] == "endpoint_disabled"


def test_what_slipped_by_is_not_delivered_and_is_held_a_minute_later(hooks, api):
    """Published by a transaction that began before the disabling, and ended after it."""
    hook = hooks.endpoint()
    api.send("post", path(hook, "/disable"))
    hooks.publish(n=1)
    force(hook, state="pending")
    with draining():
        time.sleep(0.5)
    assert (hook.states, hook.seen) == (["pending"], [])
    assert tending.tend().held == 1
    assert hook.states == ["held"]
    # The other way round: published as held while it was being enabled.
    api.send("post", path(hook, "/enable"))
    force(hook, state="held")
    assert tending.tend().released == 1
    assert hook.states == ["pending"]
    # And while it was being deleted.
    api.send("delete", path(hook))
    force(hook, state="pending", finished_at=None)
    assert tending.tend().cancelled == 1
    assert hook.states == ["cancelled"]


# ---- More than a request should wait for ----


@pytest.mark.parametrize(
    ("deed", "body", "became"),
    [
        ("/enable", {}, "pending"),
        ("/enable", {"held": "discard", "reason": "a load test"}, "cancelled"),
    ],
)
def test_a_job_does_what_a_request_would_wait_for(hooks, api, monkeypatch, deed, body, became):
    hook = hooks.endpoint()
    for n in range(7):
        hooks.publish(n=n)
    with in_chunks_of(2, monkeypatch):
        api.send("post", path(hook, "/disable"))
        assert sorted(hook.states) == ["held"] * 2 + ["pending"] * 5
        assert api.get(f"ep_{hook.endpoint.pk}")["health"]["held"] == 2  # How far it has come.
        with serving("jobs"):
            until(lambda: hook.states == ["held"] * 7, 10)
        api.send("post", path(hook, deed), body)
        assert hook.states == [became] * 2 + ["held"] * 5  # The oldest first.
        with serving("jobs"):
            until(lambda: hook.states == [became] * 7, 10)
    moves = AuditEntry.objects.using("operator").filter(
        target=f"ep_{hook.endpoint.pk}", action="endpoint.deliveries_moved"
    )
    assert [entry.after["count"] for entry in moves.order_by("at")] == [5, 5]


HISTORY = """
insert into webhooks_delivery
  (id, tenant_id, event_id, endpoint_id, lane, host, state, max_attempts, finished_at)
select gen_random_uuid(), tenant_id, gen_random_uuid(), endpoint_id, lane, host, 'succeeded', 10,
  now() from webhooks_delivery, generate_series(1, 3000) where tenant_id = %s
"""


def test_it_finds_what_waits_by_index_alone(hooks, operator, superuser):
    """An endpoint's history, however long, costs nothing."""
    hook = hooks.endpoint()
    hooks.publish(n=1)
    superuser.execute("set session_replication_role = replica")  # Of events that nobody published.
    superuser.execute(HISTORY, [hooks.tenant.pk])
    superuser.execute("analyze webhooks_delivery")
    values = {"tenant": hooks.tenant.pk, "lane": hook.endpoint.lane}
    statement = shutting.HOLD.format(table="webhooks_delivery", most=500)
    [(answer,)] = operator.execute(f"explain (analyze, format json) {statement}", values)
    nodes = [answer[0]["Plan"]]
    for node in nodes:
        nodes.extend(node.get("Plans", []))
    scans = [node for node in nodes if "Scan" in node["Node Type"]]
    assert scans
    for node in scans:
        assert node["Actual Rows"] + node.get("Rows Removed by Filter", 0) <= 1, node
    assert hook.states.count("held") == 1
    operator.execute("delete from webhooks_delivery where tenant_id = %s", [hooks.tenant.pk])


def test_a_job_that_was_overtaken_does_nothing(hooks, api, monkeypatch):
    hook = hooks.endpoint()
    for n in range(5):
        hooks.publish(n=n)
    with in_chunks_of(2, monkeypatch):
        api.send("post", path(hook, "/disable"))
        api.send("post", path(hook, "/enable"))
        with serving("jobs"):
            jobs = Job.objects.using("operator").filter(tenant_id=hooks.tenant.pk)
            until(lambda: not jobs.filter(finished_at=None).exists(), 10)
    assert hook.states == ["pending"] * 5


def test_what_comes_after_a_discarding_is_not_discarded(hooks, api, monkeypatch):
    hook = hooks.endpoint()
    api.send("post", path(hook, "/disable"))
    for n in range(4):
        hooks.publish(n=n)
    with in_chunks_of(2, monkeypatch):
        api.send("post", path(hook, "/enable"), {"held": "discard", "reason": "a load test"})
        assert hook.states == ["cancelled"] * 2 + ["held"] * 2
        hooks.publish(n=4)
        force(hook, state="held")
        with serving("jobs"):
            jobs = Job.objects.using("operator").filter(tenant_id=hooks.tenant.pk)
            until(lambda: not jobs.filter(finished_at=None).exists(), 10)
        assert hook.states == ["cancelled"] * 4 + ["held"]
    assert tending.tend().released == 1


# ---- Bounded ----


def test_the_oldest_overflow_to_the_inbox(hooks, api, bounds):
    bounds(held_most=3)
    hook = hooks.endpoint()
    api.send("post", path(hook, "/disable"))
    for n in range(5):
        hooks.publish(n=n)
    assert tending.tend().overflowed == 2
    assert hook.states == ["dead_letter"] * 2 + ["held"] * 3
    oldest = [delivery.pk for delivery in hook.deliveries[:2]]
    letters = DeadLetter.objects.using("operator").filter(work_id__in=oldest)
    assert [letter.reason for letter in letters] == ["overflow"] * 2
    entries = AuditEntry.objects.using("operator").filter(
        action="work.dead_lettered", target__in=[f"deliveries:{id}" for id in oldest]
    )
    assert {(entry.reason, entry.tenant_id) for entry in entries} == {("overflow", hooks.tenant.pk)}
    assert len(entries) == 2
    assert tending.tend().overflowed == 0


def test_as_many_as_are_kept_do_not_overflow(hooks, api, bounds):
    bounds(held_most=2)
    hook = hooks.endpoint()
    api.send("post", path(hook, "/disable"))
    hooks.publish(n=1)
    hooks.publish(n=2)
    assert tending.tend().overflowed == 0
    assert hook.states == ["held"] * 2


def test_the_command_counts_first_and_then_does_it(hooks, api, bounds, capsys):
    bounds(held_most=1)
    hook = hooks.endpoint()
    api.send("post", path(hook, "/disable"))
    hooks.publish(n=1)
    hooks.publish(n=2)
    call_command("tend", "--dry-run", "--json")
    assert '"overflowing": 1' in capsys.readouterr().out
    assert hook.states == ["held"] * 2
    call_command("tend", "--json")
    assert '"overflowed": 1' in capsys.readouterr().out
    assert hook.states == ["dead_letter", "held"]


# ---- Changed, deleted ----


def test_a_deleted_endpoint_is_told_nothing_more(hooks, api):
    hook = hooks.endpoint()
    for state in ("pending", "scheduled", "failed", "held"):
        hooks.publish(n=1)
        force(hook, state=state)
    api.send("delete", path(hook) + "?reason=moved")
    assert hook.states == ["cancelled"] * 4
    hooks.publish(n=2)
    assert hook.states == ["cancelled"] * 4


def test_what_waits_goes_to_the_new_url(hooks, api):
    old, new = hooks.endpoint("status", 500), hooks.endpoint()
    new.update(deleted_at=datetime.now(UTC))
    hooks.publish(n=1)
    changed = api.change(f"ep_{old.endpoint.pk}", url=new.inbox.url)
    assert changed.status_code == 200
    with draining():
        until(lambda: old.states == ["succeeded"], 10)
    assert (old.seen, len(new.seen)) == ([], 1)


def test_the_host_of_what_waits_is_the_new_urls(hooks, api):
    hook = hooks.endpoint()
    for state in ("pending", "failed", "held", "succeeded"):
        hooks.publish(n=1)
        force(hook, state=state)
    api.change(f"ep_{hook.endpoint.pk}", url="https://new.example.com/in")
    old = hook.inbox.url.split("/")[2]
    assert [one.host for one in hook.deliveries] == ["new.example.com:443"] * 3 + [old]


def test_order_can_be_asked_for_later(hooks, api):
    hook = hooks.endpoint("slow", 0.05)
    for n in range(10):
        hooks.publish(n=n)
    assert [one.seq for one in hook.deliveries] == [None] * 10
    force(hook, state="dead_letter")  # It would block the lane at once.
    api.change(f"ep_{hook.endpoint.pk}", ordered=True)
    hooks.publish(n=10)
    in_order = sorted(hook.deliveries, key=lambda one: one.event_id)
    assert [one.seq for one in in_order] == [*range(1, 10), None, 10]
    with draining(drainers=2):
        until(lambda: hook.states.count("succeeded") == 10, 15)
    assert hook.numbers == [*range(9), 10]


def test_order_can_be_given_up(hooks, api):
    hook = hooks.endpoint(ordered=True)
    for n in range(3):
        hooks.publish(n=n)
    rows = Delivery.objects.using("operator").filter(endpoint_id=hook.endpoint.pk)
    rows.filter(seq=1).update(state="dead_letter")  # It blocks the lane.
    api.change(f"ep_{hook.endpoint.pk}", ordered=False)
    assert [one.seq for one in hook.deliveries] == [None] * 3
    with draining():
        until(lambda: hook.states.count("succeeded") == 2, 10)


def test_too_many_to_put_in_order_are_refused(hooks, api, monkeypatch):
    monkeypatch.setattr(moving, "MOST_IN_ORDER", 2)
    hook = hooks.endpoint()
    for n in range(3):
        hooks.publish(n=n)
    refused = api.change(f"ep_{hook.endpoint.pk}", ordered=True, description="x")
    assert problem(refused, 409)["code"] == "too_many_unfinished"
    found = api.get(f"ep_{hook.endpoint.pk}")
    assert (found["ordered"], found["description"]) == (False, "")
    assert [one.seq for one in hook.deliveries] == [None] * 3


# ---- Tests, secrets and headers, at a real receiver ----


def test_a_test_event_goes_to_this_endpoint_alone(hooks, api):
    hook, other = hooks.endpoint(event_types=["a.b"]), hooks.endpoint()
    sent = api.send("post", path(hook, "/test"))
    assert sent.status_code == 202
    with draining():
        until(lambda: hook.states == ["succeeded"], 10)
    (request,) = hook.seen
    assert hook.verified(request)["type"] == "webhook.test"
    assert request["headers"]["webhook-id"] == sent.json()["event_id"]
    assert f"dlv_{hook.delivery.pk}" == sent.json()["delivery_id"]
    assert hook.delivery.test
    assert other.deliveries == []


def test_a_rotation_signs_with_every_unexpired_secret(hooks, api, tenant):
    hook = hooks.endpoint()
    expired = secrets.make()
    with tenant_context(tenant):
        endpoint = Endpoint.objects.get(pk=hook.endpoint.pk)
        gone = kept(expired, expires_at="2026-01-02T00:00:00+00:00")
        endpoint.secrets = [*endpoint.secrets, gone]
        endpoint.save(update_fields=["secrets"])
    first = hook.secret
    second = api.send("post", path(hook, "/secret/rotate")).json()["secret"]
    third = api.send("post", path(hook, "/secret/rotate")).json()["secret"]
    hooks.publish(n=1)
    with draining():
        until(lambda: hook.states == ["succeeded"], 10)
    (request,) = hook.seen
    for secret in (first, second, third):
        hook.secret = secret
        assert hook.verified(request)["data"] == {"n": 1}
    hook.secret = expired
    with pytest.raises(Exception, match="No matching signature"):
        hook.verified(request)
    assert len(request["headers"]["webhook-signature"].split()) == 3


def test_custom_headers_arrive_and_are_redacted_where_it_is_told(hooks, api):
    hook = hooks.endpoint()
    api.change(f"ep_{hook.endpoint.pk}", headers={"X-Api-Key": "k-123"})
    hooks.publish(n=1)
    with draining():
        until(lambda: hook.states == ["succeeded"], 10)
    (request,) = hook.seen
    assert request["headers"]["x-api-key"] == "k-123"
    assert "k-123" not in str(attempts_of(hook.delivery)[0].request)


def test_it_says_how_an_endpoint_fares(hooks, api):
    hook = hooks.endpoint("status", 500)
    hooks.publish(n=1)
    with draining():
        until(lambda: hook.states == ["failed"], 10)
    hooks.publish(n=2)
    health = api.get(f"ep_{hook.endpoint.pk}")["health"]
    assert (health["state"], health["failures"]) == ("failing", 1)
    assert health["failing_since"] is not None
    assert (health["pending"], health["waiting"], health["held"]) == (1, 1, 0)
    assert health["last_error"] == "HTTP 500"
