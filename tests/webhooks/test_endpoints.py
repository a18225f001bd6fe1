"""The API of endpoints: what is taken, what is refused, what is shown, and to whom."""

import base64
import json
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

import psycopg
import pytest
from django.db import connections

from tenants.context import PLATFORM, tenant_context
from tests.people import bearer, platform_key, tenant_key
from tests.tenants.test_isolation import enter
from webhooks import endpoints, secrets
from webhooks.errors import TooManyEndpoints
from webhooks.models import Endpoint

URL = "https://hooks.example.com/in"
OWN = "whsec_" + base64.b64encode(b"o" * 32).decode()


class Api:
    """The endpoints API with one key."""

    def __init__(self, client, token, *, root="/v1/endpoints", **headers):
        self.client, self.root = client, root
        self.headers = bearer(token, **headers)

    def send(self, method, path="", body=None):
        data = b"" if body is None else json.dumps(body)
        url = f"{self.root}{path}"
        kind = "application/json"
        return self.client.generic(method.upper(), url, data, kind, headers=self.headers)

    def add(self, **fields):
        return self.send("post", "", {"url": URL, **fields})

    def made(self, **fields):
        answer = self.add(**fields)
        assert answer.status_code == 201, answer.json()
        return answer.json()

    def get(self, id):
        return self.send("get", f"/{id}").json()

    def change(self, id, /, **fields):
        return self.send("patch", f"/{id}", fields)

    def listed(self, query=""):
        return self.send("get", query).json()["data"]


@pytest.fixture
def api(client, tenant):
    return Api(client, tenant_key(tenant))


def problem(answer, status=400):
    assert answer.status_code == status, answer.content
    assert answer.headers["Content-Type"] == "application/problem+json"
    return answer.json()


def pointers(answer):
    return [error["pointer"] for error in problem(answer)["errors"]]


def row(operator, id):
    """The endpoint's whole row, as text."""
    statement = "select to_jsonb(e)::text from webhooks_endpoint e where id = %s"
    return operator.execute(statement, [id.removeprefix("ep_")]).fetchone()[0]


def lane(operator, id):
    statement = 'select rate, "window", paused_until from jobs_lane where key = %s'
    return operator.execute(statement, [f"endpoint:{id.removeprefix('ep_')}"]).fetchone()


def audit(operator, id):
    statement = "select action, to_jsonb(a)::text from tenants_auditentry a where target = %s"
    return dict(operator.execute(statement, [id]).fetchall())


# ---- Making, reading, changing, deleting ----


def test_it_makes_an_endpoint_and_gives_it_back(api):
    answer = api.add(
        description="Billing",
        event_types=["invoice.paid", "customer.*"],
        headers={"X-Api-Key": "k-123"},
        rate=2.5,
        max_in_flight=4,
        timeout=20,
        schedule=[5, 60],
        ordered=True,
    )
    made = answer.json()
    assert answer.status_code == 201
    assert answer.headers["Location"] == f"/v1/endpoints/{made['id']}"
    assert made["id"].startswith("ep_")
    assert made["secret"].startswith("whsec_")
    found = api.get(made["id"])
    assert {name: found[name] for name in made if name != "secret"} == {
        name: value for name, value in made.items() if name != "secret"
    }
    assert found["url"] == URL
    assert found["event_types"] == ["invoice.paid", "customer.*"]
    assert (found["rate"], found["max_in_flight"], found["timeout"]) == (2.5, 4, 20)
    assert (found["schedule"], found["ordered"], found["disabled"]) == ([5, 60], True, False)
    assert found["health"]["state"] == "enabled"
    assert [row["id"] for row in api.listed()] == [made["id"]]


def test_what_is_left_out_is_slipways_default(api):
    made = api.made()
    assert made["event_types"] == []
    assert (made["rate"], made["max_in_flight"]) == (None, None)
    assert (made["timeout"], made["schedule"], made["ordered"]) == (None, None, False)


def test_a_rate_may_be_so_many_in_so_many_seconds(api):
    assert api.made(rate={"count": 10, "per_seconds": 60})["rate"] == pytest.approx(1 / 6)


def test_it_changes_the_named_fields_and_no_others(api):
    made = api.made(description="Old", rate=1)
    changed = api.change(made["id"], description="New", rate=None).json()
    assert (changed["description"], changed["rate"]) == ("New", None)
    assert changed["url"] == URL
    assert changed["updated_at"] > made["updated_at"]


def test_the_lane_says_what_the_endpoint_says(api, operator):
    made = api.made(rate=3, max_in_flight=7)
    assert lane(operator, made["id"]) == (3.0, 7, None)
    api.change(made["id"], rate=None, max_in_flight=2)
    assert lane(operator, made["id"]) == (None, 2, None)


def test_an_endpoint_with_nothing_to_say_has_no_lane_row(api, operator):
    assert lane(operator, api.made()["id"]) is None


def test_a_deleted_endpoint_is_gone_and_its_secrets_with_it(api, operator):
    made = api.made(headers={"X-Api-Key": "k"})
    assert api.send("delete", f"/{made['id']}?reason=moved").status_code == 204
    assert api.listed() == []
    for method, path in [
        ("get", ""),
        ("delete", ""),
        ("post", "/test"),
        ("post", "/enable"),
        ("post", "/disable"),
        ("post", "/secret/rotate"),
    ]:
        refused = api.send(method, f"/{made['id']}{path}")
        assert problem(refused, 404)["code"] == "endpoint_not_found"
    kept = json.loads(row(operator, made["id"]))
    assert (kept["secrets"], kept["custom_headers"]) == ([], "")
    assert "moved" in audit(operator, made["id"])["endpoint.deleted"]


@pytest.mark.parametrize("bad", ["x", "ep_", "ep_x", "ep_0e1f4a52-7a3e-4a53-9a64-5d0b3c1a9e11"])
def test_an_id_of_nothing_is_404(api, bad):
    assert api.send("get", f"/{bad}").status_code == 404
    assert api.change(bad, description="x").status_code == 404
    assert api.send("delete", f"/{bad}").status_code == 404


def test_it_lists_newest_first_in_pages_and_filters(api):
    ids = [api.made(event_types=types)["id"] for types in ([], ["a.b"], ["a.*"], ["c.d"])]
    api.send("post", f"/{ids[0]}/disable")
    first = api.send("get", "?limit=3").json()
    second = api.send("get", f"?limit=3&cursor={first['next_cursor']}").json()
    assert [one["id"] for one in first["data"] + second["data"]] == ids[::-1]

    def found(query):
        return {one["id"] for one in api.listed(f"?{query}")}

    assert found("disabled=true") == {ids[0]}
    assert found("disabled=false") == set(ids[1:])
    assert found("event_type=a.b") == set(ids[:3])
    assert found("event_type=a.b.c") == {ids[0], ids[2]}
    assert found("event_type=c.d&disabled=false") == {ids[3]}


@pytest.mark.parametrize("query", ["disabled=maybe", "event_type=", "url=x", "limit=0"])
def test_it_refuses_bad_parameters(api, query):
    assert problem(api.send("get", f"?{query}"))["code"] == "invalid_parameter"


# ---- What is refused ----

BAD = [
    ({"url": "http://hooks.example.com/"}, "/url"),
    ({"url": "https://127.0.0.1/"}, "/url"),
    ({"url": "https://10.0.0.1/"}, "/url"),
    ({"url": "https://[::ffff:127.0.0.1]/"}, "/url"),
    ({"url": "https://169.254.169.254/latest"}, "/url"),
    ({"url": "https://localhost/"}, "/url"),
    ({"url": "https://user:pass@example.com/"}, "/url"),
    ({"url": "https://example.com:22/"}, "/url"),
    ({"url": "https://example.com/" + "x" * 2048}, "/url"),
    ({"url": "nonsense"}, "/url"),
    ({"url": None}, "/url"),
    ({"description": "x" * 201}, "/description"),
    ({"description": "a\u202eb"}, "/description"),
    ({"event_types": ["*"]}, "/event_types/0"),
    ({"event_types": ["a.b", "a b"]}, "/event_types/1"),
    ({"event_types": ["a.*.b"]}, "/event_types/0"),
    ({"event_types": "a.b"}, "/event_types"),
    ({"headers": {"Host": "x"}}, "/headers/Host"),
    ({"headers": {"content-LENGTH": "1"}}, "/headers/content-LENGTH"),
    ({"headers": {"Transfer-Encoding": "chunked"}}, "/headers/Transfer-Encoding"),
    ({"headers": {"Connection": "close"}}, "/headers/Connection"),
    ({"headers": {"User-Agent": "x"}}, "/headers/User-Agent"),
    ({"headers": {"Webhook-Signature": "v1,x"}}, "/headers/Webhook-Signature"),
    ({"headers": {"webhook-anything": "x"}}, "/headers/webhook-anything"),
    ({"headers": {"X A": "x"}}, "/headers/X A"),
    ({"headers": {"X-A": "a\r\nX-B: b"}}, "/headers/X-A"),
    ({"headers": {"X-A": "ä"}}, "/headers/X-A"),
    ({"headers": {"X-A": ""}}, "/headers/X-A"),
    ({"headers": {"X-A": " a"}}, "/headers/X-A"),
    ({"headers": {"X-A": "x" * 1001}}, "/headers/X-A"),
    ({"headers": {"X-A": "1", "x-a": "2"}}, "/headers/x-a"),
    ({"headers": {f"X-{n}": "1" for n in range(21)}}, "/headers"),
    ({"rate": 0}, "/rate"),
    ({"rate": -1.5}, "/rate"),
    ({"rate": 10_001}, "/rate"),
    ({"rate": {"count": 0}}, "/rate/count"),
    ({"rate": {"count": 1, "per_seconds": 3601}}, "/rate/per_seconds"),
    ({"max_in_flight": 0}, "/max_in_flight"),
    ({"max_in_flight": 101}, "/max_in_flight"),
    ({"timeout": 0.5}, "/timeout"),
    ({"timeout": 31}, "/timeout"),
    ({"schedule": [86401]}, "/schedule/0"),
    ({"schedule": [-1]}, "/schedule/0"),
    ({"schedule": [1] * 21}, "/schedule"),
    ({"schedule": [86400] * 8}, "/schedule"),
    ({"ordered": "yes"}, "/ordered"),
    ({"tenant_id": 1}, "/tenant_id"),
]


@pytest.mark.parametrize(("fields", "pointer"), BAD)
def test_it_refuses_bad_fields_and_writes_nothing(api, fields, pointer):
    assert pointers(api.add(**fields)) == [pointer]
    assert api.listed() == []
    made = api.made(description="As it was")
    before = api.get(made["id"])
    assert pointers(api.change(made["id"], **fields)) == [pointer]
    assert api.get(made["id"]) == before


@pytest.mark.parametrize(
    "secret", ["x", "whsec_", "whsec_!!!!", OWN.removeprefix("whsec_"), "whsec_" + "QUFB" * 2]
)
def test_it_refuses_a_secret_that_is_none(api, secret):
    assert pointers(api.add(secret=secret)) == ["/secret"]
    made = api.made()
    refused = api.send("post", f"/{made['id']}/secret/rotate", {"secret": secret})
    assert pointers(refused) == ["/secret"]


def test_a_mask_that_is_sent_back_changes_no_header(api):
    made = api.made(headers={"X-Api-Key": "k-123"})
    assert pointers(api.change(made["id"], headers=made["headers"])) == ["/headers/X-Api-Key"]


def test_there_are_so_many_endpoints_and_no_more(api, settings):
    limits = settings.SLIPWAY["TENANT_LIMITS"] | {"endpoints": 2}
    settings.SLIPWAY = settings.SLIPWAY | {"TENANT_LIMITS": limits}
    first, _ = api.made(), api.made()
    refused = problem(api.add(), 409)
    assert (refused["code"], refused["limit"]) == ("too_many_endpoints", 2)
    assert len(api.listed()) == 2
    api.send("delete", f"/{first['id']}")
    api.made()


def test_a_plan_may_allow_another_number(api, settings):
    plans = settings.SLIPWAY["PLANS"]
    free = plans["free"] | {"limits": {"endpoints": 1}}
    settings.SLIPWAY = settings.SLIPWAY | {"PLANS": plans | {"free": free}}
    api.made()
    assert problem(api.add(), 409)["limit"] == 1


def test_two_at_once_do_not_overstep_the_limit(client, tenant, settings):
    limits = settings.SLIPWAY["TENANT_LIMITS"] | {"endpoints": 1}
    settings.SLIPWAY = settings.SLIPWAY | {"TENANT_LIMITS": limits}
    fields = {"url": URL, "event_types": []}

    def make(_):
        try:
            return endpoints.create(tenant=tenant.ref, fields=fields, actor="system:test")
        except TooManyEndpoints:
            return None
        finally:
            connections.close_all()

    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(make, range(8)))
    assert len([one for one in made if one]) == 1


def test_types_outside_the_catalogue_are_refused_where_only_it_counts(api, settings):
    assert api.made(event_types=["no.such", "tenant.ready"])
    webhooks = settings.SLIPWAY["WEBHOOKS"] | {"catalogue_only": True}
    settings.SLIPWAY = settings.SLIPWAY | {"WEBHOOKS": webhooks}
    assert pointers(api.add(event_types=["tenant.ready", "no.such"])) == ["/event_types/1"]
    assert api.made(event_types=["tenant.ready", "no.*"])


def test_each_deed_needs_its_scope(client, tenant):
    reader = Api(client, tenant_key(tenant, "endpoints:read"))
    writer = Api(client, tenant_key(tenant, "endpoints:write"))
    id = writer.made()["id"]
    assert reader.send("get", f"/{id}").status_code == 200
    for refused in (
        writer.send("get"),
        writer.send("get", f"/{id}"),
        reader.add(),
        reader.change(id, description="x"),
        reader.send("delete", f"/{id}"),
        reader.send("post", f"/{id}/test"),
        reader.send("post", f"/{id}/enable"),
        reader.send("post", f"/{id}/disable"),
        reader.send("post", f"/{id}/secret/rotate"),
    ):
        assert problem(refused, 403)["code"] == "missing_scope"


# ---- Secrets and headers ----


def test_a_secret_is_shown_once_and_stored_nowhere_in_plain(api, operator, capsys):
    made = api.made(headers={"X-Api-Key": "k-123-secret"})
    rotated = api.send("post", f"/{made['id']}/secret/rotate").json()
    assert made["secret"] != rotated["secret"]
    shown = json.dumps([api.get(made["id"]), api.listed()])
    stored = row(operator, made["id"]) + json.dumps(audit(operator, made["id"]))
    logged = "".join(capsys.readouterr())
    for secret in (made["secret"], rotated["secret"], "k-123-secret"):
        for place in (shown, stored, logged):
            assert secret.removeprefix("whsec_") not in place
    assert api.get(made["id"])["headers"] == {"X-Api-Key": "••••••••"}


def test_a_secret_of_ones_own_is_taken(api, operator):
    made = api.made(secret=OWN)
    assert made["secret"] == OWN
    (kept,) = json.loads(row(operator, made["id"]))["secrets"]
    assert secrets.decrypt(kept["secret"]) == OWN


def test_headers_are_merged_and_null_takes_one_away(api):
    made = api.made(headers={"X-A": "1", "X-B": "2"})
    changed = api.change(made["id"], headers={"x-a": None, "X-C": "3"}).json()
    assert set(changed["headers"]) == {"X-B", "X-C"}
    many = {f"X-{n}": "1" for n in range(20)}
    assert problem(api.change(made["id"], headers=many), 409)["code"] == "too_many_headers"
    assert set(api.get(made["id"])["headers"]) == {"X-B", "X-C"}


def test_rotation_keeps_the_old_secret_for_the_overlap(api, operator):
    made = api.made()
    rotated = api.send("post", f"/{made['id']}/secret/rotate", {"overlap_seconds": 60}).json()
    newest, old = rotated["secrets"]
    assert newest["expires_at"] is None
    assert old["expires_at"] > old["made_at"]
    kept = json.loads(row(operator, made["id"]))["secrets"]
    plain = [secrets.decrypt(one["secret"]) for one in kept]
    assert plain == [rotated["secret"], made["secret"]]


def test_where_nothing_is_said_the_old_secret_signs_for_a_day(api):
    made = api.made()
    rotated = api.send("post", f"/{made['id']}/secret/rotate").json()
    newest, old = rotated["secrets"]
    ends, begins = (datetime.fromisoformat(at) for at in (old["expires_at"], newest["made_at"]))
    assert abs(ends - begins - timedelta(days=1)) < timedelta(seconds=5)


def test_rotation_without_overlap_ends_every_old_secret(api):
    made = api.made()
    api.send("post", f"/{made['id']}/secret/rotate", {"overlap_seconds": 600})
    at_once = api.send("post", f"/{made['id']}/secret/rotate", {"overlap_seconds": 0}).json()
    assert len(at_once["secrets"]) == 1


def test_a_rotation_never_lengthens_an_overlap(api):
    made = api.made()
    path = f"/{made['id']}/secret/rotate"
    first = api.send("post", path, {"overlap_seconds": 60}).json()["secrets"][1]
    second = api.send("post", path, {"overlap_seconds": 86400}).json()["secrets"]
    assert second[2]["expires_at"] == first["expires_at"]


def test_ten_old_secrets_are_kept_and_no_more(api):
    made = api.made()
    for _ in range(10):
        assert api.send("post", f"/{made['id']}/secret/rotate").status_code == 200
    refused = problem(api.send("post", f"/{made['id']}/secret/rotate"), 409)
    assert refused["code"] == "too_many_secrets"
    assert len(api.get(made["id"])["secrets"]) == 11


def test_the_same_secret_again_is_no_rotation(api):
    made = api.made(secret=OWN)
    refused = api.send("post", f"/{made['id']}/secret/rotate", {"secret": OWN})
    assert problem(refused, 409)["code"] == "secret_in_use"


@pytest.mark.parametrize("overlap", [-1, 7 * 86400 + 1, "1 d"])
def test_an_overlap_is_at_most_a_week(api, overlap):
    made = api.made()
    refused = api.send("post", f"/{made['id']}/secret/rotate", {"overlap_seconds": overlap})
    assert pointers(refused) == ["/overlap_seconds"]


# ---- Whose they are ----


def test_another_tenant_neither_sees_nor_touches_an_endpoint(api, client, other_tenant):
    made = api.made()
    before = api.get(made["id"])
    other = Api(client, tenant_key(other_tenant))
    assert other.listed() == []
    for method, path, body in [
        ("get", "", None),
        ("patch", "", {"url": "https://evil.example.com/"}),
        ("delete", "", None),
        ("post", "/test", None),
        ("post", "/disable", None),
        ("post", "/enable", None),
        ("post", "/secret/rotate", None),
    ]:
        assert other.send(method, f"/{made['id']}{path}", body).status_code == 404
    assert api.get(made["id"]) == before


def test_the_platforms_endpoints_are_its_own(api, client, tenant):
    token = platform_key()
    platform = Api(client, token, root="/v1/platform/endpoints")
    made = platform.made(event_types=["tenant.*"])
    try:
        ours = api.made()["id"]
        assert made["id"] in {one["id"] for one in platform.listed()}
        assert ours not in {one["id"] for one in platform.listed()}
        assert [one["id"] for one in api.listed()] == [ours]
        assert api.send("get", f"/{made['id']}").status_code == 404
        # With a tenant named the platform sees that tenant's, and its own under /v1/platform/.
        acting = Api(client, token, **{"Slipway-Tenant": tenant.slug})
        assert [one["id"] for one in acting.listed()] == [ours]
        refused = Api(client, tenant_key(tenant), root="/v1/platform/endpoints")
        assert problem(refused.send("get"), 403)["code"] == "wrong_key_kind"
        assert problem(refused.add(), 403)["code"] == "wrong_key_kind"
    finally:
        platform.send("delete", f"/{made['id']}")


def test_a_platform_key_without_a_tenant_is_told_so(client):
    refused = Api(client, platform_key()).send("get")
    assert problem(refused)["code"] == "tenant_not_named"


@pytest.mark.parametrize(
    "attack",
    [
        "select url from webhooks_endpoint where id = %(id)s",
        "select secrets from webhooks_endpoint where tenant_id <> slipway.current_tenant_id()",
        "update webhooks_endpoint set url = 'https://evil.example/' where id = %(id)s returning 1",
        "update jobs_lane set failing_since = null where key = %(lane)s returning 1",
        "update webhooks_delivery set host = 'evil:443', seq = 1 where endpoint_id = %(id)s"
        " returning 1",
    ],
)
def test_injected_sql_reaches_no_others_endpoint(
    client, tenant, other_tenant, app_connection, operator, attack
):
    theirs = Api(client, tenant_key(other_tenant)).made(rate=1)
    Api(client, tenant_key(other_tenant)).send("post", f"/{theirs['id']}/test")
    with tenant_context(PLATFORM):
        assert not Endpoint.objects.filter(pk=theirs["id"].removeprefix("ep_")).exists()
    id = theirs["id"].removeprefix("ep_")
    before = row(operator, theirs["id"]), lane(operator, theirs["id"])
    enter(app_connection, tenant)
    values = {"id": id, "lane": f"endpoint:{id}"}
    assert app_connection.execute(attack, values).fetchall() == []
    assert (row(operator, theirs["id"]), lane(operator, theirs["id"])) == before
    enter(app_connection, other_tenant)  # The control: the statement finds something there.
    if "current_tenant_id" not in attack:
        assert app_connection.execute(attack, values).fetchall() != []


def test_injected_sql_moves_no_delivery_to_another_endpoint(tenant, app_connection):
    enter(app_connection, tenant)
    for column in ("endpoint_id", "event_id", "tenant_id", "lease", "drainer", "lane"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            app_connection.execute(f"update webhooks_delivery set {column} = null")
