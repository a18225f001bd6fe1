"""Customers: the same API over both homes, and nobody else's rows."""

import pytest

from customers.models import Customer
from tenants.context import tenant_context
from tests.people import bearer, host_of, platform_key, tenant_key

ADA = {
    "external_id": "crm-1",
    "name": "Ada Lovelace",
    "phone": "+49 30 901820",
    "email": "Ada@Example.org",
    "attributes": {"city": "Berlin", "tags": ["vip"]},
    "lifetime_value": "1234.50",
    "last_purchase_at": "2026-01-02T03:04:05Z",
    "consent": "given",
}


class Api:
    """The customers API with one key."""

    def __init__(self, client, token):
        self.client, self.headers = client, bearer(token)

    def add(self, **fields):
        return self.client.post(
            "/v1/customers", fields, content_type="application/json", headers=self.headers
        )

    def list(self, query=""):
        return self.client.get(f"/v1/customers{query}", headers=self.headers)

    def get(self, id):
        return self.client.get(f"/v1/customers/{id}", headers=self.headers)

    def change(self, id, /, **fields):
        return self.client.patch(
            f"/v1/customers/{id}", fields, content_type="application/json", headers=self.headers
        )

    def delete(self, id):
        return self.client.delete(f"/v1/customers/{id}", headers=self.headers)


@pytest.fixture
def api(client, home):
    return Api(client, tenant_key(home))


def pointers(response):
    assert response.status_code == 400
    assert response.headers["Content-Type"] == "application/problem+json"
    return [error["pointer"] for error in response.json()["errors"]]


def test_it_adds_a_customer_and_gives_it_back(api):
    added = api.add(**ADA)
    assert added.status_code == 201
    body = added.json()
    assert added.headers["Location"] == f"/v1/customers/{body['id']}"
    assert body["id"].startswith("cus_")
    assert body["phone"] == "+4930901820"
    assert body["email"] == "ada@example.org"
    assert body["lifetime_value"] == "1234.50"
    assert body["attributes"] == ADA["attributes"]
    assert body["consent"] == "given"
    assert body["last_purchase_at"].startswith("2026-01-02T03:04:05")
    assert api.get(body["id"]).json() == api.list().json()["data"][0]
    assert api.get(body["id"]).json()["name"] == "Ada Lovelace"


def test_its_rows_are_where_the_tenant_lives(api, home, superuser):
    api.add(**ADA)
    assert home.search_schema == ("pool" if home.home == "pooled" else home.schema_name)
    (count,) = superuser.execute(
        f"select count(*) from {home.search_schema}.customers_customer where tenant_id = %s",
        [home.pk],
    ).fetchone()
    assert count == 1
    elsewhere = superuser.execute(
        "select count(*) from pool.customers_customer where tenant_id = %s", [home.pk]
    ).fetchone()
    assert elsewhere == ((1,) if home.home == "pooled" else (0,))


def test_what_is_left_out_has_a_default(api):
    body = api.add(name="Only a name").json()
    assert body["consent"] == "unknown"
    assert body["lifetime_value"] == "0.00"
    assert (body["external_id"], body["phone"], body["email"]) == (None, "", "")
    assert body["attributes"] == {}


def test_it_changes_the_named_fields_alone(api):
    before = api.add(**ADA).json()
    after = api.change(before["id"], consent="withdrawn", lifetime_value=99).json()
    assert (after["consent"], after["lifetime_value"]) == ("withdrawn", "99.00")
    assert after["updated_at"] > before["updated_at"]
    unchanged = before.keys() - {"consent", "lifetime_value", "updated_at"}
    assert {name: after[name] for name in unchanged} == {n: before[n] for n in unchanged}


def test_it_takes_an_external_id_away_with_null(api):
    customer = api.add(**ADA).json()
    assert api.change(customer["id"], external_id=None).json()["external_id"] is None
    assert api.add(**ADA).status_code == 201


def test_it_deletes(api, home, operator):
    customer = api.add(**ADA).json()
    assert api.delete(customer["id"]).status_code == 204
    assert api.get(customer["id"]).status_code == 404
    assert api.delete(customer["id"]).status_code == 404
    entry = operator.execute(
        "select target from tenants_auditentry"
        " where tenant_id = %s and action = 'customer.deleted'",
        [home.pk],
    ).fetchall()
    assert entry == [(f"customer:{customer['id'].removeprefix('cus_')}",)]


def test_an_external_id_is_unique_in_its_tenant(api, home):
    first = api.add(**ADA).json()
    again = api.add(external_id="crm-1", name="Another")
    assert (again.status_code, again.json()["code"]) == (409, "external_id_taken")
    assert [row["id"] for row in api.list().json()["data"]] == [first["id"]]
    second = api.add(external_id="crm-2").json()
    refused = api.change(second["id"], external_id="crm-1")
    assert refused.json()["code"] == "external_id_taken"
    assert api.get(second["id"]).json()["external_id"] == "crm-2"


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"phone": "030 901820"}, "/phone"),
        ({"phone": "call me"}, "/phone"),
        ({"phone": "+1"}, "/phone"),
        ({"phone": 49}, "/phone"),
        ({"email": "no address"}, "/email"),
        ({"email": "a" * 250 + "@example.org"}, "/email"),
        ({"name": "x" * 201}, "/name"),
        ({"name": "a\x00b"}, "/name"),
        ({"name": "A\u202eda"}, "/name"),
        ({"name": "A\u200bda"}, "/name"),
        ({"external_id": "c\u2066rm"}, "/external_id"),
        ({"email": "a" * 65 + "@example.org"}, "/email"),
        ({"external_id": ""}, "/external_id"),
        ({"external_id": "x" * 101}, "/external_id"),
        ({"lifetime_value": "NaN"}, "/lifetime_value"),
        ({"lifetime_value": "Infinity"}, "/lifetime_value"),
        ({"lifetime_value": "1e300"}, "/lifetime_value"),
        ({"lifetime_value": "1.001"}, "/lifetime_value"),
        ({"lifetime_value": "much"}, "/lifetime_value"),
        ({"last_purchase_at": "yesterday"}, "/last_purchase_at"),
        ({"last_purchase_at": "2026-01-01T00:00:00"}, "/last_purchase_at"),
        ({"last_purchase_at": "9999-12-31T23:59:59-12:00"}, "/last_purchase_at"),
        ({"last_purchase_at": "0001-01-01T00:00:00+12:00"}, "/last_purchase_at"),
        ({"consent": "maybe"}, "/consent"),
        ({"attributes": []}, "/attributes"),
        ({"attributes": {str(n): n for n in range(51)}}, "/attributes"),
        ({"attributes": {"a": "x" * 9000}}, "/attributes"),
        ({"attributes": {"x" * 65: 1}}, "/attributes"),
        ({"attributes": {"a": "b\x00"}}, "/attributes/a"),
        ({"attributes": {"a": [2**63]}}, "/attributes/a/0"),
        ({"attributes": {"a": -(10**30)}}, "/attributes/a"),
        ({"attributes": {"a": 1e300}}, "/attributes/a"),  # Postgres would give it back in digits.
        ({"tenant_id": 1}, "/tenant_id"),
        ({"id": "cus_x"}, "/id"),
    ],
)
def test_it_refuses_bad_fields_and_writes_nothing(client, tenant, fields, pointer):
    api = Api(client, tenant_key(tenant))
    assert pointers(api.add(**fields)) == [pointer]
    assert api.list().json()["data"] == []
    customer = api.add(**ADA).json()
    assert pointers(api.change(customer["id"], **fields)) == [pointer]
    assert api.get(customer["id"]).json() == customer


def test_it_names_every_bad_field_at_once(client, tenant):
    api = Api(client, tenant_key(tenant))
    found = pointers(api.add(phone="x", email="y", consent="z", lifetime_value="1.001", more=1))
    assert sorted(found) == ["/consent", "/email", "/lifetime_value", "/more", "/phone"]


def test_it_lists_newest_first_in_pages(api):
    ids = [api.add(name=f"Customer {n}").json()["id"] for n in range(5)]
    first = api.list("?limit=2").json()
    second = api.list(f"?limit=2&cursor={first['next_cursor']}").json()
    third = api.list(f"?limit=2&cursor={second['next_cursor']}").json()
    seen = [row["id"] for page in (first, second, third) for row in page["data"]]
    assert seen == ids[::-1]
    assert third["next_cursor"] is None


def test_it_filters(api):
    ada = api.add(**ADA).json()["id"]
    bob = api.add(
        name="Bob",
        phone="+442079460000",
        lifetime_value=5,
        last_purchase_at="2025-01-01T00:00:00Z",
    ).json()["id"]

    def found(query):
        return {row["id"] for row in api.list(f"?{query}").json()["data"]}

    assert found("external_id=crm-1") == {ada}
    assert found("email=ADA@example.org") == {ada}
    assert found("phone=%2B49%2030%20901820") == {ada}
    assert found("consent=unknown") == {bob}
    assert found("lifetime_value_min=5.01") == {ada}
    assert found("lifetime_value_max=5") == {bob}
    assert found("last_purchase_after=2026-01-01T00:00:00Z") == {ada}
    assert found("last_purchase_before=2026-01-01T00:00:00%2B00:00") == {bob}
    assert found("external_id=crm-1&consent=unknown") == set()


@pytest.mark.parametrize(
    "query",
    [
        "consent=maybe",
        "phone=123",
        "lifetime_value_min=NaN",
        "lifetime_value_min=1e999",
        "lifetime_value_max=x",
        "last_purchase_after=now",
        "last_purchase_after=2026-01-01T00:00:00",
        "external_id=%00",
        "tenant_id=1",
        "cursor=AAAA",
        "limit=1000",
    ],
)
def test_it_refuses_bad_parameters(client, tenant, query):
    refused = Api(client, tenant_key(tenant)).list(f"?{query}")
    assert (refused.status_code, refused.json()["code"]) == (400, "invalid_parameter")


@pytest.mark.parametrize(
    "bad",
    [
        "x",
        "cus_",
        "cus_x",
        "0e1f4a52-7a3e-4a53-9a64-5d0b3c1a9e11",
        "cus_0e1f4a52-7a3e-4a53-9a64-5d0b3c1a9e11",
    ],
)
def test_an_id_of_nothing_is_404(client, tenant, bad):
    api = Api(client, tenant_key(tenant))
    assert api.get(bad).status_code == 404
    assert api.change(bad, name="x").status_code == 404
    assert api.delete(bad).status_code == 404


def test_each_deed_needs_its_scope(client, tenant):
    reader = Api(client, tenant_key(tenant, "customers:read"))
    writer = Api(client, tenant_key(tenant, "customers:write"))
    customer = writer.add(**ADA).json()
    assert reader.get(customer["id"]).status_code == 200
    for refused in (
        writer.list(),
        writer.get(customer["id"]),
        reader.add(**ADA),
        reader.change(customer["id"], name="x"),
        reader.delete(customer["id"]),
    ):
        assert (refused.status_code, refused.json()["code"]) == (403, "missing_scope")
    assert reader.get(customer["id"]).json()["name"] == "Ada Lovelace"


# ---- Nobody else's rows ----


@pytest.fixture
def intruder(client, make_tenant):
    """A key of another tenant's, of the other home or the same."""
    return {kind: Api(client, tenant_key(make_tenant(kind))) for kind in ("pooled", "dedicated")}


@pytest.mark.parametrize("kind", ["pooled", "dedicated"])
def test_another_tenant_neither_sees_nor_touches_a_customer(api, intruder, kind):
    canary = api.add(**ADA).json()
    other = intruder[kind]
    assert other.list().json()["data"] == []
    assert other.list("?external_id=crm-1").json()["data"] == []
    assert other.get(canary["id"]).status_code == 404
    assert other.change(canary["id"], name="Stolen").status_code == 404
    assert other.delete(canary["id"]).status_code == 404
    # Not even whether it is there: the same id of its own is free.
    assert other.add(**ADA).status_code == 201
    assert api.get(canary["id"]).json() == canary  # The control.


def test_a_cursor_of_another_tenant_opens_nothing(client, tenant, other_tenant):
    ours, theirs = Api(client, tenant_key(tenant)), Api(client, tenant_key(other_tenant))
    for number in range(3):
        theirs.add(name=f"Theirs {number}")
    cursor = theirs.list("?limit=1").json()["next_cursor"]
    assert ours.list(f"?cursor={cursor}").json()["data"] == []
    assert len(theirs.list(f"?cursor={cursor}").json()["data"]) == 2


def test_the_platform_reads_the_customers_of_the_tenant_it_names(api, home, client):
    customer = api.add(**ADA).json()
    headers = bearer(platform_key(), **{"Slipway-Tenant": home.slug})
    listed = client.get("/v1/customers", headers=headers).json()["data"]
    assert [row["id"] for row in listed] == [customer["id"]]


def test_the_api_is_on_the_tenants_own_host_too(api, home, client):
    customer = api.add(**ADA).json()
    headers = api.headers | {"Host": host_of(home)}
    listed = client.get("/v1/customers", headers=headers).json()["data"]
    assert [row["id"] for row in listed] == [customer["id"]]


def test_a_forgotten_filter_shows_one_tenants_rows(home, other_tenant):
    """The code filters by nothing; the database does."""
    with tenant_context(home.ref):
        Customer.objects.create(name="Ours")
    with tenant_context(other_tenant.ref):
        Customer.objects.create(name="Theirs")
        assert [customer.name for customer in Customer.objects.all()] == ["Theirs"]
    with tenant_context(home.ref):
        assert [customer.name for customer in Customer.objects.all()] == ["Ours"]
