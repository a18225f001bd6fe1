"""What a tenant sees of its deliveries, and does about those that came to nothing."""

import hashlib
from datetime import UTC, datetime, timedelta

import pytest

from jobs.models import DeadLetter
from tenants.models import AuditEntry
from tests.people import bearer, platform_key, tenant_key
from tests.webhooks.letters import OPERATOR, Desk, attempt, change, fresh, kill, letter_of, outside
from webhooks import exchange
from webhooks.models import Delivery, Event, Payload

WHY = "the receiver is well again"


@pytest.fixture
def desk(client, tenant):
    return Desk(client, tenant)


@pytest.fixture
def dead(desk):
    """One dead delivery."""
    desk.endpoint()
    (delivery,) = desk.dead()
    return fresh(delivery)


def act(desk, delivery, what="replay", reason=WHY):
    return desk.post(f"deliveries/{outside('dlv', delivery)}/{what}", reason=reason)


def entries(delivery):
    rows = AuditEntry.objects.using(OPERATOR).filter(target=f"deliveries:{delivery.pk}")
    return list(rows.values_list("action", "actor", "reason"))


# ---- Seeing ----


def test_a_delivery_is_shown_with_its_event_its_endpoint_and_its_dead_letter(desk, dead):
    shown = desk.get(f"deliveries/{outside('dlv', dead)}").json()
    letter = shown.pop("dead_letter")
    assert shown == {
        "id": f"dlv_{dead.pk}",
        "event_id": f"evt_{dead.event_id}",
        "event_type": "invoice.paid",
        "endpoint_id": f"ep_{dead.endpoint_id}",
        "state": "dead_letter",
        "test": False,
        "replayed": False,
        "attempts": 10,
        "max_attempts": 10,
        "next_attempt_at": None,
        "last_error": "HTTP 500",
        "created_at": shown["created_at"],
        "finished_at": None,
    }
    assert (letter["reason"], letter["response"]) == ("exhausted", {"status": 500, "body": "no"})


def test_every_attempt_is_shown_with_what_was_sent_and_answered(desk, dead):
    event = Event.objects.using(OPERATOR).get(pk=dead.event_id)
    payload = Payload.objects.using(OPERATOR).get(event_id=event.pk)
    body = exchange.envelope(
        {"type": event.type, "happened_at": event.created_at, "payload": payload.data}
    )
    sent = {
        "method": "POST",
        "url": "https://hooks.example.org/",
        "headers": {"webhook-signature": "[redacted]"},
        "body_bytes": len(body),
        "body_sha256": hashlib.sha256(body).hexdigest(),
    }
    now = datetime.now(UTC)
    for number in (1, 2):
        attempt(dead, number=number, started_at=now, request=sent, response={"status": 500})
    first = desk.get(f"deliveries/{outside('dlv', dead)}/attempts?limit=1").json()
    (one,) = first["data"]
    assert one["request"] == sent | {"body": body.decode(), "body_truncated": False}
    assert hashlib.sha256(one["request"]["body"].encode()).hexdigest() == sent["body_sha256"]
    assert (one["number"], one["outcome"], one["response"]) == (1, "retry", {"status": 500})
    assert (one["duration_ms"], one["error"]) == (12, "HTTP 500")
    then = desk.get(
        f"deliveries/{outside('dlv', dead)}/attempts?limit=1&cursor={first['next_cursor']}"
    ).json()
    assert [one["number"] for one in then["data"]] == [2]
    assert then["next_cursor"] is None


def test_a_long_body_is_cut_in_the_attempts(desk):
    desk.endpoint()
    (delivery,) = desk.dead(text="x" * 100_000)
    attempt(delivery, started_at=datetime.now(UTC), request={"method": "POST"})
    (one,) = desk.get(f"deliveries/{outside('dlv', delivery)}/attempts").json()["data"]
    assert (len(one["request"]["body"]), one["request"]["body_truncated"]) == (16 * 1024, True)


def test_deliveries_are_listed_newest_first_page_by_page(desk):
    desk.endpoint()
    ids = [outside("dlv", delivery) for delivery in desk.dead(3)]
    first = desk.get("deliveries?limit=2").json()
    assert [one["id"] for one in first["data"]] == [ids[2], ids[1]]
    then = desk.get(f"deliveries?limit=2&cursor={first['next_cursor']}").json()
    assert ([one["id"] for one in then["data"]], then["next_cursor"]) == ([ids[0]], None)


def test_deliveries_are_found_by_endpoint_event_type_state_and_time(desk):
    mine = desk.endpoint(event_types=["invoice.paid"])
    desk.endpoint(event_types=["user.*"])
    (paid,) = desk.dead()
    (joined,) = desk.deliveries(desk.publish("user.joined"))
    hour_ago = datetime.now(UTC) - timedelta(hours=1)
    change(joined, created_at=hour_ago)
    stamp = (hour_ago + timedelta(minutes=1)).isoformat().replace("+", "%2B")
    for query, found in {
        f"endpoint={outside('ep', mine)}": [paid],
        f"event=evt_{joined.event_id}": [joined],
        "type=user.joined": [joined],
        "state=dead_letter": [paid],
        f"since={stamp}": [paid],
        f"until={stamp}": [joined],
    }.items():
        listed = desk.get(f"deliveries?{query}").json()["data"]
        assert [one["id"] for one in listed] == [outside("dlv", one) for one in found], query


@pytest.mark.parametrize(
    "query", ["state=lost", "endpoint=ep_1", "since=yesterday", "until=2026-01-01", "colour=red"]
)
def test_a_filter_that_cannot_be_read_is_refused(desk, query):
    answer = desk.get(f"deliveries?{query}")
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_parameter")


# ---- Replaying one ----


def test_a_dead_delivery_is_sent_again_with_a_new_budget_and_its_letter_resolved(desk, dead):
    answer = act(desk, dead)
    assert (answer.status_code, answer.json()["state"]) == (202, "pending")
    assert answer.json()["replayed"]
    dead = fresh(dead)
    assert (dead.attempts, dead.max_attempts, dead.priority) == (10, 20, 2)
    letter = letter_of(dead)
    assert (letter.resolution, letter.why) == ("replayed", WHY)
    ((action, actor, reason),) = entries(dead)
    assert (action, reason) == ("work.replayed", WHY)
    assert actor.startswith("api_key:")


@pytest.mark.parametrize("state", ["succeeded", "discarded", "cancelled"])
def test_what_is_finished_is_sent_again_as_the_same_delivery(desk, dead, state):
    DeadLetter.objects.using(OPERATOR).filter(work_id=dead.pk).delete()
    change(dead, state=state, finished_at=datetime.now(UTC), attempts=1)
    assert act(desk, dead).status_code == 202
    (delivery,) = desk.deliveries()  # No second row: the webhook-id is the event's, as before.
    assert (delivery.pk, delivery.state, delivery.finished_at) == (dead.pk, "pending", None)
    assert (delivery.attempts, delivery.max_attempts) == (1, 11)


def test_the_budget_is_the_endpoints_own(desk):
    desk.endpoint(schedule=[5, 10])
    (delivery,) = desk.dead()
    act(desk, delivery)
    assert fresh(delivery).max_attempts == 10 + 3


@pytest.mark.parametrize("state", ["pending", "processing", "failed", "held", "discarding"])
def test_what_is_under_way_is_not_replayed(desk, dead, state):
    change(dead, state=state)
    answer = act(desk, dead)
    assert (answer.status_code, answer.json()["code"]) == (409, "cannot_replay")
    assert state in answer.json()["detail"]
    assert (fresh(dead).state, entries(dead)) == (state, [])


@pytest.mark.parametrize(
    ("column", "detail"), [("disabled_at", "disabled"), ("deleted_at", "deleted")]
)
def test_nothing_is_replayed_to_an_endpoint_that_hears_nothing(desk, dead, column, detail):
    endpoint = dead.endpoint_id
    from webhooks.models import Endpoint

    Endpoint.objects.using(OPERATOR).filter(pk=endpoint).update(**{column: datetime.now(UTC)})
    answer = act(desk, dead)
    assert answer.status_code == 409
    assert detail in answer.json()["detail"]
    assert fresh(dead).state == "dead_letter"


def test_what_its_event_said_must_still_be_kept(desk, dead):
    Payload.objects.using(OPERATOR).filter(event_id=dead.event_id).delete()
    answer = act(desk, dead)
    assert (answer.status_code, answer.json()["code"]) == (409, "cannot_replay")
    assert "kept no longer" in answer.json()["detail"]


# ---- Discarding one ----


def test_a_dead_delivery_is_discarded_with_a_reason_and_never_silently(desk, dead):
    answer = act(desk, dead, "discard", "the customer left")
    assert (answer.status_code, answer.json()["state"]) == (202, "discarding")
    letter = letter_of(dead)
    assert (letter.resolution, letter.why) == ("discarded", "the customer left")
    assert [(action, reason) for action, _, reason in entries(dead)] == [
        ("work.discarded", "the customer left")
    ]


@pytest.mark.parametrize("state", ["pending", "failed", "held", "scheduled"])
def test_what_waits_is_withdrawn(desk, dead, state):
    DeadLetter.objects.using(OPERATOR).filter(work_id=dead.pk).delete()
    change(dead, state=state)
    assert act(desk, dead, "discard").json()["state"] == "cancelled"
    assert [action for action, _, _ in entries(dead)] == ["work.cancelled"]


@pytest.mark.parametrize("state", ["processing", "succeeded", "discarded", "cancelled"])
def test_what_runs_or_ended_is_not_discarded(desk, dead, state):
    change(dead, state=state)
    answer = act(desk, dead, "discard")
    assert (answer.status_code, answer.json()["code"]) == (409, "cannot_discard")
    assert fresh(dead).state == state


@pytest.mark.parametrize("what", ["replay", "discard"])
def test_whoever_acts_must_say_why(desk, dead, what):
    answer = act(desk, dead, what, " ")
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["pointer"] == "/reason"
    assert fresh(dead).state == "dead_letter"


# ---- Whose ----


def test_a_tenant_sees_and_moves_its_own_deliveries_alone(desk, dead, client, other_tenant):
    stranger = Desk(client, other_tenant)
    assert stranger.get("deliveries").json()["data"] == []
    for path in ("", "/attempts"):
        assert stranger.get(f"deliveries/{outside('dlv', dead)}{path}").status_code == 404
    for what in ("replay", "discard"):
        answer = act(stranger, dead, what)
        assert (answer.status_code, answer.json()["code"]) == (404, "delivery_not_found")
    assert fresh(dead).state == "dead_letter"


def test_the_platform_acts_for_the_tenant_that_it_names_and_on_its_own(desk, dead, client, tenant):
    named = bearer(platform_key(), **{"Slipway-Tenant": tenant.slug})
    assert len(client.get("/v1/deliveries", headers=named).json()["data"]) == 1
    own = client.get("/v1/platform/deliveries", headers=named).json()["data"]
    assert outside("dlv", dead) not in {one["id"] for one in own}


@pytest.mark.parametrize("what", ["replay", "discard"])
def test_a_key_that_may_read_may_not_act(desk, dead, tenant, what):
    desk.headers = bearer(tenant_key(tenant, "deliveries:read"))
    assert act(desk, dead, what).json()["code"] == "missing_scope"
    assert desk.get("deliveries").status_code == 200


def test_a_dead_head_that_is_discarded_frees_its_ordered_endpoint(desk):
    desk.endpoint(ordered=True)
    first, second = (desk.deliveries(desk.publish(n=n))[0] for n in (1, 2))
    kill(first)
    assert [fresh(first).seq, fresh(second).seq] == [1, 2]
    act(desk, first, "discard")
    unfinished = Delivery.objects.using(OPERATOR).exclude(state__in=["discarding", "discarded"])
    head = unfinished.filter(endpoint_id=first.endpoint_id).order_by("seq").first()
    assert head.pk == second.pk
