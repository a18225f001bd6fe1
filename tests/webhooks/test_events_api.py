"""POST and GET /v1/events: what callers publish, and what they can read of it."""

import json
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connections, transaction
from django.test import Client

from tenants.context import PLATFORM, PLATFORM_ID, tenant_context
from tests.people import bearer, platform_key, tenant_key
from tests.webhooks.ears import deliveries_of, listen, publish_in
from webhooks import catalogue, services


class Caller:
    """A back end with a key."""

    def __init__(self, token: str, **headers: str) -> None:
        self.client = Client()
        self.token = token
        self.headers = headers

    def call(self, method: str, path: str, body=None, **headers: str):
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.client.generic(
            method, path, b"" if body is None else raw, content_type="application/json",
            headers=bearer(self.token, **self.headers, **headers),
        )  # fmt: skip

    def get(self, path: str):
        return self.call("GET", path)

    def publish(self, key: str | None = None, **body):
        headers = {"Idempotency-Key": key} if key else {}
        return self.call("POST", "/v1/events", {"type": "a.b", "data": {}, **body}, **headers)

    def publish_batch(self, *events, key: str | None = None):
        headers = {"Idempotency-Key": key} if key else {}
        return self.call("POST", "/v1/events/batch", {"events": list(events)}, **headers)


@pytest.fixture
def caller(tenant) -> Caller:
    return Caller(tenant_key(tenant))


@pytest.fixture
def platform() -> Caller:
    return Caller(platform_key())


def events_of(operator, tenant) -> list[tuple]:
    return operator.execute(
        "select e.type, p.data::jsonb from webhooks_event e"
        " join webhooks_payload p on p.event_id = e.id where e.tenant_id = %s order by e.id",
        [tenant.pk],
    ).fetchall()


def pointers(refused) -> list[tuple[str, str]]:
    return [(error["pointer"], error["code"]) for error in refused.json()["errors"]]


# ---- Publishing ----


def test_it_takes_an_event_in(caller, tenant, operator):
    endpoint = listen(tenant.ref)
    taken = caller.publish(type="invoice.paid", data={"amount": 12, "note": "a\nb"})
    assert taken.status_code == 202
    body = taken.json()
    assert body["id"].startswith("evt_")
    assert (body["type"], body["version"], body["deliveries"]) == ("invoice.paid", None, 1)
    assert datetime.fromisoformat(body["created_at"]).tzinfo is not None
    assert events_of(operator, tenant) == [("invoice.paid", {"amount": 12, "note": "a\nb"})]
    assert deliveries_of(operator, endpoint) == ["invoice.paid"]


def test_the_platform_publishes_for_a_tenant_that_it_names(platform, tenant, operator):
    named = Caller(platform.token, **{"Slipway-Tenant": tenant.slug})
    assert named.publish().status_code == 202
    assert len(events_of(operator, tenant)) == 1
    unnamed = platform.publish()
    assert (unnamed.status_code, unnamed.json()["code"]) == (400, "tenant_not_named")


def test_it_needs_the_scope(tenant, operator):
    reader = Caller(tenant_key(tenant, "events:read"))
    assert reader.publish().json()["code"] == "missing_scope"
    assert reader.publish_batch({"type": "a.b", "data": {}}).json()["code"] == "missing_scope"
    writer = Caller(tenant_key(tenant, "events:write"))
    assert writer.get("/v1/events").json()["code"] == "missing_scope"
    assert events_of(operator, tenant) == []


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ({}, [("/type", "required"), ("/data", "required")]),
        ({"type": "a b", "data": {}}, [("/type", "invalid_format")]),
        ({"type": 1, "data": []}, [("/type", "wrong_type"), ("/data", "wrong_type")]),
        ({"type": "a.b", "data": {}, "version": 1}, [("/type", "unknown_event_type")]),
        ({"type": "a.b", "data": {}, "id": "x"}, [("/id", "unknown_field")]),
        ({"type": "a.b", "data": {"x": "\0"}}, [("/data/x", "control_character")]),
        ({"type": "tenant.ready", "data": {}}, [("/type", "reserved_event_type")]),
        ({"type": "webhook.test", "data": {}}, [("/type", "reserved_event_type")]),
    ],
)  # fmt: skip
def test_it_refuses_what_is_no_event_and_says_where(caller, tenant, operator, body, found):
    refused = caller.call("POST", "/v1/events", body)
    assert refused.status_code == 400
    assert pointers(refused) == found
    assert events_of(operator, tenant) == []


def test_data_has_at_most_256_kib_and_that_is_taken(caller, tenant, operator):
    room = services.DATA_LIMIT - len('{"x":""}')
    assert caller.publish(data={"x": "a" * room}).status_code == 202
    for size in (room + 1, 400_000):
        refused = caller.publish(data={"x": "a" * size})
        assert (refused.status_code, refused.headers["Content-Type"]) == (
            413,
            "application/problem+json",
        )
    assert len(events_of(operator, tenant)) == 1


def test_data_nests_32_levels_at_most(caller, tenant, operator):
    def nested(levels):
        return b'{"type":"a.b","data":' + b'{"a":' * levels + b"1" + b"}" * levels + b"}"

    assert caller.call("POST", "/v1/events", nested(31)).status_code == 202
    assert caller.call("POST", "/v1/events", nested(32)).status_code == 400
    assert len(events_of(operator, tenant)) == 1


# ---- Once ----


def test_it_answers_the_same_for_the_same_key_and_body(caller, tenant, operator):
    listen(tenant.ref)
    key = str(uuid.uuid4())
    first = caller.publish(key, data={"a": 1, "b": 2})
    again = caller.publish(key, data={"b": 2, "a": 1})
    assert again.status_code == 202
    assert again.json() == first.json()
    assert again.headers["Idempotent-Replayed"] == "true"
    assert "Idempotent-Replayed" not in first.headers
    assert len(events_of(operator, tenant)) == 1


@pytest.mark.parametrize("other", [{"data": {"n": 2}}, {"type": "a.c"}])
def test_it_refuses_the_same_key_with_another_event(caller, tenant, operator, other):
    key = str(uuid.uuid4())
    caller.publish(key)
    refused = caller.publish(key, **other)
    assert (refused.status_code, refused.json()["code"]) == (422, "idempotency_key_reused")
    assert len(events_of(operator, tenant)) == 1


def test_the_keys_of_tenants_and_of_our_own_code_are_apart(caller, tenant, other_tenant, operator):
    publish_in(tenant, idempotency_key="k" * 30)
    assert "Idempotent-Replayed" not in caller.publish("k" * 30).headers
    other = Caller(tenant_key(other_tenant))
    assert "Idempotent-Replayed" not in other.publish("k" * 30).headers
    assert len(events_of(operator, tenant)) == 2


# ---- Batches ----


def event(type: str = "a.b", **data):
    return {"type": type, "data": data}


def test_a_batch_is_taken_in_its_order(caller, tenant, operator):
    endpoint = listen(tenant.ref, ordered=True)
    taken = caller.publish_batch(*(event(f"t{n}") for n in range(30)))
    assert taken.status_code == 202
    names = [f"t{n}" for n in range(30)]
    assert [each["type"] for each in taken.json()["data"]] == names
    assert {each["deliveries"] for each in taken.json()["data"]} == {1}
    assert deliveries_of(operator, endpoint) == names


def test_a_batch_is_refused_whole_with_every_error(caller, tenant, operator):
    refused = caller.publish_batch(
        event(), {"type": 5, "data": {}}, {"type": "a.b"}, "odd", event("a b"), event()
    )
    assert refused.status_code == 400
    assert pointers(refused) == [
        ("/events/1/type", "wrong_type"),
        ("/events/2/data", "required"),
        ("/events/3", "wrong_type"),
    ]
    refused = caller.publish_batch(event(), event("a b"), event("tenant..x"))
    assert pointers(refused) == [
        ("/events/1/type", "invalid_format"),
        ("/events/2/type", "invalid_format"),
    ]
    assert pointers(caller.publish_batch(event(), event("tenant.ready"))) == [
        ("/events/1/type", "reserved_event_type")
    ]
    assert events_of(operator, tenant) == []


@pytest.mark.parametrize("many", [0, 501])
def test_a_batch_has_one_to_500_events(caller, tenant, operator, many):
    refused = caller.publish_batch(*([event()] * many))
    assert (refused.status_code, pointers(refused)[0][0]) == (400, "/events")
    assert events_of(operator, tenant) == []


def test_a_batch_is_repeated_whole_or_not_at_all(caller, tenant, operator):
    key = str(uuid.uuid4())
    first = caller.publish_batch(event(n=1), event(n=2), key=key)
    again = caller.publish_batch(event(n=1), event(n=2), key=key)
    assert again.json() == first.json()
    assert again.headers["Idempotent-Replayed"] == "true"
    for other in ([event(n=1), event(n=3)], [event(n=2), event(n=1)], [event(n=1)], [event()] * 3):
        assert caller.publish_batch(*other, key=key).status_code == 422
    assert len(events_of(operator, tenant)) == 2


# ---- How many ----


@pytest.fixture
def few(tenant, platform):
    """The tenant may publish five events in a minute."""
    limited = platform.call("PATCH", f"/v1/tenants/{tenant.slug}", {"limits": {"events": [5, 60]}})
    assert limited.json()["limits"]["events"] == [5, 60]


def test_a_tenant_publishes_so_many_and_not_one_more(few, caller, tenant, operator):
    key = str(uuid.uuid4())
    taken = caller.publish(key)
    assert taken.headers["RateLimit-Policy"] == '"events";q=5;w=60'
    assert caller.publish_batch(*[event()] * 3).status_code == 202
    refused = caller.publish_batch(event(), event())
    assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
    assert 1 <= int(refused.headers["Retry-After"]) <= 61
    assert refused.headers["RateLimit"].startswith('"events";r=1;')
    assert caller.publish(key).status_code == 202  # A repetition is not counted.
    assert caller.publish().status_code == 202
    assert caller.publish().status_code == 429
    assert len(events_of(operator, tenant)) == 5


def test_the_limits_of_two_tenants_are_apart(few, caller, other_tenant):
    for _ in range(6):
        last = caller.publish()
    assert last.status_code == 429
    assert Caller(tenant_key(other_tenant)).publish().status_code == 202


# ---- Reading ----


def test_it_lists_events_newest_first_page_by_page(caller, tenant):
    for n in range(5):
        publish_in(tenant, type=f"n{n}")
    first = caller.get("/v1/events?limit=3").json()
    assert [each["type"] for each in first["data"]] == ["n4", "n3", "n2"]
    rest = caller.get(f"/v1/events?limit=3&cursor={first['next_cursor']}").json()
    assert [each["type"] for each in rest["data"]] == ["n1", "n0"]
    assert rest["next_cursor"] is None


def test_it_filters_by_type_and_time(caller, tenant, operator):
    old, new = publish_in(tenant, type="old"), publish_in(tenant, type="new")
    then = datetime.now(UTC) - timedelta(days=3)
    operator.execute("update webhooks_event set created_at = %s where id = %s", [then, old.pk])

    def types(query):
        return [each["type"] for each in caller.get(f"/v1/events?{query}").json()["data"]]

    between = (then + timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert types("type=old") == ["old"]
    assert types(f"since={between}") == ["new"]
    assert types(f"until={between}") == ["old"]
    assert types(f"type=old&since={between}") == []
    assert new.pk


@pytest.mark.parametrize(
    "query", ["since=yesterday", "since=2026-01-01T00:00:00", "type=" + "a" * 101, "kind=a"]
)
def test_it_refuses_a_filter_that_is_none(caller, query):
    refused = caller.get(f"/v1/events?{query}")
    assert (refused.status_code, refused.json()["code"]) == (400, "invalid_parameter")


def test_it_shows_an_event_with_its_data_and_how_far_its_deliveries_are(caller, tenant, operator):
    endpoint = listen(tenant.ref)
    event = publish_in(tenant, payload={"x": [1, None]})
    shown = caller.get(f"/v1/events/evt_{event.pk}").json()
    assert shown["data"] == {"x": [1, None]}
    [told] = shown["deliveries"]
    assert told["id"].startswith("dlv_")
    assert (told["endpoint"], told["state"], told["attempts"]) == (
        f"ep_{endpoint.pk}",
        "pending",
        0,
    )


def test_it_shows_data_that_was_kept_and_null_for_what_was_pruned(caller, tenant, operator):
    event = publish_in(tenant)
    operator.execute("delete from webhooks_payload where event_id = %s", [event.pk])
    assert caller.get(f"/v1/events/evt_{event.pk}").json()["data"] is None
    operator.execute(
        "update webhooks_event set kept_payload = '{\"kept\": 1}' where id = %s", [event.pk]
    )
    assert caller.get(f"/v1/events/evt_{event.pk}").json()["data"] == {"kept": 1}


def test_nobody_reads_another_tenants_events(caller, other_tenant):
    event = publish_in(other_tenant)
    refused = caller.get(f"/v1/events/evt_{event.pk}")
    assert (refused.status_code, refused.json()["code"]) == (404, "event_not_found")
    assert caller.get("/v1/events").json()["data"] == []
    assert Caller(tenant_key(other_tenant)).get(f"/v1/events/evt_{event.pk}").status_code == 200


# ---- The platform's own ----


def test_the_platform_reads_its_own_events_and_publishes_none(platform, tenant, operator):
    with tenant_context(PLATFORM), transaction.atomic():
        event = services.publish(tenant_id=PLATFORM_ID, type="endpoint.disabled", payload={})
    mine = publish_in(tenant)
    listed = platform.get("/v1/platform/events?limit=100&type=endpoint.disabled").json()["data"]
    assert f"evt_{event.pk}" in {each["id"] for each in listed}
    assert platform.get(f"/v1/platform/events/evt_{event.pk}").status_code == 200
    assert platform.get(f"/v1/platform/events/evt_{mine.pk}").status_code == 404
    assert platform.call("POST", "/v1/platform/events", event_body()).status_code == 405


def event_body():
    return {"type": "a.b", "data": {}}


def test_a_tenant_does_not_read_the_platforms(caller):
    refused = caller.get("/v1/platform/events")
    assert (refused.status_code, refused.json()["code"]) == (403, "wrong_key_kind")


def test_the_catalogues_reserved_types_are_all_refused(caller, tenant, operator):
    for type in catalogue.reserved():
        assert caller.publish(type=type).status_code == 400
    assert events_of(operator, tenant) == []


def test_one_key_at_once_from_eight_clients_is_one_event(tenant, operator):
    """Whoever comes second waits for the first, and gets its answer."""
    listen(tenant.ref)
    token = tenant_key(tenant)

    def publish(_: int):
        try:
            return Caller(token).publish(key="at-once-1", data={"n": 1})
        finally:
            connections.close_all()

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(publish, range(8)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert {answer.json()["deliveries"] for answer in answers} == {1}
    replayed = [answer.headers.get("Idempotent-Replayed") for answer in answers]
    assert sorted(replayed, key=str) == [None] + ["true"] * 7
    assert len(events_of(operator, tenant)) == 1
