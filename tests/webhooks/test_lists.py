"""Lists and counts of deliveries: as quick beside a neighbour of millions as alone."""

import json

import pytest
from django.db import connections

from jobs import replaying, selection
from tenants.context import TenantRef, tenant_context
from tests.jobs.conftest import withdraw_everything
from tests.webhooks.letters import OPERATOR, Desk, change, outside
from tests.webhooks.test_replays import LONG_AGO, engine, finished, states  # noqa: F401
from webhooks import listing, missing
from webhooks.models import Delivery, Endpoint

CROWD = 4000
NEIGHBOUR = """
with e as (
  insert into webhooks_event (id, tenant_id, type)
  select uuidv7(), %(tenant)s, 'a.b' from generate_series(1, %(crowd)s) returning id)
insert into webhooks_delivery
  (id, tenant_id, event_id, endpoint_id, lane, host, state, max_attempts, finished_at)
select uuidv7(), %(tenant)s, id, %(endpoint)s, 'endpoint:' || %(endpoint)s, 'h', 'succeeded', 10,
  now() from e
"""
QUERIES = ["", "?state=dead_letter", "?state=held", "?state=cancelled", "?endpoint={endpoint}"]
ELSE = ["?type=x.y", "?state=pending", "?state=succeeded", "?until=2025-01-01T00:00:00Z"]


@pytest.fixture
def desk(client, tenant):
    return Desk(client, tenant)


@pytest.fixture
def neighbour(client, other_tenant, operator, owner_sql):
    """Another tenant's deliveries, which are all there are."""
    withdraw_everything()
    other = Desk(client, other_tenant)
    values = {"tenant": other_tenant.pk, "crowd": CROWD, "endpoint": other.endpoint().pk}
    operator.execute(NEIGHBOUR, values)
    owner_sql("analyze webhooks_delivery, webhooks_event")
    yield other
    operator.execute("delete from webhooks_delivery where tenant_id = %s", [other_tenant.pk])
    owner_sql("vacuum analyze webhooks_delivery")  # Else each event looks through what was deleted.
    operator.execute("delete from webhooks_event where tenant_id = %s", [other_tenant.pk])


@pytest.fixture
def owner_sql():
    def run(statement):
        with connections["owner"].cursor() as cursor:
            cursor.execute(statement)

    return run


def asked_of_the_database(desk, path, *, table="delivery") -> list[tuple]:
    """The statements about deliveries that a request makes."""
    asked = []

    def heard(execute, sql, params, many, context):
        if f'from "webhooks_{table}"' in sql.lower():
            asked.append((sql, params))
        return execute(sql, params, many, context)

    with connections["default"].execute_wrapper(heard):
        assert desk.get(path).status_code == 200
    return asked


def plan_of(desk, statement, params) -> list[dict]:
    """Its plan's nodes, as they came to be run for this tenant."""
    with (
        tenant_context(TenantRef(desk.owner.pk, "pool")),
        connections["default"].cursor() as cursor,
    ):
        cursor.execute(f"explain (analyze, format json) {statement}", params)
        (answer,) = cursor.fetchone()
    nodes = [(json.loads(answer) if isinstance(answer, str) else answer)[0]["Plan"]]
    for node in nodes:
        nodes.extend(node.get("Plans", []))
    return nodes


def looked_at(nodes, *, table="delivery") -> float:
    """The most rows of deliveries that one node came by."""
    ours = [node for node in nodes if table in str(node.get("Index Name", node))]
    return max(
        node["Actual Loops"] * (node["Actual Rows"] + node.get("Rows Removed by Filter", 0))
        for node in ours
    )


@pytest.mark.parametrize("query", [*QUERIES, *ELSE])
def test_a_tenant_that_has_nothing_walks_through_no_neighbours_rows(
    desk, neighbour, query, monkeypatch
):
    monkeypatch.setattr(listing, "LOOKED_AT", 20)  # As little of a crowd as 10,000 of two million.
    path = "deliveries" + query.format(endpoint=outside("ep", desk.endpoint()))
    asked = asked_of_the_database(desk, path)
    assert asked
    for statement, params in asked:
        assert looked_at(plan_of(desk, statement, params)) == 0, statement


@pytest.mark.parametrize("query", [*QUERIES, *ELSE])
def test_a_page_looks_at_no_more_than_it_may_however_many_there_are(neighbour, monkeypatch, query):
    monkeypatch.setattr(listing, "LOOKED_AT", 20)
    (endpoint,) = Endpoint.objects.using(OPERATOR).filter(tenant_id=neighbour.owner.pk)
    path = "deliveries" + query.format(endpoint=outside("ep", endpoint))
    path += ("&" if "?" in path else "?") + "limit=5"
    for statement, params in asked_of_the_database(neighbour, path):
        assert looked_at(plan_of(neighbour, statement, params)) <= 20, statement


@pytest.mark.parametrize("query", ["", "?type=a.b", "?type=x.y"])
def test_a_page_of_events_walks_through_no_neighbours_rows(desk, neighbour, query):
    query += ("&" if query else "?") + "limit=5"
    for reader, most in ((desk, 0), (neighbour, 6)):
        asked = asked_of_the_database(reader, "events" + query, table="event")
        assert asked
        for statement, params in asked:
            seen = looked_at(plan_of(reader, statement, params), table="event")
            assert seen <= most, statement


def test_a_short_page_names_the_next_and_all_are_found(desk, monkeypatch):
    monkeypatch.setattr(listing, "LOOKED_AT", 2)
    desk.endpoint()
    wanted = [outside("dlv", one) for _ in range(3) for one in _a_rare_one_among(desk, 3)]
    listed, cursor, pages = [], "", 0
    while cursor is not None:
        shown = desk.get(f"deliveries?type=rare.one&cursor={cursor}").json()
        listed += [one["id"] for one in shown["data"]]
        cursor, pages = shown["next_cursor"], pages + 1
    assert listed == wanted[::-1]
    assert pages >= 5


def _a_rare_one_among(desk, many) -> list[Delivery]:
    for n in range(many):
        desk.publish(n=n)
    return desk.deliveries(desk.publish("rare.one"))


def test_a_count_ends_where_nobody_counts_any_more(desk, monkeypatch):
    desk.endpoint()
    desk.dead(4)
    counted = desk.post("replays", dry_run=True).json()
    assert (counted["count"], counted["capped"]) == (4, False)
    for module in (replaying, missing):
        monkeypatch.setattr(module, "MOST_COUNTED", 3)
    monkeypatch.setattr(replaying, "CHUNK", 2)
    counted = desk.post("replays", dry_run=True).json()
    assert (counted["count"], counted["capped"]) == (3, True)
    desk.endpoint()
    counted = desk.post("replays", missing=True, since=LONG_AGO, dry_run=True).json()
    assert (counted["count"], counted["capped"]) == (3, True)


def test_a_count_takes_no_longer_than_somebody_waits(desk, monkeypatch):
    monkeypatch.setattr(replaying, "COUNTING", 0.0)
    desk.endpoint()
    desk.dead(1)
    assert desk.post("replays", dry_run=True).json()["capped"]


def test_what_is_rare_among_many_is_replayed_look_by_look(desk, engine, monkeypatch):  # noqa: F811
    monkeypatch.setattr(selection, "LOOKED_AT", 2)
    desk.endpoint()
    found = [change(one, state="succeeded") for _ in range(2) for one in _a_rare_one_among(desk, 5)]
    others = [one for one in desk.deliveries() if one not in found]
    wish = {"event_type": "rare.one", "states": ["succeeded"]}
    assert desk.post("replays", dry_run=True, **wish).json()["count"] == 2
    assert finished(desk, engine, **wish)["done"] == 2
    assert set(states(found)) == {"pending"}
    assert all(one.priority == 0 for one in others)


def test_what_is_missing_is_made_look_by_look(desk, engine, monkeypatch):  # noqa: F811
    monkeypatch.setattr(missing, "LOOKED_AT", 2)
    events = [desk.publish(n=n) for n in range(7)]
    desk.endpoint(), desk.endpoint()
    wish = {"missing": True, "since": LONG_AGO}
    assert desk.post("replays", dry_run=True, **wish).json()["count"] == 14
    assert finished(desk, engine, **wish)["done"] == 14
    assert [one.event_id for one in desk.deliveries()] == [e.pk for e in events for _ in "12"]


@pytest.mark.parametrize("how", ["endpoint_disabled", "endpoint_deleted", "payload_gone"])
def test_a_preview_leaves_out_what_would_be_skipped_and_says_why(desk, how):
    endpoint = desk.endpoint()
    dead = desk.dead(2)
    column = {"endpoint_disabled": "disabled_at", "endpoint_deleted": "deleted_at"}.get(how)
    if column:
        rows = Endpoint.objects.using(OPERATOR).filter(pk=endpoint.pk)
        rows.update(**{column: "2026-01-01T00:00Z"})
    else:
        from webhooks.models import Payload

        events = [one.event_id for one in dead]
        Payload.objects.using(OPERATOR).filter(event_id__in=events).delete()
    counted = desk.post("replays", dry_run=True).json()
    assert (counted["count"], counted["left_out"], counted["sample"]) == (0, {how: 2}, [])
    discarded = desk.post("replays", dry_run=True, action="discard").json()
    assert (discarded["count"], discarded["left_out"]) == (2, {})
