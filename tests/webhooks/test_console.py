"""Webhooks and work in the console: shown without their secrets, and without counting it all."""

import re

import pytest
from django.db import connections
from django.test.utils import CaptureQueriesContext

from jobs.models import Lane
from tests.people import PASSWORD, Browser, make_user
from tests.webhooks.ears import listen, publish_in
from webhooks import custom_headers
from webhooks.models import Delivery

LISTS = (
    "webhooks/endpoint",
    "webhooks/event",
    "webhooks/eventtype",
    "webhooks/delivery",
    "jobs/attempt",
    "jobs/deadletter",
    "jobs/drainer",
    "jobs/job",
    "jobs/lane",
    "jobs/replay",
)


@pytest.fixture
def console():
    browser = Browser()
    staff = make_user(staff=True)
    browser.post("/console/login/?next=/console/", username=staff.email, password=PASSWORD)
    return browser


def page(console, path: str) -> str:
    answer = console.get(f"/console/{path}/")
    assert answer.status_code == 200, path
    return answer.content.decode()


@pytest.fixture
def endpoint(tenant):
    secret = {"secret": "kept-encrypted-and-not-shown", "made_at": "x", "expires_at": None}
    headers = custom_headers.merged("", {"X-Api-Key": "credential"})
    return listen(tenant.ref, secrets=[secret], custom_headers=headers)


def test_an_endpoint_is_shown_and_none_of_its_secrets(console, endpoint):
    shown = page(console, f"webhooks/endpoint/{endpoint.pk}/change")
    assert endpoint.host in shown
    assert f"X-Api-Key: {custom_headers.MASK}" in shown
    assert "kept-encrypted-and-not-shown" not in shown
    assert "credential" not in shown
    assert endpoint.custom_headers not in shown


def test_events_and_deliveries_are_shown_and_not_changed(console, tenant, endpoint):
    event = publish_in(tenant)
    delivery = Delivery.objects.using("operator").get(event_id=event.pk)
    for path in (f"webhooks/event/{event.pk}", f"webhooks/delivery/{delivery.pk}"):
        assert 'name="_save"' not in page(console, f"{path}/change")
        assert console.get(f"/console/{path}/delete/").status_code == 403


def test_a_lane_shows_how_it_fares(console, tenant, endpoint):
    Lane(tenant_id=tenant.pk, key=endpoint.lane, failures=12, trips=3, rate=2.5).save(
        using="operator", force_insert=True
    )
    shown = page(console, "jobs/lane")
    for name in ("failures", "trips", "held_back", "failing_since", "pace", "room"):
        assert f"column-{name}" in shown


@pytest.mark.parametrize("path", LISTS)
def test_no_list_counts_or_searches_a_whole_table(console, tenant, endpoint, path):
    publish_in(tenant)
    with CaptureQueriesContext(connections["operator"]) as captured:
        page(console, path)
    table = path.replace("/", "_")
    asked = [query["sql"] for query in captured if f'FROM "{table}"' in query["sql"]]
    assert asked
    assert not any("COUNT(" in sql for sql in asked)
    assert all("LIMIT" in sql for sql in asked)
    assert not any("DISTINCT" in sql for sql in asked)


def test_a_delivery_is_found_by_its_id_as_the_api_spells_it(console, tenant, endpoint):
    first, second = (
        Delivery.objects.using("operator").get(event_id=publish_in(tenant).pk) for _ in range(2)
    )
    shown = console.get(f"/console/webhooks/delivery/?q=dlv_{first.pk}").content.decode()
    assert re.findall(r"/webhooks/delivery/([0-9a-f-]{36})/change", shown) == [str(first.pk)]
    assert console.get("/console/webhooks/delivery/?q=nonsense").status_code == 200
    assert second.pk != first.pk
