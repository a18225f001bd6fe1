"""An Idempotency-Key with `POST /v1/endpoints`: one endpoint, however often it is sent."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from uuid import UUID

import pytest
from django.db import connections
from django.utils import timezone

from tests.people import platform_key, tenant_key
from tests.webhooks.test_endpoints import URL, Api, problem
from webhooks import endpoints
from webhooks.repeating import Repeatable

KEY = "once-and-never-again"


@pytest.fixture
def keyed(client, tenant):
    """The API of one tenant, where every call has the same key."""
    return Api(client, tenant_key(tenant), **{"Idempotency-Key": KEY})


def test_the_same_call_again_makes_no_second_endpoint_and_shows_the_same_secret(keyed):
    first, again = keyed.add(description="Billing"), keyed.add(description="Billing")
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json() == first.json()
    assert again.headers["Location"] == first.headers["Location"]
    assert again.headers["Idempotent-Replayed"] == "true"
    assert "Idempotent-Replayed" not in first.headers
    assert len(keyed.listed()) == 1


def test_an_endpoint_that_was_made_with_a_key_is_one_like_any_other(keyed):
    id_ = keyed.made()["id"]
    assert UUID(id_.removeprefix("ep_")).version == 7
    assert keyed.get(id_)["url"] == URL


@pytest.mark.parametrize("other", [{"description": "Other"}, {"rate": 2}, {"disabled": True}])
def test_the_same_key_with_another_endpoint_is_refused(keyed, other):
    keyed.made()
    assert problem(keyed.add(**other), 422)["code"] == "idempotency_key_reused"
    assert len(keyed.listed()) == 1


def test_keys_are_a_tenants_own(client, keyed, other_tenant):
    other = Api(client, tenant_key(other_tenant), **{"Idempotency-Key": KEY})
    assert keyed.made()["id"] != other.made()["id"]


def test_the_platforms_endpoints_take_keys_too(client):
    headers = {"Idempotency-Key": KEY}
    api = Api(client, platform_key(), root="/v1/platform/endpoints", **headers)
    made = api.made()
    assert api.made() == made
    api.send("delete", f"/{made['id']}")


def test_a_day_later_the_key_may_be_used_again(keyed, monkeypatch):
    now = timezone.now
    monkeypatch.setattr(timezone, "now", lambda: now() - timedelta(hours=25))
    first = keyed.made()
    monkeypatch.undo()
    assert keyed.made()["id"] != first["id"]


def test_an_endpoint_that_was_changed_is_shown_as_it_is_now(keyed):
    made = keyed.made()
    keyed.change(made["id"], rate=3)
    assert keyed.made() == made | {"rate": 3, "updated_at": keyed.get(made["id"])["updated_at"]}


def test_a_secret_that_was_made_since_is_shown_to_nobody(keyed):
    made = keyed.made()
    keyed.send("post", f"/{made['id']}/secret/rotate", {"overlap_seconds": 0})
    assert problem(keyed.add(), 409)["code"] == "endpoint_changed"


def test_what_was_deleted_is_not_made_again(keyed):
    keyed.send("delete", f"/{keyed.made()['id']}")
    assert problem(keyed.add(), 409)["code"] == "endpoint_changed"
    assert keyed.listed() == []


def test_two_at_once_make_one(tenant):
    once = Repeatable(b"k" * 32, b"{}")

    def make(_):
        try:
            fields = {"url": URL, "event_types": []}
            made = endpoints.create(tenant=tenant.ref, fields=fields, actor="a:b", once=once)
            return made.endpoint.pk, made.secret
        finally:
            connections.close_all()

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(make, range(4)))) == 1


@pytest.mark.parametrize("key", ["a b", '"half', "x" * 256])
def test_a_key_that_is_none_is_refused(client, tenant, key):
    api = Api(client, tenant_key(tenant), **{"Idempotency-Key": key})
    assert problem(api.add())["code"] == "invalid_idempotency_key"
