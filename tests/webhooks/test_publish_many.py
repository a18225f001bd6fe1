"""webhooks.services.publish_many: thousands at a time, each statement of a bounded size."""

import json
import uuid

import pytest
from django.db import IntegrityError, connection, connections, transaction

from tenants.context import tenant_context
from tests.people import bearer, tenant_key
from tests.webhooks.ears import deliveries_of, listen, publish_in
from tests.webhooks.published import asked, events_and_deliveries, events_of, statements
from webhooks import fan_out
from webhooks.errors import InvalidEvent
from webhooks.services import NewEvent, publish_many


@pytest.mark.thorough
def test_it_publishes_10_000_events_to_5_endpoints_in_one_call(tenant, operator):
    ordered = listen(tenant.ref, "bulk.*", ordered=True)
    ears = [ordered, *(listen(tenant.ref) for _ in range(4))]
    events = [NewEvent(f"bulk.t{n % 7}", {"n": n}) for n in range(10_000)]
    with tenant_context(tenant.ref), transaction.atomic(), asked() as captured:
        published = publish_many(tenant_id=tenant.pk, events=events)
    # A look at the catalogue, one at how many listen, a word on when to check; then the events.
    assert len(statements(captured)) <= 3 + 50_000 // fan_out.ROWS
    assert len({event.pk for event in published}) == 10_000
    assert events_and_deliveries(operator, tenant) == (10_000, 10_000, 50_000)
    told = operator.execute(
        "select endpoint_id, count(*) from webhooks_delivery where tenant_id = %s group by 1",
        [tenant.pk],
    ).fetchall()
    assert dict(told) == {ear.pk: 10_000 for ear in ears}
    numbered = operator.execute(
        "select d.seq, (p.data::json ->> 'n')::int from webhooks_delivery d"
        " join webhooks_payload p on p.tenant_id = d.tenant_id and p.event_id = d.event_id"
        " where d.endpoint_id = %s order by seq",
        [ordered.pk],
    ).fetchall()
    assert numbered == [(n + 1, n) for n in range(10_000)]


def test_many_are_published_all_or_none_with_every_error(tenant, operator):
    events = [
        NewEvent("fine", {}),
        NewEvent("", {}),
        NewEvent("fine", {"x": object()}),
        NewEvent("fine", {}),
    ]
    with (
        pytest.raises(InvalidEvent) as refused,
        tenant_context(tenant.ref),
        transaction.atomic(),
    ):
        publish_many(tenant_id=tenant.pk, events=events)
    assert [error.pointer for error in refused.value.errors] == ["/events/1/type", "/events/2/data"]
    assert events_of(operator, tenant) == []


def test_many_with_keys_leave_out_those_that_were_published(tenant, operator):
    endpoint = listen(tenant.ref, ordered=True)
    publish_in(tenant, idempotency_key="b")
    with tenant_context(tenant.ref), transaction.atomic():
        published = publish_many(
            tenant_id=tenant.pk,
            events=[NewEvent(f"t.{key}", {}, key) for key in ("a", "b", "c", "c", "d")],
        )
    assert [event and event.type for event in published] == ["t.a", None, "t.c", None, "t.d"]
    told = deliveries_of(operator, endpoint, "d.seq, e.type")
    assert sorted(told) == [(1, "a.b"), (2, "t.a"), (3, "t.c"), (4, "t.d")]


def test_publishing_nothing_is_no_statement(tenant):
    with tenant_context(tenant.ref), transaction.atomic(), asked() as captured:
        assert publish_many(tenant_id=tenant.pk, events=[]) == []
    assert statements(captured) == []


def listening(tenant, many: int) -> None:
    """So many endpoints, which hear everything."""
    for _ in range(many):
        listen(tenant.ref)


def test_no_statement_writes_more_than_5_000_deliveries(tenant, operator):
    listening(tenant, 50)
    events = [NewEvent("bulk", {"n": n}) for n in range(250)]
    with tenant_context(tenant.ref), transaction.atomic(), asked() as captured:
        publish_many(tenant_id=tenant.pk, events=events)
    assert len(statements(captured)) == 3 + 3
    assert events_and_deliveries(operator, tenant) == (250, 250, 250 * 50)


def test_the_api_publishes_500_events_to_50_endpoints_at_once(client, tenant, operator):
    listening(tenant, 50)
    batch = {"events": [{"type": "a.b", "data": {"n": n}} for n in range(500)]}
    answer = client.post(
        "/v1/events/batch",
        json.dumps(batch),
        content_type="application/json",
        headers=bearer(tenant_key(tenant)),
    )
    assert answer.status_code == 202
    assert {each["deliveries"] for each in answer.json()["data"]} == {50}
    assert events_and_deliveries(operator, tenant) == (500, 500, 25_000)


def test_chunks_of_a_call_lie_in_the_order_of_publishing(tenant, operator, monkeypatch):
    monkeypatch.setattr(fan_out, "ROWS", 3)
    plain, ordered = listen(tenant.ref), listen(tenant.ref, ordered=True)
    names = [f"n{number}" for number in range(fan_out.UNCOUNTED + 50)]
    with tenant_context(tenant.ref), transaction.atomic():
        publish_many(tenant_id=tenant.pk, events=[NewEvent(name, {}) for name in names])
    assert deliveries_of(operator, plain) == names
    assert deliveries_of(operator, ordered) == names
    assert deliveries_of(operator, ordered, "d.seq") == list(range(1, len(names) + 1))


# A delivery of an event that is not there.
STRAY = """
insert into webhooks_delivery (id, tenant_id, event_id, endpoint_id, lane, host, max_attempts)
select gen_random_uuid(), tenant_id, gen_random_uuid(), endpoint_id, lane, host, 1
from webhooks_delivery where tenant_id = %s limit 1
"""


def test_the_commit_of_many_deliveries_has_nothing_left_to_check(tenant, operator):
    """A statement's time is bounded, and so is the commit's: each has checked its own rows."""
    listening(tenant, 20)
    with tenant_context(tenant.ref), transaction.atomic():
        publish_many(tenant_id=tenant.pk, events=[NewEvent("a.b", {}) for _ in range(251)])
        with (
            pytest.raises(IntegrityError, match="delivery_event_same_tenant"),
            transaction.atomic(),
        ):
            connection.cursor().execute(STRAY, [tenant.pk])  # Refused now, not by the commit.


@pytest.fixture
def short_of_time(superuser):
    """The app role's statements may take half a second in this worker's database."""
    (name,) = superuser.execute("select current_database()").fetchone()
    role = f'alter role slipway_app in database "{name}"'
    superuser.execute(f"{role} set statement_timeout = '500ms'")
    connections["default"].close_pool()
    yield
    superuser.execute(f"{role} reset statement_timeout")
    connections["default"].close_pool()


@pytest.mark.thorough
def test_publishing_that_takes_too_long_is_told_and_wrote_nothing(
    client, tenant, operator, short_of_time
):
    endpoint = listen(tenant.ref, ordered=True)
    headers = bearer(tenant_key(tenant))
    with operator.transaction():  # Somebody else publishes, and goes on for long.
        operator.execute("select from webhooks_endpoint where id = %s for update", [endpoint.pk])
        answer = client.post(
            "/v1/events",
            {"type": "a.b", "data": {}},
            content_type="application/json",
            headers=headers,
        )
    assert (answer.status_code, answer.json()["code"]) == (503, "took_too_long")
    assert int(answer.headers["Retry-After"]) > 0
    assert events_and_deliveries(operator, tenant) == (0, 0, 0)


def test_a_deliverys_event_is_looked_up_by_its_key_while_the_table_is_empty(superuser):
    """Else a new installation's first thousands read each other all: a plan is kept."""
    superuser.execute("set plan_cache_mode = force_generic_plan")
    superuser.execute(
        "prepare referred(bigint, uuid) as select from only webhooks_event x"
        " where tenant_id = $1 and id = $2 for key share of x",
        prepare=False,
    )
    rows = superuser.execute(f"explain execute referred(1, '{uuid.uuid4()}')", prepare=False)
    plan = "".join(line for (line,) in rows)
    keys = ("webhooks_event_tenant_key", "webhooks_event_pkey", "event_listed")
    assert any(key in plan for key in keys)
