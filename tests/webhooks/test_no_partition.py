"""A day that has no partition of payloads: what is published keeps what it says itself."""

import json
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from io import StringIO

import pytest
from django.core.management import call_command
from django.db import connections

from jobs import partitions
from tenants.context import PLATFORM
from tests.chaos.conftest import until
from tests.people import bearer, tenant_key
from tests.webhooks.ears import deliveries_of, listen, publish_in
from tests.webhooks.hooks import draining


@contextmanager
def without(day, *, parent="webhooks_payload"):
    """A day's partition, detached."""
    name = partitions.name_of(day, parent=parent)
    bounds = f"from ('{day} 00:00+00') to ('{day + timedelta(days=1)} 00:00+00')"
    with connections["owner"].cursor() as cursor:
        cursor.execute(f'alter table {parent} detach partition "{name}"')
    try:
        yield
    finally:
        with connections["owner"].cursor() as cursor:
            cursor.execute(f'alter table {parent} attach partition "{name}" for values {bounds}')


@pytest.fixture
def today():
    return datetime.now(UTC).date()


@pytest.fixture
def no_partition(today):
    with without(today):
        yield


def kept(operator, tenant_id) -> list[dict]:
    rows = operator.execute(
        "select kept_payload from webhooks_event where tenant_id = %s order by id", [tenant_id]
    ).fetchall()
    return [json.loads(text) for (text,) in rows if text is not None]


def test_an_event_is_published_and_delivered_on_a_day_without_a_partition(hooks, no_partition):
    hook = hooks.endpoint()
    hooks.publish(n=7)
    with draining():
        until(lambda: hook.states == ["succeeded"], 10)
    assert hook.numbers == [7]


def test_the_api_publishes_and_shows_it(client, tenant, no_partition):
    headers = bearer(tenant_key(tenant))
    body = {"type": "a.b", "data": {"n": 1}}
    answer = client.post("/v1/events", body, content_type="application/json", headers=headers)
    assert answer.status_code == 202
    shown = client.get(f"/v1/events/{answer.json()['id']}", headers=headers)
    assert shown.json()["data"] == {"n": 1}


def test_the_platform_is_told_on_such_a_day_too(tenant, operator, no_partition):
    ear = listen(PLATFORM, "tenant.*")
    publish_in(tenant, type="tenant.ready", payload={"plan": "free"})
    [said] = deliveries_of(operator, ear, "e.kept_payload")
    assert json.loads(said)["plan"] == "free"


def test_with_a_partition_nothing_is_kept_twice(tenant, operator):
    publish_in(tenant)
    assert kept(operator, tenant.pk) == []


def test_without_todays_partition_the_service_is_degraded_and_ready(client, no_partition):
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()["checks"]["partitions"]) == (200, "degraded")


def test_with_todays_partition_it_is_not(client):
    assert client.get("/readyz").json()["checks"]["partitions"] == "ok"


def days_ahead(client, table: str) -> float:
    """What the metric says."""
    start = f'slipway_partition_days_ahead{{table="{table}"}} '
    text = client.get("/metrics").content.decode()
    [line] = [line for line in text.splitlines() if line.startswith(start)]
    return float(line.removeprefix(start))


def test_a_metric_tells_how_many_days_there_is_room_for(client, today):
    assert days_ahead(client, "jobs_attempt") >= partitions.DAYS_AHEAD
    with without(today + timedelta(days=3)):
        assert days_ahead(client, "webhooks_payload") == 2
    with without(today):
        assert days_ahead(client, "webhooks_payload") == -1


def test_the_command_warns_when_less_than_a_week_is_left(today):
    out, error = StringIO(), StringIO()
    with without(today + timedelta(days=7)):
        call_command("partitions", "--dry-run", "--json", stdout=out, stderr=error)
    assert json.loads(out.getvalue())["days_ahead"]["webhooks_payload"] == 6
    assert "webhooks_payload" in error.getvalue()
    assert "jobs_attempt" not in error.getvalue()
