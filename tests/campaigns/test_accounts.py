"""The API of provider accounts: what is taken, verified, kept, shown, paused and forgotten."""

import json
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from campaigns import accounts
from campaigns.models import Campaign, ProviderAccount
from campaigns.providers import names, provider
from config.problems import Problem
from jobs.models import Lane
from tenants.context import tenant_context
from tests.campaigns.desk import Desk, pointers
from tests.tenants.test_isolation import enter
from webhooks import sync_http

TOKEN = "EAAG-very-secret"
SENDER = "123456789"


def wish(replies, **fields):
    credentials = {"access_token": TOKEN, "app_secret": "shh", "verify_token": "let me in"}
    made = {"name": "Shop", "provider": "whatsapp_cloud", "sender": SENDER}
    return made | {"credentials": credentials, "base_url": replies.url} | fields


@pytest.fixture
def graph(replies):
    """A Graph API that knows the number."""
    replies.say(200, {"id": SENDER})
    return replies


def row(operator, id):
    """The account's whole row, as text."""
    statement = "select to_jsonb(a)::text from campaigns_provideraccount a where id = %s"
    return operator.execute(statement, [id.removeprefix("acc_")]).fetchone()[0]


def lane(id):
    return Lane.objects.using("operator").filter(key=f"account:{id.removeprefix('acc_')}").get()


def audit(operator, id):
    statement = "select action, to_jsonb(a)::text from tenants_auditentry a where target = %s"
    return operator.execute(f"{statement} order by at", [id]).fetchall()


def refused(answer, status, code):
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.content
    return answer.json()


def campaign(desk, id, state):
    with tenant_context(desk.tenant):
        return Campaign.objects.create(
            name="Autumn", account_id=id.removeprefix("acc_"), state=state, actor="system:test"
        )


def test_it_is_verified_by_one_call_and_then_made(desks, graph):
    made = desks.made("/accounts", wish(graph, rate=80, max_in_flight=200))
    (asked,) = graph.asked
    assert (asked.method, asked.path) == ("GET", f"/v23.0/{SENDER}?fields=id")
    assert asked.headers["authorization"] == f"Bearer {TOKEN}"
    assert made["verified_at"] is not None
    assert made["base_url"] == graph.url
    assert made["callback_url"].endswith(f"/v1/callbacks/{made['id']}")
    assert (made["status"], made["mode"], made["rate"]) == ("active", "adaptive", 80.0)
    read = desks.get(f"/accounts/{made['id']}").json()
    assert read.pop("health")["state"] == "active"
    assert read == made
    assert (lane(made["id"]).rate, lane(made["id"]).window) == (80.0, 200)


def test_credentials_are_shown_nowhere(desk, graph, operator, capfd):
    made = desk.made("/accounts", wish(graph))
    desk.patch(f"/accounts/{made['id']}", {"credentials": {"app_secret": "other-secret"}})
    desk.post(f"/accounts/{made['id']}/verify")
    shown = [
        json.dumps(made),
        desk.get(f"/accounts/{made['id']}").text,
        desk.get("/accounts").text,
        row(operator, made["id"]),
        json.dumps(audit(operator, made["id"])),
        "".join(capfd.readouterr()),
    ]
    with tenant_context(desk.tenant):
        account = accounts.find(ProviderAccount.objects.get().pk)
        shown += [repr(account), repr(accounts.clear(account))]
        assert accounts.clear(account).credentials["access_token"] == TOKEN
    for text in shown:
        assert TOKEN not in text
        assert "other-secret" not in text
    assert set(made["credentials"]) == {"access_token", "app_secret", "verify_token"}


@pytest.mark.parametrize(
    ("status", "body", "expected", "code"),
    [
        (401, {"error": {"code": 190, "message": "Expired"}}, 422, "credentials_refused"),
        (400, {"error": {"code": 100, "error_subcode": 33}}, 422, "credentials_refused"),
        (500, {"error": {"code": 10, "message": "No"}}, 422, "credentials_refused"),
        (404, "", 422, "credentials_refused"),
        (200, "<html>", 422, "provider_unreachable"),
        (200, {"id": "somebody else"}, 422, "provider_unreachable"),
        (302, "", 422, "provider_unreachable"),
        (429, "", 422, "provider_unreachable"),
        (503, "", 422, "provider_unreachable"),
        (None, None, 422, "provider_unreachable"),
    ],
)
def test_refused_or_unreachable_there_is_no_account(desk, replies, status, body, expected, code):
    replies.say(status, body) if status else replies.hang_up()
    refused(desk.post("/accounts", wish(replies)), expected, code)
    assert desk.get("/accounts").json()["data"] == []
    assert len(replies.asked) == 1


def test_nobody_may_leave_the_verification_out(desk, graph):
    assert pointers(desk.post("/accounts", wish(graph, verify=False))) == ["/verify"]
    assert graph.asked == []


def test_the_call_is_made_outside_of_any_transaction(desk, graph, monkeypatch):
    inside = []
    call = sync_http.call

    def watched(*arguments, **options):
        inside.append(connection.in_atomic_block)
        return call(*arguments, **options)

    monkeypatch.setattr(sync_http, "call", watched)
    made = desk.made("/accounts", wish(graph))
    desk.post(f"/accounts/{made['id']}/verify")
    desk.patch(f"/accounts/{made['id']}", {"credentials": {"app_secret": "new"}})
    assert inside == [False, False, False]


@pytest.mark.parametrize(
    "url",
    [
        "http://graph.example.com",
        "https://169.254.169.254",
        "https://localhost",
        "https://10.0.0.1/graph",
        "https://user:pass@graph.example.com",
        "https://graph.example.com:8080",
        "https://graph.example.com/?to=x",
        "graph.example.com",
    ],
)
def test_a_base_url_goes_through_the_guard(desk, replies, url):
    answer = desk.post("/accounts", wish(replies, base_url=url))
    assert pointers(answer, "invalid_account") == ["/base_url"]


def test_a_name_that_leads_inside_is_blocked_when_it_is_called(desk, graph, monkeypatch):
    monkeypatch.setattr("django.conf.settings.WEBHOOK_OPEN_DESTINATIONS", [])
    inside = [(2, 1, 6, "", ("127.0.0.1", 443))]
    monkeypatch.setattr("webhooks.sync_http._lookups.wait", lambda *arguments: inside)
    told = desk.post("/accounts", wish(graph, base_url="https://graph.example.com"))
    said = refused(told, 422, "provider_unreachable")
    assert said["reason"] == "blocked_address"
    assert graph.asked == []


def test_everything_that_is_wrong_is_told_at_once(desk, graph):
    bad = wish(graph, sender="+49", options={"version": 5, "timeout": 99}, credentials={"k": "v"})
    assert set(pointers(desk.post("/accounts", bad), "invalid_account")) == {
        "/sender",
        "/options/version",
        "/options/timeout",
        "/credentials/access_token",
        "/credentials/k",
    }
    assert graph.asked == []


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"name": ""}, "/name"),
        ({"name": "a\u202eb"}, "/name"),
        ({"name": " a"}, "/name"),
        ({"rate": 0}, "/rate"),
        ({"rate": 1e9}, "/rate"),
        ({"max_in_flight": 0}, "/max_in_flight"),
        ({"mode": "fast"}, "/mode"),
        ({"credentials": {"access_token": "a\nb"}}, "/credentials"),
        ({"credentials": {"access_token": None}}, "/credentials/access_token"),
        ({"credentials": {"UP": "x"}}, "/credentials"),
        ({"options": []}, "/options"),
    ],
)
def test_the_body_is_checked(desk, graph, fields, where):
    found = pointers(desk.post("/accounts", wish(graph, **fields)))
    assert found
    assert all(pointer.startswith(where) for pointer in found)


def test_an_unknown_provider_is_told(desk, graph):
    refused(desk.post("/accounts", wish(graph, provider="pigeon")), 400, "unknown_provider")


def test_names_and_numbers_are_bounded(desk, graph, settings):
    desk.made("/accounts", wish(graph))
    refused(desk.post("/accounts", wish(graph)), 409, "name_taken")
    assert len(graph.asked) == 1  # Nobody is called in vain.
    limits = settings.SLIPWAY["TENANT_LIMITS"] | {"accounts": 1}
    settings.SLIPWAY = settings.SLIPWAY | {"TENANT_LIMITS": limits}
    told = refused(desk.post("/accounts", wish(graph, name="Two")), 409, "too_many_accounts")
    assert told["limit"] == 1


def test_calls_to_providers_are_limited(desk, graph, settings):
    settings.SLIPWAY = settings.SLIPWAY | {
        "LIMITS": settings.SLIPWAY["LIMITS"] | {"account-verify": (2, 60)}
    }
    made = desk.made("/accounts", wish(graph))
    assert desk.post(f"/accounts/{made['id']}/verify").status_code == 200
    assert desk.post(f"/accounts/{made['id']}/verify").status_code == 429
    assert len(graph.asked) == 2


def test_a_change_of_credentials_is_verified_and_merged(desk, graph):
    made = desk.made("/accounts", wish(graph))
    path = f"/accounts/{made['id']}"
    changed = desk.patch(path, {"credentials": {"access_token": "new", "verify_token": None}})
    assert set(changed.json()["credentials"]) == {"access_token", "app_secret"}
    assert graph.asked[-1].headers["authorization"] == "Bearer new"
    graph.say(401, {"error": {"code": 190}})
    refused(desk.patch(path, {"credentials": {"access_token": "bad"}}), 422, "credentials_refused")
    with tenant_context(desk.tenant):
        account = ProviderAccount.objects.get()
        assert accounts.clear(account).credentials == {"access_token": "new", "app_secret": "shh"}


def test_what_leads_nowhere_else_is_not_verified(desk, graph):
    made = desk.made("/accounts", wish(graph))
    same = {"base_url": f"{graph.url}/", "sender": SENDER, "options": {}}
    changed = desk.patch(
        f"/accounts/{made['id']}", {"name": "Other", "rate": 5.5, "mode": "compat", **same}
    ).json()
    assert (changed["name"], changed["rate"], changed["mode"]) == ("Other", 5.5, "compat")
    assert len(graph.asked) == 1
    assert lane(made["id"]).rate == 5.5
    desk.patch(f"/accounts/{made['id']}", {"rate": None})
    assert lane(made["id"]).rate is None


def test_another_base_url_does_not_get_the_credentials_that_are_kept(desk, graph):
    made = desk.made("/accounts", wish(graph))
    path, elsewhere = f"/accounts/{made['id']}", f"{graph.url}/elsewhere"
    assert pointers(desk.patch(path, {"base_url": elsewhere})) == ["/credentials"]
    some = {"base_url": elsewhere, "credentials": {"access_token": TOKEN}}
    assert pointers(desk.patch(path, some)) == ["/credentials"]
    assert len(graph.asked) == 1
    everything = {"base_url": elsewhere, "credentials": wish(graph)["credentials"]}
    assert desk.patch(path, everything).json()["base_url"] == elsewhere


def test_two_changes_at_once_are_not_mixed(desk, graph, monkeypatch):
    made = desk.made("/accounts", wish(graph))
    path = f"/accounts/{made['id']}"
    verify = type(provider("whatsapp_cloud")).verify

    def meanwhile(self, account):
        verify(self, account)
        monkeypatch.undo()
        assert desk.patch(path, {"name": "First"}).status_code == 200

    monkeypatch.setattr(type(provider("whatsapp_cloud")), "verify", meanwhile)
    refused(desk.patch(path, {"credentials": {"app_secret": "x"}}), 409, "conflict")
    assert desk.get(path).json()["name"] == "First"


def test_a_paused_account_shuts_its_lane_and_a_resumed_one_opens_it(desk, graph, operator):
    made = desk.made("/accounts", wish(graph, rate=5))
    path = f"/accounts/{made['id']}"
    assert pointers(desk.post(f"{path}/pause", {"reason": " "})) == ["/reason"]
    paused = desk.post(f"{path}/pause", {"reason": "They are repairing it."}).json()
    assert (paused["status"], paused["paused_reason"]) == ("paused", "They are repairing it.")
    assert lane(made["id"]).paused_until.year == 9999
    desk.post(f"{path}/pause", {"reason": "Again."})
    resumed = desk.post(f"{path}/resume").json()
    assert (resumed["status"], resumed["paused_reason"]) == ("active", "")
    assert (lane(made["id"]).paused_until, lane(made["id"]).rate) == (None, 5.0)
    desk.post(f"{path}/resume", {"reason": "They did."})
    actions = [action for action, _ in audit(operator, made["id"])]
    assert actions == ["account.created", "account.paused", "account.resumed"]


def held(id, **columns):
    """Have the engine hold an account's lane back for an hour, as for a refusal."""
    rows = Lane.objects.using("operator").filter(key=f"account:{id.removeprefix('acc_')}")
    hour = timezone.now() + timedelta(hours=1)
    rows.update(**{"paused_until": hour, "paused_why": "190: expired", "trips": 3} | columns)


def test_new_credentials_end_what_the_old_ones_had_it_wait_for(desk, graph):
    made = desk.made("/accounts", wish(graph, rate=5))
    path = f"/accounts/{made['id']}"
    held(made["id"])
    desk.patch(path, {"name": "Renamed", "credentials": {"access_token": TOKEN}})
    assert lane(made["id"]).paused_until is not None  # They are the same.
    assert desk.patch(path, {"credentials": {"access_token": "new"}}).status_code == 200
    found = lane(made["id"])
    assert (found.paused_until, found.paused_why, found.trips, found.rate) == (None, "", 0, 5.0)


def test_new_credentials_do_not_resume_a_paused_account(desk, graph):
    made = desk.made("/accounts", wish(graph))
    path = f"/accounts/{made['id']}"
    desk.post(f"{path}/pause", {"reason": "For now."})
    desk.patch(path, {"credentials": {"access_token": "new"}})
    assert lane(made["id"]).paused_until.year == 9999


def test_resuming_an_active_account_ends_what_holds_its_lane(desk, graph, operator):
    made = desk.made("/accounts", wish(graph))
    held(made["id"])
    assert desk.post(f"/accounts/{made['id']}/resume").json()["status"] == "active"
    assert (lane(made["id"]).paused_until, lane(made["id"]).trips) == (None, 0)
    desk.post(f"/accounts/{made['id']}/resume")
    actions = [action for action, _ in audit(operator, made["id"])]
    assert actions == ["account.created", "account.resumed"]


def test_what_an_operator_laid_upon_the_lane_stays(desk, graph, operator):
    made = desk.made("/accounts", wish(graph))
    rows = Lane.objects.using("operator").filter(key=f"account:{made['id'].removeprefix('acc_')}")
    rows.update(operator_paused_until="9999-01-01T00:00Z", operator_rate=1.0)
    desk.post(f"/accounts/{made['id']}/pause", {"reason": "For now."})
    desk.post(f"/accounts/{made['id']}/resume")
    assert lane(made["id"]).operator_paused_until.year == 9999
    assert lane(made["id"]).operator_rate == 1.0


@pytest.mark.parametrize("state", ["scheduled", "materialising", "running", "paused"])
def test_it_is_not_deleted_while_a_campaign_of_it_lives(desk, graph, state):
    made = desk.made("/accounts", wish(graph))
    campaign(desk, made["id"], state)
    told = refused(desk.delete(f"/accounts/{made['id']}"), 409, "account_in_use")
    assert told["campaigns"] == 1
    assert desk.get(f"/accounts/{made['id']}").status_code == 200


def test_it_knows_since_when_it_leads_where_it_does(desk, graph, operator):
    made = desk.made("/accounts", wish(graph))
    path = f"/accounts/{made['id']}"

    def led_at():
        return json.loads(row(operator, made["id"]))["led_at"]

    first = led_at()
    for harmless in ({"name": "Other"}, {"options": {"timeout": 5}}, {"rate": 5}):
        assert desk.patch(path, harmless).status_code == 200
        assert led_at() == first
    graph.say(200, {"id": "987654321"})
    assert desk.patch(path, {"sender": "987654321"}).status_code == 200
    assert led_at() > first


def test_deleting_forgets_the_credentials(desk, graph, operator):
    made = desk.made("/accounts", wish(graph))
    campaign(desk, made["id"], "completed")
    assert desk.delete(f"/accounts/{made['id']}?reason=Moved").status_code == 204
    assert desk.get(f"/accounts/{made['id']}").status_code == 404
    assert '"credentials": ""' in row(operator, made["id"])
    assert lane(made["id"]).paused_until is None  # What is tried again ends, and is not held.
    action, entry = audit(operator, made["id"])[-1]
    assert (action, json.loads(entry)["reason"]) == ("account.deleted", "Moved")
    desk.made("/accounts", wish(graph))  # Its name is free again.


def test_nobody_sees_or_touches_another_tenants(desk, other_desk, graph):
    made = desk.made("/accounts", wish(graph))
    path = f"/accounts/{made['id']}"
    assert other_desk.get("/accounts").json()["data"] == []
    assert other_desk.get(path).status_code == 404
    assert other_desk.patch(path, {"name": "Mine"}).status_code == 404
    assert other_desk.delete(path).status_code == 404
    for verb in ("verify", "pause", "resume"):
        assert other_desk.post(f"{path}/{verb}", {"reason": "Mine."}).status_code == 404


def test_it_takes_its_scopes(client, tenant, graph):
    reader = Desk(client, tenant, "campaigns:read")
    assert reader.get("/accounts").status_code == 200
    assert reader.post("/accounts", wish(graph)).status_code == 403


def test_they_are_listed_by_provider_and_status(desk, graph):
    ids = [desk.made("/accounts", wish(graph, name=name))["id"] for name in "abc"]
    desk.post(f"/accounts/{ids[0]}/pause", {"reason": "For now."})

    def listed(query=""):
        return [each["id"] for each in desk.get(f"/accounts{query}").json()["data"]]

    assert listed() == ids[::-1]
    assert listed("?status=paused") == ids[:1]
    assert listed("?provider=http") == []
    assert desk.get("/accounts?status=gone").status_code == 400
    first = desk.get("/accounts?limit=2").json()
    assert listed(f"?limit=2&cursor={first['next_cursor']}") == ids[:1]


def test_lost_keys_are_told_and_mended_by_new_credentials(desk, graph, settings):
    made = desk.made("/accounts", wish(graph))
    settings.STORED_SECRET_KEYS = ["bmV3LW5ldy1uZXctbmV3LW5ldy1uZXctbmV3LW5ldyE="]
    path = f"/accounts/{made['id']}"
    assert desk.get(path).json()["credentials"] == {}
    refused(desk.post(f"{path}/verify"), 409, "credentials_lost")
    assert desk.patch(path, {"credentials": {"access_token": "new"}}).status_code == 200
    assert desk.post(f"{path}/verify").status_code == 200


def test_the_generic_provider_is_verified_by_the_call_that_is_mapped(desk, replies):
    mapping = {
        "path": "/send",
        "headers": {"X-Key": "{credentials.key}"},
        "body": {"to": "{phone}", "text": "{text}"},
        "verify": {"method": "HEAD", "path": "/me/{sender}"},
    }
    shape = {"provider": "http", "sender": "Shop", "credentials": {"key": "k3y"}}
    body = {"name": "SMS", "base_url": f"{replies.url}/v2/", "options": mapping, **shape}
    made = desk.made("/accounts", body)
    (asked,) = replies.asked
    assert (asked.method, asked.path, asked.headers["x-key"]) == ("HEAD", "/v2/me/Shop", "k3y")
    assert made["base_url"] == f"{replies.url}/v2"
    replies.say(403)
    refused(desk.post(f"/accounts/{made['id']}/verify"), 422, "credentials_refused")
    replies.say(500)
    refused(desk.post(f"/accounts/{made['id']}/verify"), 422, "provider_unreachable")
    assert pointers(desk.post("/accounts", body | {"name": "B", "base_url": None})) == ["/base_url"]
    no_check = {name: value for name, value in mapping.items() if name != "verify"}
    answer = desk.post("/accounts", body | {"name": "B", "options": no_check})
    assert pointers(answer) == ["/options/verify"]


def test_every_provider_of_the_settings_can_be_named():
    for name in names():
        assert provider(name).name == name
    with pytest.raises(Problem):
        provider("pigeon")


def test_the_app_role_reads_no_account_outside_its_tenants(desk, graph, app_connection):
    desk.made("/accounts", wish(graph))
    statement = "select count(*) from campaigns_provideraccount"
    assert app_connection.execute(statement).fetchone() == (0,)
    enter(app_connection, desk.tenant)
    assert app_connection.execute(statement).fetchone() == (1,)
