"""Who calls, for which tenant, and what each may do."""

import pytest
from django.test import RequestFactory

from config.limits import Limit
from config.proxies import client_address
from tenants.auth import Caller, CallerKind, identify
from tenants.context import current_tenant
from tests.people import APEX, bearer, host_of, platform_key, prefix_of, tenant_key


def request_with(token=None, **headers):
    all_headers = {"Host": APEX, **headers}
    if token:
        all_headers["Authorization"] = f"Bearer {token}"
    return RequestFactory().get("/v1/customers", headers=all_headers)


def problem(response):
    return response.status_code, response.json()["code"]


def test_a_stranger_is_anonymous():
    caller = identify(request_with())
    assert caller == Caller(address="127.0.0.1")
    assert caller.kind is CallerKind.ANONYMOUS
    assert caller.actor == "anonymous"


def test_a_tenants_key_acts_for_its_tenant(tenant):
    token = tenant_key(tenant, "customers:read")
    caller = identify(request_with(token))
    assert caller.kind is CallerKind.TENANT
    assert caller.tenant_ref == tenant.ref
    assert caller.scopes == {"customers:read"}
    assert caller.actor == f"api_key:{prefix_of(token)}"
    assert token not in repr(caller)
    assert caller.proof.digest.hex() not in repr(caller)
    assert str(caller.proof.digest) not in repr(caller)


@pytest.mark.parametrize("reference", ["slug", "id"])
def test_a_platform_key_acts_for_the_tenant_it_names(tenant, other_tenant, reference):
    token = platform_key()
    named = tenant.slug if reference == "slug" else f"tnt_{tenant.uuid}"
    caller = identify(request_with(token, **{"Slipway-Tenant": named}))
    assert caller.kind is CallerKind.PLATFORM
    assert caller.tenant_ref == tenant.ref


def test_a_platform_key_acts_for_a_dedicated_tenant_in_its_schema(dedicated_tenant):
    named = {"Slipway-Tenant": dedicated_tenant.slug}
    caller = identify(request_with(platform_key(), **named))
    assert caller.tenant_ref.schema == dedicated_tenant.schema_name


@pytest.mark.parametrize(
    "named", ["nobody-at-all", "tnt_", "tnt_nonsense", "tnt_00000000-0000-0000-0000-000000000000",
              "a" * 64, "' or true --"]
)  # fmt: skip
def test_a_platform_key_that_names_nobody_gets_404(client, named):
    headers = bearer(platform_key(), **{"Slipway-Tenant": named})
    refused = client.get("/v1/customers", headers=headers)
    assert refused.status_code == 404


def test_a_platform_key_must_name_a_tenant_where_one_is_needed(client, tenant):
    token = platform_key()
    assert problem(client.get("/v1/customers", headers=bearer(token))) == (400, "tenant_not_named")
    named = bearer(token, **{"Slipway-Tenant": tenant.slug})
    assert client.get("/v1/customers", headers=named).status_code == 200


def test_a_tenants_key_cannot_name_another_tenant(client, tenant, other_tenant):
    token = tenant_key(tenant)
    theirs = bearer(token, **{"Slipway-Tenant": other_tenant.slug})
    assert problem(client.get("/v1/customers", headers=theirs)) == (403, "tenant_mismatch")
    own = bearer(token, **{"Slipway-Tenant": tenant.slug})
    assert client.get("/v1/customers", headers=own).status_code == 200


def test_a_tenants_key_is_a_stranger_on_anothers_host(client, tenant, other_tenant):
    token = tenant_key(tenant)
    refused = client.get(
        "/v1/customers",
        headers={"Authorization": f"Bearer {token}", "Host": host_of(other_tenant)},
    )
    assert problem(refused) == (401, "invalid_key")
    own = client.get(
        "/v1/customers", headers={"Authorization": f"Bearer {token}", "Host": host_of(tenant)}
    )
    assert own.status_code == 200


def test_a_platform_key_on_a_tenants_host_acts_for_that_tenant_alone(client, tenant, other_tenant):
    headers = {"Authorization": f"Bearer {platform_key()}", "Host": host_of(tenant)}
    assert client.get("/v1/customers", headers=headers).status_code == 200
    headers["Slipway-Tenant"] = other_tenant.slug
    assert client.get("/v1/customers", headers=headers).status_code == 401


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        ("active", None),
        ("provisioning", (503, "tenant_not_ready")),
        ("suspended", (403, "tenant_suspended")),
        ("closing", (410, "tenant_closed")),
        ("closed", (410, "tenant_closed")),
    ],
)
def test_a_key_works_while_its_tenant_does(client, make_tenant, status, answer):
    tenant = make_tenant(status=status)
    response = client.get("/v1/customers", headers=bearer(tenant_key(tenant)))
    assert (problem(response) if answer else response.status_code) == (answer or 200)


def test_the_platform_reaches_a_suspended_tenant(client, make_tenant):
    tenant = make_tenant(status="suspended")
    named = bearer(platform_key(), **{"Slipway-Tenant": tenant.slug})
    assert client.get("/v1/customers", headers=named).status_code == 200


def test_it_asks_strangers_for_a_key(client):
    refused = client.get("/v1/customers", headers={"Host": APEX})
    assert problem(refused) == (401, "missing_key")
    assert refused.headers["WWW-Authenticate"].startswith("Bearer")
    assert refused.headers["Content-Type"] == "application/problem+json"


def test_it_leaves_no_tenant_behind(client, tenant):
    assert client.get("/v1/customers", headers=bearer(tenant_key(tenant))).status_code == 200
    assert current_tenant() is None


def test_it_tells_the_limit_and_keeps_to_it(client, tenant, monkeypatch):
    monkeypatch.setattr("tenants.throttling.TENANT_KEY", Limit("tenant-key", 2, 60))
    headers = bearer(tenant_key(tenant))
    first = client.get("/v1/customers", headers=headers)
    assert first.headers["RateLimit"].startswith('"tenant-key";r=1;')
    assert client.get("/v1/customers", headers=headers).status_code == 200
    refused = client.get("/v1/customers", headers=headers)
    assert problem(refused) == (429, "rate_limited")
    assert 1 <= int(refused.headers["Retry-After"]) <= 61
    # Another key of the same tenant has a count of its own.
    assert client.get("/v1/customers", headers=bearer(tenant_key(tenant))).status_code == 200


def test_a_platform_key_has_its_own_limit(client, operator):
    token = platform_key()
    operator.execute(
        "update tenants_platformkey set rate_limit = 1 where prefix = %s", [prefix_of(token)]
    )
    assert client.get("/v1/tenants", headers=bearer(token)).status_code == 200
    assert problem(client.get("/v1/tenants", headers=bearer(token))) == (429, "rate_limited")


# ---- Addresses ----


@pytest.mark.parametrize(
    ("remote", "forwarded", "trusted", "address"),
    [
        ("203.0.113.9", "", [], "203.0.113.9"),
        ("203.0.113.9", "198.51.100.1", [], "203.0.113.9"),  # Nobody is trusted.
        ("203.0.113.9", "198.51.100.1", ["10.0.0.0/8"], "203.0.113.9"),
        ("10.0.0.1", "198.51.100.1", ["10.0.0.0/8"], "198.51.100.1"),
        ("10.0.0.1", "1.1.1.1, 198.51.100.1, 10.0.0.2", ["10.0.0.0/8"], "198.51.100.1"),
        ("10.0.0.1", "spoofed, 198.51.100.1", ["10.0.0.0/8"], "198.51.100.1"),
        ("10.0.0.1", "198.51.100.1, nonsense", ["10.0.0.0/8"], "10.0.0.1"),
        ("10.0.0.1", "10.0.0.3, 10.0.0.2", ["10.0.0.0/8"], "10.0.0.3"),
        ("::1", "2001:db8::7", ["::1"], "2001:db8::7"),
        ("::ffff:10.0.0.1", "198.51.100.1", ["10.0.0.0/8"], "198.51.100.1"),
        ("", "198.51.100.1", ["10.0.0.0/8"], "0.0.0.0"),
    ],
)
def test_it_believes_forwarded_addresses_from_trusted_proxies_alone(
    settings, remote, forwarded, trusted, address
):
    settings.TRUSTED_PROXIES = trusted
    request = RequestFactory().get("/", REMOTE_ADDR=remote, HTTP_X_FORWARDED_FOR=forwarded)
    assert client_address(request) == address
