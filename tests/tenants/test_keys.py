"""Keys: only a hash is stored, nothing leaks, and nobody lists them."""

import hashlib
import time
from datetime import timedelta

import psycopg
import pytest
from django.utils import timezone

from tenants import keys, usage
from tenants.models import ApiKey
from tests.people import APEX, bearer, platform_key, prefix_of, tenant_key

pytestmark = pytest.mark.usefixtures("database")


def read_customers(client, token):
    return client.get("/v1/customers", headers=bearer(token))


def test_it_stores_neither_the_key_nor_what_proves_it(tenant, operator):
    token = tenant_key(tenant)
    proof = hashlib.sha256(token.encode()).digest()
    (row,) = operator.execute(
        "select k::text from tenants_apikey k where prefix = %s", [prefix_of(token)]
    ).fetchone()
    assert token.split("_")[2] not in row
    assert proof.hex() not in row
    assert hashlib.sha256(proof).hexdigest() in row


def test_it_makes_keys_with_160_bits_that_are_never_the_same(tenant):
    tokens = {tenant_key(tenant) for _ in range(5)}
    assert len(tokens) == 5
    assert all(len(token) == len("slw_") + 12 + 1 + 32 for token in tokens)


@pytest.mark.parametrize(
    "authorization",
    [
        "Bearer",
        "Bearer ",
        "Bearer slw_",
        "Bearer slw_abc_def",
        "Bearer slw_aaaaaaaaaaaa_" + "a" * 32,
        "Bearer slp_aaaaaaaaaaaa_" + "a" * 32,
        "Bearer slw_AAAAAAAAAAAA_" + "A" * 32,
        "Bearer slw_aaaaaaaaaaaa_" + "a" * 31,
        "Bearer slw_aaaaaaaaaaaa_" + "a" * 33,
        "Bearer " + "a" * 5000,
        "Bearer slw_aaaaaaaaaaaa_" + "a" * 32 + "\n",
        "Bearer ' or true --",
        "Bearer slw_ééééé_é",
        "Basic c2x3OmFhYQ==",
        "slw_aaaaaaaaaaaa_" + "a" * 32,
    ],
)
def test_it_answers_each_bad_key_with_the_same_401(client, authorization):
    refused = client.get("/v1/customers", HTTP_AUTHORIZATION=authorization, HTTP_HOST=APEX)
    assert refused.status_code == 401
    body = refused.json()
    body.pop("trace_id")
    assert body == {
        "type": "urn:slipway:problem:invalid_key",
        "title": "The API key is not valid.",
        "status": 401,
        "code": "invalid_key",
    }
    assert refused.headers["WWW-Authenticate"].startswith("Bearer")


def test_it_knows_a_key_by_its_secret_and_not_by_its_prefix(tenant, client):
    token = tenant_key(tenant)
    assert read_customers(client, token).status_code == 200  # Now it is in the process's memory.
    forged = token[:-1] + ("a" if token[-1] != "a" else "b")
    assert read_customers(client, forged).status_code == 401
    keys.forget(prefix_of(token))
    assert read_customers(client, forged).status_code == 401
    assert read_customers(client, token).status_code == 200


def test_it_refuses_a_key_of_one_kind_spelt_as_the_other(tenant, client):
    token = tenant_key(tenant)
    assert read_customers(client, token.replace("slw_", "slp_")).status_code == 401


def test_it_refuses_an_expired_key_as_it_refuses_an_unknown_one(tenant, client, operator):
    token = tenant_key(tenant, expires_at=timezone.now() + timedelta(hours=1))
    assert read_customers(client, token).status_code == 200
    operator.execute(
        "update tenants_apikey set expires_at = now() - interval '1 second' where prefix = %s",
        [prefix_of(token)],
    )
    keys.forget(prefix_of(token))
    refused = read_customers(client, token)
    assert refused.status_code == 401
    assert refused.json()["code"] == "invalid_key"


def test_it_refuses_a_key_that_expires_while_it_is_remembered(tenant, client, monkeypatch):
    token = tenant_key(tenant, expires_at=timezone.now() + timedelta(hours=1))
    assert read_customers(client, token).status_code == 200
    later = timezone.now() + timedelta(hours=2)
    monkeypatch.setattr("tenants.keys.timezone.now", lambda: later)
    assert read_customers(client, token).status_code == 401


def test_it_ends_a_key_at_once_here_and_within_seconds_elsewhere(tenant, client, operator):
    token = tenant_key(tenant)
    assert read_customers(client, token).status_code == 200
    keys.revoke(
        tenant=tenant.ref, prefix=prefix_of(token), actor="user:1", reason="It was in a mail."
    )
    assert read_customers(client, token).status_code == 401
    assert keys.CACHE_SECONDS <= 5
    entry = operator.execute(
        "select actor, reason, tenant_id from tenants_auditentry"
        " where action = 'key.revoked' and target = %s",
        [f"api_key:{prefix_of(token)}"],
    ).fetchall()
    assert entry == [("user:1", "It was in a mail.", tenant.pk)]


def test_it_ends_a_key_twice_without_a_second_entry(tenant, operator):
    token = tenant_key(tenant)
    for _ in range(2):
        keys.revoke(tenant=tenant.ref, prefix=prefix_of(token), actor="user:1", reason="Again.")
    count = operator.execute(
        "select count(*) from tenants_auditentry where action = 'key.revoked' and target = %s",
        [f"api_key:{prefix_of(token)}"],
    ).fetchone()
    assert count == (1,)


def test_it_ends_nothing_of_another_tenant(tenant, other_tenant, client):
    theirs = tenant_key(other_tenant)
    with pytest.raises(keys.KeyNotFound):
        keys.revoke(tenant=tenant.ref, prefix=prefix_of(theirs), actor="user:1", reason="Mine?")
    assert read_customers(client, theirs).status_code == 200


def test_it_ends_a_platform_key(client):
    token = platform_key()
    assert client.get("/v1/tenants", headers=bearer(token)).status_code == 200
    keys.revoke_platform(prefix=prefix_of(token), actor="operator:1", reason="Rotated.")
    assert client.get("/v1/tenants", headers=bearer(token)).status_code == 401


def test_it_writes_when_a_key_was_last_used_at_once_the_first_time_and_coarsely_later(
    tenant, client, operator
):
    token = tenant_key(tenant)

    def last_used():
        return operator.execute(
            "select last_used_at from tenants_apikey where prefix = %s", [prefix_of(token)]
        ).fetchone()[0]

    assert read_customers(client, token).status_code == 200
    deadline = time.monotonic() + 10
    while last_used() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    first = last_used()
    assert first is not None
    read_customers(client, token)
    usage.flush()
    assert last_used() == first  # Coarse: the same 20 seconds.


def test_a_first_use_that_could_not_be_written_is_written_later(
    tenant, operator, superuser, monkeypatch
):
    """Else the key could be claimed again, in the hands of whoever uses it."""
    prefix = prefix_of(tenant_key(tenant))
    monkeypatch.setattr(usage, "_used", {prefix})
    superuser.execute("revoke execute on function slipway.note_key_use from slipway_app")
    try:
        usage.flush()
    finally:
        superuser.execute("grant execute on function slipway.note_key_use to slipway_app")
    usage.flush()
    assert operator.execute(
        "select last_used_at is not null from tenants_apikey where prefix = %s", [prefix]
    ).fetchone() == (True,)


# ---- What the app role cannot do, each with its positive control ----


def test_the_app_role_lists_no_keys(tenant, app_connection, operator):
    token = tenant_key(tenant)
    assert operator.execute(
        "select count(*) from tenants_apikey where prefix = %s", [prefix_of(token)]
    ).fetchone() == (1,)
    assert app_connection.execute("select count(*) from tenants_apikey").fetchone() == (0,)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        app_connection.execute("select * from tenants_platformkey")


def test_the_app_role_finds_a_key_by_its_proof_alone(tenant, app_connection, operator):
    token = tenant_key(tenant)
    proof = keys.parse(token)
    find = "select id from slipway.find_api_key(%s, %s)"
    assert app_connection.execute(find, [proof.prefix, proof.digest]).fetchall() == [(tenant.pk,)]
    for guess in (b"", b"x" * 32, proof.stored()):  # The last: what a leaked table would show.
        assert app_connection.execute(find, [proof.prefix, guess]).fetchall() == []


PLATFORM_CALLS = [
    "select * from slipway.platform_tenants(%s, %s, null, 100, null, null, null)",
    "select * from slipway.platform_tenant(%s, %s, null, 'any')",
    "select * from slipway.platform_move_tenant(%s, %s, 1, 'active', 'suspended')",
    "select * from slipway.platform_domains(%s, %s, 1)",
    "select * from slipway.platform_audit(%s, %s, null, null, 100)",
]


@pytest.mark.parametrize("call", PLATFORM_CALLS)
def test_injected_sql_reaches_no_other_tenant_without_a_platform_key(call, app_connection, tenant):
    proof = keys.parse(platform_key())
    app_connection.execute(call, [proof.prefix, proof.digest])  # The control: with the key it may.
    a_tenants = keys.parse(tenant_key(tenant))
    for prefix, guess in [
        (proof.prefix, proof.stored()),
        (proof.prefix, b""),
        (proof.prefix, None),
        (None, None),
        (a_tenants.prefix, a_tenants.digest),
    ]:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            app_connection.execute(call, [prefix, guess])


@pytest.mark.parametrize("call", [PLATFORM_CALLS[0], PLATFORM_CALLS[2], PLATFORM_CALLS[4]])
def test_the_database_checks_a_platform_keys_scopes_too(call, app_connection):
    proof = keys.parse(platform_key("customers:read"))
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        app_connection.execute(call, [proof.prefix, proof.digest])


def test_the_app_role_cannot_call_the_check_itself(app_connection):
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        app_connection.execute("select slipway.require_platform_key('a', 'b', null)")


# ---- The REST side ----


def test_it_makes_lists_and_ends_keys_over_rest(tenant, client):
    own = tenant_key(tenant)
    made = client.post(
        "/v1/keys",
        {"scopes": ["customers:read"], "name": "reports"},
        content_type="application/json",
        headers=bearer(own),
    )
    assert made.status_code == 201
    token, key_id = made.json()["key"], made.json()["id"]
    assert read_customers(client, token).status_code == 200
    listed = client.get("/v1/keys", headers=bearer(own)).json()["data"]
    assert {key["id"] for key in listed} >= {key_id}
    assert token not in str(listed)
    for _ in range(2):
        assert client.delete(f"/v1/keys/{key_id}", headers=bearer(own)).status_code == 204
    assert read_customers(client, token).status_code == 401


def test_a_key_makes_none_that_may_do_more(tenant, client, operator):
    own = tenant_key(tenant, "keys:write", "customers:read")
    refused = client.post(
        "/v1/keys",
        {"scopes": ["customers:read", "customers:write"]},
        content_type="application/json",
        headers=bearer(own),
    )
    assert refused.status_code == 400
    assert [error["pointer"] for error in refused.json()["errors"]] == ["/scopes/1"]
    assert operator.execute(
        "select count(*) from tenants_apikey where tenant_id = %s", [tenant.pk]
    ).fetchone() == (1,)


def test_it_refuses_bad_wishes_with_pointers(tenant, client):
    own = tenant_key(tenant)

    def pointers(body):
        answer = client.post("/v1/keys", body, content_type="application/json", headers=bearer(own))
        assert answer.status_code == 400
        return [error["pointer"] for error in answer.json()["errors"]]

    assert pointers({}) == ["/scopes"]
    assert pointers({"scopes": []}) == ["/scopes"]
    assert pointers({"scopes": ["tenants:read"]}) == ["/scopes/0"]
    past = {"scopes": ["keys:read"], "expires_at": "2001-01-01T00:00:00Z"}
    assert pointers(past) == ["/expires_at"]
    assert pointers({"scopes": ["keys:read"], "nonsense": 1}) == ["/nonsense"]


def test_a_tenant_neither_sees_nor_ends_anothers_keys(tenant, other_tenant, client, operator):
    own, theirs = tenant_key(tenant), tenant_key(other_tenant)
    (their_id,) = operator.execute(
        "select id from tenants_apikey where prefix = %s", [prefix_of(theirs)]
    ).fetchone()
    listed = client.get("/v1/keys", headers=bearer(own)).json()["data"]
    assert [key["prefix"] for key in listed] == [f"slw_{prefix_of(own)}"]
    refused = client.delete(f"/v1/keys/key_{their_id}", headers=bearer(own))
    assert refused.status_code == 404
    assert refused.json()["code"] == "key_not_found"
    assert read_customers(client, theirs).status_code == 200
    # The control: its own tenant ends it with the same call.
    assert client.delete(f"/v1/keys/key_{their_id}", headers=bearer(theirs)).status_code == 204


def test_it_needs_the_scope(tenant, client):
    reader = tenant_key(tenant, "keys:read")
    assert client.get("/v1/keys", headers=bearer(reader)).status_code == 200
    refused = client.post(
        "/v1/keys",
        {"scopes": ["keys:read"]},
        content_type="application/json",
        headers=bearer(reader),
    )
    assert refused.status_code == 403
    assert refused.json()["code"] == "missing_scope"


def test_a_key_remembers_who_made_it(tenant, client, operator):
    own = tenant_key(tenant)
    made = client.post(
        "/v1/keys",
        {"scopes": ["keys:read"]},
        content_type="application/json",
        headers=bearer(own),
    ).json()
    assert made["created_by"] == f"api_key:{prefix_of(own)}"
    assert ApiKey._meta.get_field("secret_hash").name not in made
