"""GET …/events from a real `stream` process: what a page hears of a campaign's progress."""

import json
import re
from datetime import timedelta

import pytest
import requests
from django.core import signing
from django.utils import timezone

from campaigns import tickets
from campaigns.models import Campaign
from campaigns.progress import Standing
from tests.campaigns import brought
from tests.onboarding.test_stream import running
from tests.people import bearer, platform_key, tenant_key

NOBODYS = "0e1f4a52-7a3e-4a53-9a64-5d0b3c1a9e11"


@pytest.fixture(scope="module")
def stream():
    """Its address."""
    with running() as url:
        yield url


def listen(stream, one, *, query="", **headers):
    address = f"203.0.113.{one.pk.int % 200}"
    return requests.get(
        f"{stream}/v1/campaigns/cmp_{one.pk}/events{query}",
        headers={"X-Forwarded-For": address, **headers}, stream=True, timeout=20,
    )  # fmt: skip


def heard(answer):
    """The events of a stream as they come: id, name, data."""
    event = {}
    for line in answer.iter_lines(chunk_size=1, decode_unicode=True):
        name, _, value = line.partition(": ")
        if line == "" and "data" in event:
            yield event["id"], event["event"], json.loads(event["data"])
            event = {}
        elif name:
            event[name] = value


def now_is(one, **columns):
    Campaign.objects.using("operator").filter(pk=one.pk).update(**columns)


@pytest.fixture
def key(tenant):
    """What a back end sends."""
    return {"Authorization": bearer(tenant_key(tenant))["Authorization"]}


def test_it_tells_the_counters_as_they_change_and_ends_with_the_campaign(stream, tenant, key):
    one = brought.campaign(tenant, total=4, sent=1)
    answer = listen(stream, one, **key)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "text/event-stream"
    events = heard(answer)
    first = next(events)
    assert (first[1], first[2]["state"], first[2]["progress"]) == ("progress", "running", 0.25)
    assert (first[2]["counts"]["sent"], first[2]["counts"]["remaining"]) == (1, 3)
    now_is(one, sent=3, failed=1, state="completed", finished_at=timezone.now())
    *_, last = events
    assert (last[1], last[2]["state"], last[2]["progress"]) == ("finished", "completed", 1.0)
    assert (last[2]["counts"]["sent"], last[2]["counts"]["failed"]) == (3, 1)
    assert (last[2]["rate"], last[2]["estimated_finish_at"]) == (None, None)


def test_who_comes_back_is_told_what_differs_and_then_that_there_is_no_more(stream, tenant, key):
    one = brought.campaign(tenant, total=2, sent=1, state="paused")
    first = next(heard(listen(stream, one, **key)))
    now_is(one, state="running")
    again = heard(listen(stream, one, **key, **{"Last-Event-ID": first[0]}))
    second = next(again)
    assert second[0] != first[0]
    assert second[2]["state"] == "running"
    now_is(one, sent=2, state="completed")
    last = list(again)[-1]
    assert last[1] == "finished"
    over = listen(stream, one, **key, **{"Last-Event-ID": last[0]})
    assert (over.status_code, over.content) == (204, b"")  # EventSource comes back no more.
    [missed] = heard(listen(stream, one, **key, **{"Last-Event-ID": second[0]}))
    assert missed == last


def test_the_address_in_the_campaigns_json_needs_no_key(stream, client, tenant):
    one = brought.campaign(tenant, total=1, sent=1, state="completed")
    shown = client.get(f"/v1/campaigns/cmp_{one.pk}", headers=bearer(tenant_key(tenant))).json()
    query = re.fullmatch(r".*/events(\?ticket=.*)", shown["links"]["events"])[1]
    [event] = heard(listen(stream, one, query=query))
    assert event[2]["counts"] == shown["counts"]


def test_a_ticket_is_for_one_campaign_and_for_two_hours_at_most(stream, tenant, monkeypatch):
    one, other = (brought.campaign(tenant, state="completed") for _ in range(2))
    ticket = tickets.make(tenant_id=tenant.pk, campaign_id=other.pk)
    long_ago = timezone.now() - timedelta(hours=2, seconds=1)
    monkeypatch.setattr("campaigns.tickets.timezone.now", lambda: long_ago)
    old = tickets.make(tenant_id=tenant.pk, campaign_id=one.pk)
    forged = signing.Signer(key="k" * 50, salt="campaigns.tickets").sign_object(
        [tenant.pk, str(one.pk), 2**40]
    )
    for bad in (ticket, old, forged, "x", "x" * 2000, "::"):
        refused = listen(stream, one, query=f"?ticket={bad}")
        assert (refused.status_code, refused.json()["code"]) == (401, "invalid_ticket"), bad


def test_only_who_may_read_the_campaign_hears_of_it(stream, tenant, other_tenant, key):
    one = brought.campaign(tenant, state="completed")

    def asked(**headers):
        answer = listen(stream, one, **headers)
        return answer.status_code, answer.json()["code"]

    def with_key(token, **more):
        return asked(Authorization=f"Bearer {token}", **more)

    assert asked() == (401, "missing_key")
    assert with_key("slw_" + "a" * 12 + "_" + "a" * 32)[0] == 401
    assert with_key(tenant_key(tenant, "customers:read")) == (403, "missing_scope")
    assert with_key(tenant_key(other_tenant)) == (404, "campaign_not_found")
    assert with_key(platform_key())[0] == 400  # It must name a tenant.
    named = {"Slipway-Tenant": other_tenant.slug}
    assert with_key(platform_key(), **named) == (404, "campaign_not_found")
    ours = listen(
        stream, one, Authorization=f"Bearer {platform_key()}", **{"Slipway-Tenant": tenant.slug}
    )
    assert ours.status_code == 200


def test_a_suspended_tenants_key_hears_nothing(stream, make_tenant):
    gone = make_tenant(status="suspended")
    one = brought.campaign(gone)
    refused = listen(stream, one, Authorization=f"Bearer {tenant_key(gone)}")
    assert (refused.status_code, refused.json()["code"]) == (403, "tenant_suspended")


@pytest.mark.parametrize("id", [f"cmp_{NOBODYS}", "cmp_x", "x"])
def test_what_is_nobodys_is_404(stream, key, id):
    url = f"{stream}/v1/campaigns/{id}/events"
    refused = requests.get(url, headers=key, timeout=10)
    assert refused.status_code == 404
    assert refused.headers["Content-Type"] == "application/problem+json"


def test_one_stream_is_not_another_tenants(stream, tenant, other_tenant):
    """Two tenants whose campaigns are watched at once, by the same look."""
    ours, theirs = brought.campaign(tenant, total=1), brought.campaign(other_tenant, total=2)
    keys = [f"Bearer {tenant_key(one)}" for one in (tenant, other_tenant)]
    both = [
        heard(listen(stream, one, Authorization=key))
        for one, key in zip((ours, theirs), keys, strict=True)
    ]
    assert [next(events)[2]["counts"]["total"] for events in both] == [1, 2]
    now_is(ours, state="cancelled")
    now_is(theirs, state="completed", sent=2)
    assert [list(events)[-1][2]["state"] for events in both] == ["cancelled", "completed"]


def test_the_end_is_told_by_the_rate_and_not_where_that_is_unknown(tenant):
    now = timezone.now()
    one = Standing.of(brought.campaign(tenant, total=1000, sent=100))
    assert one.estimate(10.0, now) == (now + timedelta(seconds=90)).replace(microsecond=0)
    assert one.estimate(None, now) is None
    assert one.estimate(0.0, now) is None
    assert one.estimate(1e-9, now) is None  # Nobody plans for the next century.
