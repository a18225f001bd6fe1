"""What the platform's back ends see and do across tenants."""

import threading

import pytest
from django.db import ProgrammingError, connections, transaction
from django.test.utils import CaptureQueriesContext

from customers.currency import currency
from tenants import keys, problems, services
from tenants.context import tenant_context
from tests.people import (
    APEX,
    Browser,
    bearer,
    host_of,
    make_user,
    platform_key,
    prefix_of,
    tenant_key,
)


@pytest.fixture
def platform():
    return platform_key()


def get(client, token, path, **headers):
    return client.get(path, headers=bearer(token, **headers))


def post(client, token, path, body=None):
    return client.post(
        path,
        {"reason": "Unpaid since May."} if body is None else body,
        content_type="application/json",
        headers=bearer(token),
    )


def status_of(tenant, operator):
    return operator.execute(
        "select status from tenants_tenant where id = %s", [tenant.pk]
    ).fetchone()[0]


def entries_of(tenant, operator):
    return operator.execute(
        "select action, actor, reason, before, after from tenants_auditentry"
        " where tenant_id = %s and action like 'tenant.%%' order by at",
        [tenant.pk],
    ).fetchall()


@pytest.mark.parametrize("reference", ["slug", "id"])
def test_it_reads_one_tenant_by_id_or_slug(client, platform, tenant, reference):
    name = tenant.slug if reference == "slug" else f"tnt_{tenant.uuid}"
    body = get(client, platform, f"/v1/tenants/{name}").json()
    assert body["id"] == f"tnt_{tenant.uuid}"
    assert body["slug"] == tenant.slug
    assert body["status"] == "active"
    assert body["url"] == f"http://{host_of(tenant)}:8000/"
    assert str(tenant.pk) not in {str(value) for value in body.values()}


@pytest.mark.parametrize(
    "name", ["nobody", "tnt_x", "tnt_0e1f4a52-7a3e-4a53-9a64-5d0b3c1a9e11", "%00", "a" * 300]
)
def test_it_knows_no_tenant_that_is_not_there(client, platform, name):
    assert get(client, platform, f"/v1/tenants/{name}").status_code == 404


def test_it_lists_every_tenant_newest_first_page_by_page(client, platform, make_tenant):
    made = [make_tenant() for _ in range(5)]
    seen, cursor = [], ""
    for _ in range(200):
        page = get(client, platform, f"/v1/tenants?limit=2{cursor}").json()
        assert len(page["data"]) <= 2
        seen += [tenant["slug"] for tenant in page["data"]]
        if page["next_cursor"] is None or {t.slug for t in made} <= set(seen):
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert [slug for slug in seen if slug in {t.slug for t in made}] == [
        tenant.slug for tenant in reversed(made)
    ]
    assert len(seen) == len(set(seen))


def test_it_filters(client, platform, make_tenant, operator):
    wanted, other = make_tenant(status="suspended"), make_tenant()
    operator.execute("update tenants_tenant set external_id = 'crm-77' where id = %s", [wanted.pk])

    def slugs(query):
        return {t["slug"] for t in get(client, platform, f"/v1/tenants?{query}").json()["data"]}

    assert slugs("external_id=crm-77") == {wanted.slug}
    assert wanted.slug in slugs("status=suspended&limit=100")
    assert other.slug not in slugs("status=suspended&limit=100")
    assert slugs("external_id=crm-77&status=active") == set()
    assert slugs("plan=none") == set()


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=101",
        "limit=x",
        "limit=-1",
        "limit=²",
        "external_id=%00",
        "cursor=!!",
        "cursor=eHg",
        "cursor=LTU",  # -5
        "cursor=MV8w",  # 1_0
        "cursor=OTk5OTk5OTk5OTk5OTk5OTk5OTk5",  # More than a bigint.
        "q=1",
    ],
)
def test_it_refuses_a_bad_parameter(client, platform, query):
    refused = get(client, platform, f"/v1/tenants?{query}")
    assert refused.status_code == 400
    assert refused.json()["code"] == "invalid_parameter"


def test_it_suspends_and_reopens_with_a_reason_in_the_audit_trail(
    client, platform, tenant, operator
):
    owner_key, page = tenant_key(tenant), Browser(host_of(tenant))
    assert page.get("/").status_code == 200
    assert get(client, owner_key, "/v1/customers").status_code == 200

    suspended = post(client, platform, f"/v1/tenants/{tenant.slug}/suspend")
    assert suspended.status_code == 200
    assert suspended.json()["status"] == "suspended"
    assert suspended.json()["suspended_at"] is not None
    # At once, in this process; its memory of hosts and keys is emptied.
    assert page.get("/").status_code == 403
    assert get(client, owner_key, "/v1/customers").status_code == 403

    reopened = post(client, platform, f"/v1/tenants/{tenant.slug}/reopen", {"reason": "Paid."})
    assert reopened.json()["status"] == "active"
    assert reopened.json()["suspended_at"] is None
    assert page.get("/").status_code == 200
    assert get(client, owner_key, "/v1/customers").status_code == 200

    actor = f"platform_key:{prefix_of(platform)}"
    assert entries_of(tenant, operator) == [
        (
            "tenant.suspended",
            actor,
            "Unpaid since May.",
            {"status": "active"},
            {"status": "suspended"},
        ),
        ("tenant.reopened", actor, "Paid.", {"status": "suspended"}, {"status": "active"}),
    ]


def test_doing_it_again_changes_nothing(client, platform, tenant, operator):
    for _ in range(3):
        answer = post(client, platform, f"/v1/tenants/{tenant.slug}/suspend")
        assert (answer.status_code, answer.json()["status"]) == (200, "suspended")
    assert len(entries_of(tenant, operator)) == 1


def test_of_eight_who_suspend_at_once_one_is_written_down(tenant, operator):
    start, changed = threading.Barrier(8), []

    def suspend():
        start.wait()
        try:
            changed.append(
                services.suspend(tenant_id=tenant.pk, actor="operator:1", reason="Race.")
            )
        finally:
            connections.close_all()

    threads = [threading.Thread(target=suspend) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(changed) == [False] * 7 + [True]
    assert len(entries_of(tenant, operator)) == 1


@pytest.mark.parametrize("status", ["provisioning", "closing", "closed"])
@pytest.mark.parametrize("act", ["suspend", "reopen"])
def test_it_moves_no_tenant_out_of_another_state(
    client, platform, make_tenant, operator, status, act
):
    tenant = make_tenant(status=status)
    refused = post(client, platform, f"/v1/tenants/{tenant.slug}/{act}")
    assert (refused.status_code, refused.json()["code"]) == (409, "stale_state")
    assert status_of(tenant, operator) == status
    assert entries_of(tenant, operator) == []


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/reason"),
        ({"reason": ""}, "/reason"),
        ({"reason": 7}, "/reason"),
        ({"reason": "x" * 501}, "/reason"),
        ({"reason": "    "}, "/reason"),
        ({"reason": " a \u3000"}, "/reason"),
        ({"reason": "Un\u202epaid."}, "/reason"),
        ({"reason": "a\x00b c"}, "/reason"),
        ({"reason": "Unpaid.", "force": True}, "/force"),
    ],
)
def test_it_needs_a_reason(client, platform, tenant, operator, body, pointer):
    refused = post(client, platform, f"/v1/tenants/{tenant.slug}/suspend", body)
    assert refused.status_code == 400
    assert [error["pointer"] for error in refused.json()["errors"]] == [pointer]
    assert status_of(tenant, operator) == "active"


def test_operators_move_tenants_through_the_same_service(tenant, operator):
    assert services.suspend(tenant_id=tenant.pk, actor="operator:1", reason="Asked by phone.")
    assert status_of(tenant, operator) == "suspended"
    assert services.reopen(tenant_id=tenant.pk, actor="operator:1", reason="Settled.")
    assert status_of(tenant, operator) == "active"
    with pytest.raises(problems.TenantNotFound):
        services.suspend(tenant_id=2**40, actor="operator:1", reason="Nobody.")


# ---- Who may not ----

CALLS = [
    ("get", "/v1/tenants"),
    ("get", "/v1/tenants/{slug}"),
    ("post", "/v1/tenants/{slug}/suspend"),
    ("post", "/v1/tenants/{slug}/reopen"),
    ("get", "/v1/audit"),
]


@pytest.mark.parametrize(("method", "path"), CALLS)
def test_nobody_but_the_platform_may(
    client, platform, tenant, other_tenant, method, path, operator
):
    path = path.format(slug=other_tenant.slug)
    call = {"get": get, "post": post}[method]
    assert call(client, tenant_key(tenant), path).status_code == 403
    assert call(client, platform_key("customers:read"), path).status_code == 403
    stranger = getattr(client, method)(
        path, content_type="application/json", headers={"Host": APEX}
    )
    assert stranger.status_code == 401
    assert status_of(other_tenant, operator) == "active"
    assert call(client, platform, path).status_code == 200  # The control.


def test_an_owners_session_is_no_key(tenant):
    browser = Browser(host_of(tenant))
    browser.login(make_user(tenant))
    assert browser.get("/v1/customers").status_code == 401
    assert browser.get("/v1/keys").status_code == 401


def test_it_reads_the_audit_trail_of_all_tenants_or_of_one(client, platform, tenant, other_tenant):
    for each in (tenant, other_tenant):
        post(client, platform, f"/v1/tenants/{each.slug}/suspend")

    def suspended(**headers):
        entries = get(client, platform, "/v1/audit?limit=20", **headers).json()["data"]
        return [e["target"] for e in entries if e["action"] == "tenant.suspended"]

    assert {f"tnt_{tenant.uuid}", f"tnt_{other_tenant.uuid}"} <= set(suspended())
    assert suspended(**{"Slipway-Tenant": tenant.slug}) == [f"tnt_{tenant.uuid}"]


def test_the_audit_trail_says_whose_tenant_and_from_where(client, platform, tenant):
    client.post(
        f"/v1/tenants/{tenant.slug}/suspend", {"reason": "  Unpaid.  "},
        content_type="application/json", headers=bearer(platform, **{"X-Request-ID": "abc-1"}),
        REMOTE_ADDR="203.0.113.77",
    )  # fmt: skip
    [entry] = get(client, platform, "/v1/audit", **{"Slipway-Tenant": tenant.slug}).json()["data"]
    assert entry["tenant"] == entry["target"] == f"tnt_{tenant.uuid}"
    assert (entry["address"], entry["request_id"]) == ("203.0.113.77", "abc-1")
    assert entry["reason"] == "Unpaid."
    assert str(tenant.pk) not in {str(value) for value in entry.values()}


def test_what_no_request_did_has_no_address(client, platform, tenant):
    services.suspend(tenant_id=tenant.pk, actor="operator:1", reason="Asked by phone.")
    [entry] = get(client, platform, "/v1/audit", **{"Slipway-Tenant": tenant.slug}).json()["data"]
    assert entry["address"] is None


@pytest.mark.parametrize("address", ["fe80::1%eth0", "::ffff:203.0.113.9", ""])
def test_an_odd_address_does_not_stop_the_deed(client, platform, tenant, operator, address):
    moved = client.post(
        f"/v1/tenants/{tenant.slug}/suspend", {"reason": "Unpaid."},
        content_type="application/json", headers=bearer(platform), REMOTE_ADDR=address,
    )  # fmt: skip
    assert moved.status_code == 200
    assert len(entries_of(tenant, operator)) == 1


def test_the_audit_trail_has_pages(client, platform, tenant):
    for act in ("suspend", "reopen") * 2:
        post(client, platform, f"/v1/tenants/{tenant.slug}/{act}")
    named = {"Slipway-Tenant": tenant.slug}
    first = get(client, platform, "/v1/audit?limit=3", **named).json()
    rest = get(client, platform, f"/v1/audit?limit=3&cursor={first['next_cursor']}", **named).json()
    actions = [entry["action"] for entry in first["data"] + rest["data"]]
    assert actions == ["tenant.reopened", "tenant.suspended"] * 2
    assert rest["next_cursor"] is None


def test_it_serves_the_platform_without_the_operators_login(platform, tenant, monkeypatch):
    """A web process that cannot bypass RLS lists, suspends and reopens all the same."""
    import subprocess
    import sys

    from tests.conftest import ROOT, child_environment

    script = f"""
import django; django.setup()
from django.conf import settings
from django.test import Client
assert set(settings.DATABASES) == {{"default"}}, settings.DATABASES
client, headers = Client(), {{"Authorization": "Bearer {platform}", "Host": "{APEX}"}}
print(client.get("/v1/tenants/{tenant.slug}", headers=headers).status_code)
print(client.post("/v1/tenants/{tenant.slug}/suspend", {{"reason": "Test."}},
                  content_type="application/json", headers=headers).json()["status"])
print(client.get("/v1/tenants", headers=headers).status_code)
print(client.get("/console/", headers=headers).status_code)
"""
    environment = child_environment()
    for name in ("OPERATOR_DATABASE_URL", "OWNER_DATABASE_URL"):
        environment.pop(name, None)
    shown = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert shown.stdout.split() == ["200", "suspended", "200", "404"], shown.stderr[-2000:]


# ---- Limits ----


def limit(client, token, tenant, **limits):
    return client.patch(
        f"/v1/tenants/{tenant.slug}",
        {"limits": limits, "reason": "They asked."},
        content_type="application/json",
        headers=bearer(token),
    )


def test_it_sets_a_tenants_limits_and_takes_them_away(client, platform, tenant, operator):
    plans = get(client, platform, f"/v1/tenants/{tenant.slug}").json()["limits"]
    assert plans == {"endpoints": 50, "events": [6000, 60]}
    given = limit(client, platform, tenant, events=[5, 10])
    assert given.json()["limits"] == {"endpoints": 50, "events": [5, 10]}
    assert limit(client, platform, tenant, endpoints=3).json()["limits"]["events"] == [5, 10]
    assert limit(client, platform, tenant, events=None, endpoints=None).json()["limits"] == plans
    actions = [entry[0] for entry in entries_of(tenant, operator)]
    assert actions == ["tenant.limited"] * 3
    assert entries_of(tenant, operator)[0][1:] == (
        f"platform_key:{prefix_of(platform)}",
        "They asked.",
        {"limits": {}},
        {"limits": {"events": [5, 10]}},
    )


def test_it_writes_no_entry_when_nothing_changes(client, platform, tenant, operator):
    assert limit(client, platform, tenant).status_code == 200
    assert limit(client, platform, tenant, events=None).status_code == 200
    assert entries_of(tenant, operator) == []


@pytest.mark.parametrize(
    ("limits", "pointer"),
    [
        ({"events": [5]}, "/limits/events"),
        ({"events": [-1, 60]}, "/limits/events/0"),
        ({"events": [5, 0]}, "/limits/events/1"),
        ({"endpoints": "many"}, "/limits/endpoints"),
        ({"seats": 3}, "/limits"),
    ],
)
def test_it_refuses_limits_that_are_none(client, platform, tenant, operator, limits, pointer):
    refused = limit(client, platform, tenant, **limits)
    assert refused.status_code == 400
    assert [error["pointer"] for error in refused.json()["errors"]] == [pointer]
    assert entries_of(tenant, operator) == []


def test_a_tenant_sets_no_limits_of_its_own(client, tenant, operator):
    assert limit(client, tenant_key(tenant), tenant, endpoints=999).status_code == 403
    assert limit(client, platform_key("tenants:read"), tenant, endpoints=999).status_code == 403
    kept = operator.execute("select limits from tenants_tenant where id = %s", [tenant.pk])
    assert kept.fetchone() == ({},)


@pytest.mark.parametrize(
    "attack",
    [
        "update tenants_tenant set limits = '{\"endpoints\": 999}' where id = %s",
        "select slipway.platform_limit_tenant('aaaaaaaaaaaa', '\\x00', %s, '{\"endpoints\": 9}')",
    ],
)
@pytest.mark.other_guard
def test_injected_sql_sets_no_limits(tenant, operator, attack):
    with tenant_context(tenant.ref), pytest.raises(ProgrammingError), transaction.atomic():
        connections["default"].cursor().execute(attack, [tenant.pk])
    kept = operator.execute("select limits from tenants_tenant where id = %s", [tenant.pk])
    assert kept.fetchone() == ({},)


def test_limits_come_with_the_key(client, platform, tenant):
    token = tenant_key(tenant)
    limit(client, platform, tenant, endpoints=7)
    with CaptureQueriesContext(connections["default"]) as asked:
        known = keys.recognise(token)
    asked = [query["sql"] for query in asked if "enter_tenant" not in query["sql"]]
    assert len(asked) == 1
    assert known.tenant.allowance("endpoints") == 7
    assert known.tenant.allowance("events") == (6000, 60)


# ---- Currency ----


def say(client, token, tenant, **body):
    return client.patch(
        f"/v1/tenants/{tenant.slug}",
        {"reason": "They moved to Bern."} | body,
        content_type="application/json",
        headers=bearer(token),
    )


def test_it_sets_a_tenants_currency_and_gives_it_back_its_own(client, platform, tenant, operator):
    operator.execute(
        'update tenants_tenant set metadata = \'{"currency": "EUR"}\' where id = %s', [tenant.pk]
    )
    path = f"/v1/tenants/{tenant.slug}"
    assert get(client, platform, path).json()["currency"] == "EUR"
    plans = get(client, platform, path).json()["limits"]
    set_ = say(client, platform, tenant, currency="CHF")
    assert (set_.status_code, set_.json()["currency"]) == (200, "CHF")
    assert set_.json()["limits"] == plans
    kept = "select currency, limits from tenants_tenant where id = %s"
    assert operator.execute(kept, [tenant.pk]).fetchone() == ("CHF", {})
    assert limit(client, platform, tenant, endpoints=3).json()["currency"] == "CHF"
    assert say(client, platform, tenant, currency="CHF").status_code == 200  # Changes nothing.
    with tenant_context(tenant):
        assert currency() == "CHF"
    assert say(client, platform, tenant, currency=None).json()["currency"] == "EUR"
    told = [one for one in entries_of(tenant, operator) if one[0] == "tenant.currency_changed"]
    actor, reason = f"platform_key:{prefix_of(platform)}", "They moved to Bern."
    assert told == [
        ("tenant.currency_changed", actor, reason, {"currency": "EUR"}, {"currency": "CHF"}),
        ("tenant.currency_changed", actor, reason, {"currency": "CHF"}, {"currency": "EUR"}),
    ]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"currency": "francs"}, "/currency"),
        ({"currency": "chf"}, "/currency"),
        ({"currency": "CHF\n"}, "/currency"),
        ({"currency": 756}, "/currency"),
        ({"currency": ""}, "/currency"),
        ({"currency": "DEM"}, "/currency"),  # It was one.
        ({"currency": "XTS"}, "/currency"),
        ({"limits": {"currency": "CHF"}}, "/limits"),
        ({"currency": "CHF", "reason": " "}, "/reason"),
        ({}, "/limits"),
    ],
)
def test_it_refuses_currencies_that_are_none_and_those_without_a_reason(
    client, platform, tenant, operator, body, pointer
):
    refused = say(client, platform, tenant, **body)
    assert refused.status_code == 400
    assert [error["pointer"] for error in refused.json()["errors"]] == [pointer]
    assert entries_of(tenant, operator) == []


def test_it_says_what_is_wrong_with_a_code_and_what_another_would_be(client, platform, tenant):
    refused = say(client, platform, tenant, currency="XAU", reason=" ").json()
    assert [error["pointer"] for error in refused["errors"]] == ["/currency", "/reason"]
    assert refused["errors"][0] == {
        "pointer": "/currency",
        "code": "currency_unknown",
        "message": "No currency in use has this code in ISO 4217: write another, such as EUR.",
    }


def test_what_it_once_said_stays_when_the_country_gives_the_currency_up(
    client, platform, tenant, operator
):
    operator.execute("update tenants_tenant set currency = 'DEM' where id = %s", [tenant.pk])
    shown = get(client, platform, f"/v1/tenants/{tenant.slug}").json()
    assert shown["currency"] == "DEM"


def test_a_tenant_sets_no_currency_of_its_own(client, tenant, operator):
    for token in (tenant_key(tenant), platform_key("tenants:read")):
        assert say(client, token, tenant, currency="CHF").status_code == 403
    assert entries_of(tenant, operator) == []


@pytest.mark.parametrize(
    "attack",
    [
        "update tenants_tenant set currency = 'CHF' where id = %s",
        "select slipway.platform_set_currency('aaaaaaaaaaaa', '\\x00', %s, 'CHF')",
    ],
)
@pytest.mark.other_guard
def test_injected_sql_sets_no_currency(tenant, operator, attack):
    with tenant_context(tenant.ref), pytest.raises(ProgrammingError), transaction.atomic():
        connections["default"].cursor().execute(attack, [tenant.pk])
    kept = operator.execute("select currency from tenants_tenant where id = %s", [tenant.pk])
    assert kept.fetchone() == ("",)
