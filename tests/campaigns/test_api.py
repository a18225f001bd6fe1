"""The API of campaigns: what is taken, what is refused, what is shown, and to whom."""

import json
from datetime import timedelta
from uuid import UUID

import pytest
from django.utils import timezone

from campaigns import listing
from campaigns.models import Campaign
from jobs.states import State
from tests.campaigns import brought
from tests.campaigns.desk import Desk, pointers

NOBODYS = "0e1f4a52-7a3e-4a53-9a64-5d0b3c1a9e11"
S = State


class World:
    """A tenant's account, segment and template, and the body of a campaign of them."""

    def __init__(self, desk):
        self.desk = desk
        self.account = brought.account(desk.tenant)
        self.segment = brought.segment(desk.tenant)
        self.template = brought.template(desk.tenant, "Hello {{name}}")

    def body(self, **fields):
        return {
            "name": "Spring",
            "account_id": f"acc_{self.account.pk}",
            "segment_id": f"seg_{self.segment.pk}",
            "template_id": f"tpl_{self.template.pk}",
            "variables": {"name": {"field": "name", "default": "you"}},
        } | fields

    def made(self, **fields):
        return self.desk.made("/campaigns", self.body(**fields))


@pytest.fixture
def world(desk):
    return World(desk)


def problem(answer, status):
    assert answer.status_code == status, answer.content
    assert answer.headers["Content-Type"] == "application/problem+json"
    return answer.json()["code"]


def later(**some):
    return (timezone.now() + timedelta(**some)).isoformat()


# ---- Making, reading, changing ----


def test_it_takes_a_campaign_and_says_where_it_stands(world):
    answer = world.desk.post("/campaigns", world.body())
    assert answer.status_code == 202
    made = answer.json()
    assert answer.headers["Location"] == f"/v1/campaigns/{made['id']}"
    assert made["id"].startswith("cmp_")
    assert (made["name"], made["state"], made["reason"]) == ("Spring", "materialising", "")
    assert made["account_id"] == f"acc_{world.account.pk}"
    assert (made["segment_id"], made["filter"]) == (f"seg_{world.segment.pk}", brought.ALL)
    assert made["variables"] == {"name": {"field": "name", "default": "you"}}
    assert set(made["counts"].values()) == {0}
    assert (made["progress"], made["rate"], made["estimated_finish_at"]) == (None, None, None)
    found = world.desk.get(f"/campaigns/{made['id']}").json()
    assert found == made
    assert world.desk.get("/campaigns").json() == {"data": [made], "next_cursor": None}


def test_it_gives_back_all_that_was_wished(world):
    wish = {
        "segment_id": None,
        "filter": {"all": [{"field": "name", "op": "=", "value": "Ada"}]},
        "scheduled_at": later(days=1),
        "send_until": later(days=2),
        "quiet_hours": {"from": "21:00", "until": "08:00"},
        "time_zone": "Europe/Zurich",
        "follow_up": {"after": 86400.0, "template_id": f"tpl_{world.template.pk}",
                      "variables": {"name": {"value": "you"}}},
        "on_unknown": "retry",
    }  # fmt: skip
    made = world.made(**wish)
    assert made["state"] == "scheduled"
    assert {name: made[name] for name in wish} == wish


def test_a_draft_waits_is_changed_and_begins_when_it_is_launched(world):
    made = world.made(draft=True)
    path = f"/campaigns/{made['id']}"
    assert made["state"] == "draft"
    changed = world.desk.patch(path, {"name": "Summer", "time_zone": "Asia/Tokyo"}).json()
    assert (changed["name"], changed["time_zone"]) == ("Summer", "Asia/Tokyo")
    assert changed["segment_id"] == made["segment_id"]
    # A filter takes the segment's place.
    of_its_own = {"any": [{"field": "name", "op": "=", "value": "Ada"}]}
    changed = world.desk.patch(path, {"filter": of_its_own}).json()
    assert (changed["segment_id"], changed["filter"]) == (None, of_its_own)
    launched = world.desk.post(f"{path}/launch")
    assert (launched.status_code, launched.json()["state"]) == (202, "materialising")
    assert problem(world.desk.post(f"{path}/launch"), 409) == "stale_campaign"
    assert problem(world.desk.patch(path, {"name": "Autumn"}), 409) == "stale_campaign"
    assert problem(world.desk.delete(path), 409) == "stale_campaign"
    assert world.desk.get(path).json()["name"] == "Summer"


def test_a_draft_is_taken_away_and_cannot_begin_any_more(world):
    path = f"/campaigns/{world.made(draft=True)['id']}"
    assert world.desk.delete(path).status_code == 204
    assert world.desk.get(path).json()["state"] == "cancelled"
    assert problem(world.desk.post(f"{path}/launch"), 409) == "stale_campaign"


def test_what_is_scheduled_is_taken_back_to_be_changed(world):
    path = f"/campaigns/{world.made(scheduled_at=later(days=1))['id']}"
    taken = world.desk.post(f"{path}/take-back")
    assert (taken.status_code, taken.json()["state"]) == (202, "draft")
    assert world.desk.patch(path, {"scheduled_at": None}).json()["scheduled_at"] is None


def test_it_is_paused_resumed_and_cancelled_each_with_a_reason_or_without(desk):
    path = f"/campaigns/cmp_{brought.campaign(desk.tenant, total=1).pk}"
    paused = desk.post(f"{path}/pause", {"reason": "a wrong price"})
    assert paused.status_code == 202
    assert (paused.json()["state"], paused.json()["reason"]) == ("paused", "a wrong price")
    assert problem(desk.post(f"{path}/pause"), 409) == "stale_campaign"
    assert desk.post(f"{path}/resume").json()["state"] == "running"
    cancelled = desk.post(f"{path}/cancel", {"reason": "too late"}).json()
    assert (cancelled["state"], cancelled["reason"]) == ("cancelled", "too late")
    assert problem(desk.post(f"{path}/resume"), 409) == "stale_campaign"


def test_an_act_needs_no_body_at_all(desk):
    path = f"/v1/campaigns/cmp_{brought.campaign(desk.tenant, total=1).pk}/pause"
    assert desk.client.generic("POST", path, headers=desk.headers).status_code == 202


def test_the_same_key_and_body_are_the_same_campaign_and_another_body_is_refused(world):
    key = {"Idempotency-Key": "spring-2026"}
    first = world.desk.post("/campaigns", world.body(), **key)
    again = world.desk.post("/campaigns", world.body(), **key)
    assert (first.status_code, again.status_code) == (202, 202)
    assert "Idempotent-Replayed" not in first.headers
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.json()["id"] == first.json()["id"]
    other = world.desk.post("/campaigns", world.body(name="Other"), **key)
    assert problem(other, 422) == "idempotency_key_reused"
    assert len(world.desk.get("/campaigns").json()["data"]) == 1
    assert problem(world.desk.post("/campaigns", world.body(), **{"Idempotency-Key": "a b"}), 400)


def test_the_etag_is_of_what_is_shown(desk):
    one = brought.campaign(desk.tenant, state="paused", total=5, sent=2)
    path = f"/campaigns/cmp_{one.pk}"
    first = desk.get(path)
    assert first.headers["Cache-Control"] == "private, no-cache"
    same = desk.get(path, **{"If-None-Match": first.headers["ETag"]})
    assert (same.status_code, same.content) == (304, b"")
    Campaign.objects.using("operator").filter(pk=one.pk).update(sent=3)
    changed = desk.get(path, **{"If-None-Match": first.headers["ETag"]})
    assert (changed.status_code, changed.json()["counts"]["sent"]) == (200, 3)


def test_it_tells_how_far_it_is_how_fast_and_until_when(desk):
    one = brought.campaign(
        desk.tenant, total=1000, skipped=7, sent=90, failed=5, unknown=3, cancelled=2, delivered=80,
        read=40, undelivered=1, started_at=timezone.now() - timedelta(seconds=100),
    )  # fmt: skip
    told = desk.get(f"/campaigns/cmp_{one.pk}").json()
    assert told["counts"] == {
        "total": 1000, "skipped": 7, "remaining": 900, "sent": 90, "failed": 5, "unknown": 3,
        "cancelled": 2, "delivered": 80, "read": 40, "undelivered": 1,
    }  # fmt: skip
    assert told["progress"] == 0.1
    assert told["rate"] == pytest.approx(1.0, rel=0.05)
    left = timezone.datetime.fromisoformat(told["estimated_finish_at"]) - timezone.now()
    assert left.total_seconds() == pytest.approx(900, rel=0.1)


@pytest.mark.parametrize(
    ("fields", "progress"),
    [
        ({"total": 0, "materialised_at": None, "state": "materialising"}, None),
        ({"total": 0, "state": "completed"}, 1.0),
        ({"total": 3, "sent": 1}, 0.3333),
    ],
)
def test_progress_is_known_once_all_messages_are_made(desk, fields, progress):
    one = brought.campaign(desk.tenant, **fields)
    assert desk.get(f"/campaigns/cmp_{one.pk}").json()["progress"] == progress


def test_it_lists_newest_first_in_pages_and_filters(desk):
    account = brought.account(desk.tenant)
    made = [
        brought.campaign(desk.tenant, account=account, state=state)
        for state in ("draft", "running", "completed")
    ] + [brought.campaign(desk.tenant, state="running")]
    ids = [f"cmp_{one.pk}" for one in reversed(made)]
    first = desk.get("/campaigns?limit=3").json()
    second = desk.get(f"/campaigns?limit=3&cursor={first['next_cursor']}").json()
    assert [one["id"] for one in first["data"] + second["data"]] == ids
    assert second["next_cursor"] is None

    def found(query):
        return [one["id"] for one in desk.get(f"/campaigns?{query}").json()["data"]]

    assert found("state=running") == [ids[0], ids[2]]
    assert found(f"account=acc_{account.pk}") == ids[1:]
    assert found(f"account=acc_{account.pk}&state=draft") == [ids[3]]


@pytest.mark.parametrize("query", ["state=begun", "account=acc_x", "account=", "stat=draft"])
def test_it_refuses_bad_parameters_of_the_list(desk, query):
    assert problem(desk.get(f"/campaigns?{query}"), 400) == "invalid_parameter"


# ---- What is refused ----

BAD = [
    ({"name": ""}, "/name"),
    ({"name": "  "}, "/name"),
    ({"name": "x" * 101}, "/name"),
    ({"name": "a\u202eb"}, "/name"),
    ({"name": "a\nb"}, "/name"),
    ({"name": 1}, "/name"),
    ({"account_id": None}, "/account_id"),
    ({"account_id": "acc_1"}, "/account_id"),
    ({"account_id": f"acc_{NOBODYS}"}, "/account_id"),
    ({"segment_id": f"tpl_{NOBODYS}"}, "/segment_id"),
    ({"segment_id": f"seg_{NOBODYS}"}, "/segment_id"),
    ({"segment_id": None}, "/filter"),
    ({"filter": {"all": []}}, "/filter"),
    ({"segment_id": None, "filter": []}, "/filter"),
    ({"segment_id": None, "filter": {"field": "shoe", "op": "=", "value": 1}}, "/filter/field"),
    ({"template_id": None}, "/template_id"),
    ({"template_id": "tpl_"}, "/template_id"),
    ({"template_id": f"tpl_{NOBODYS}"}, "/template_id"),
    ({"generator": "muse"}, "/generator"),
    ({"brief": {"topic": "spring"}}, "/brief"),
    ({"variables": {}}, "/variables/name"),
    ({"variables": []}, "/variables"),
    ({"scheduled_at": "2026-01-01T00:00:00Z"}, "/scheduled_at"),
    ({"scheduled_at": "tomorrow"}, "/scheduled_at"),
    ({"scheduled_at": "2099-01-01T00:00:00"}, "/scheduled_at"),
    ({"send_until": "2026-01-01T00:00:00Z"}, "/send_until"),
    ({"quiet_hours": {"from": "21:00"}}, "/quiet_hours"),
    ({"quiet_hours": {"from": "21:00", "until": "24:00"}}, "/quiet_hours/until"),
    ({"quiet_hours": {"from": "9", "until": "10:00"}}, "/quiet_hours/from"),
    ({"quiet_hours": {"from": "09:00", "until": "09:00"}}, "/quiet_hours/until"),
    ({"quiet_hours": {"from": "21:00", "until": "08:00", "on": "Sunday"}}, "/quiet_hours"),
    ({"time_zone": "Mars/Olympus"}, "/time_zone"),
    ({"time_zone": "../etc/passwd"}, "/time_zone"),
    ({"follow_up": {"after": 86400}}, "/follow_up"),
    ({"follow_up": {"after": 1, "template_id": "OURS"}}, "/follow_up/after"),
    ({"follow_up": {"after": 86400, "template_id": "tpl_x"}}, "/follow_up/template_id"),
    ({"follow_up": {"after": 86400, "template_id": f"tpl_{NOBODYS}"}}, "/follow_up/template_id"),
    ({"on_unknown": "guess"}, "/on_unknown"),
    ({"draft": "yes"}, "/draft"),
    ({"colour": "red"}, "/colour"),
]


@pytest.mark.parametrize(("fields", "pointer"), BAD, ids=[json.dumps(one) for one, _ in BAD])
def test_it_refuses_what_cannot_be_and_points_to_it(world, fields, pointer):
    text = json.dumps(world.body(**fields)).replace("OURS", f"tpl_{world.template.pk}")
    refused = world.desk.post("/campaigns", json.loads(text))
    assert pointer in pointers(refused)
    assert world.desk.get("/campaigns").json()["data"] == []


def test_it_tells_everything_that_is_wrong_at_once(world):
    refused = world.desk.post("/campaigns", {"draft": 1, "on_unknown": "x", "colour": 1})
    assert set(pointers(refused)) == {"/name", "/account_id", "/draft", "/on_unknown", "/colour"}


def test_a_paused_account_is_refused_with_its_reason(world, operator):
    operator.execute(
        "update campaigns_provideraccount set status = 'paused', paused_reason = 'not paid'"
        " where id = %s", [world.account.pk],
    )  # fmt: skip
    refused = world.desk.post("/campaigns", world.body())
    assert pointers(refused) == ["/account_id"]
    assert "not paid" in refused.json()["errors"][0]["message"]


def test_a_change_is_judged_as_the_whole_draft_would_be(world):
    path = f"/campaigns/{world.made(draft=True)['id']}"
    assert pointers(world.desk.patch(path, {"variables": {}})) == ["/variables/name"]
    assert pointers(world.desk.patch(path, {"segment_id": None})) == ["/filter"]
    assert pointers(world.desk.patch(path, {"draft": False})) == ["/draft"]
    assert world.desk.get(path).json()["variables"] != {}


@pytest.mark.parametrize(
    ("act", "body", "pointer"),
    [
        ("pause", {"reason": 1}, "/reason"),
        ("pause", {"reason": "x" * 501}, "/reason"),
        ("cancel", {"reason": "a\u202eb"}, "/reason"),
        ("resume", {"why": "x"}, "/why"),
        ("retry-failed", {}, "/reason"),
        ("retry-failed", {"reason": "they are back", "unknown": "yes"}, "/unknown"),
        ("resolve-unknown", {"to": "sent"}, "/reason"),
        ("resolve-unknown", {"reason": "they are back", "to": "failed"}, "/to"),
        ("test-send", {}, "/phone"),
        ("test-send", {"phone": "12"}, "/phone"),
        ("test-send", {"phone": "+4930123456", "params": {"name": 1}}, "/params"),
        ("test-send", {"phone": "+4930123456", "params": {"shoe": "1"}}, "/params/shoe"),
    ],
)
def test_it_refuses_bad_acts_and_points_to_it(desk, act, body, pointer):
    path = f"/campaigns/cmp_{brought.campaign(desk.tenant, total=1, failed=1).pk}"
    assert pointers(desk.post(f"{path}/{act}", body)) == [pointer]
    assert desk.get(path).json()["state"] == "running"


# ---- Who may ----

ROUTES = [
    ("get", ""),
    ("patch", ""),
    ("delete", ""),
    ("get", "/messages"),
    ("get", "/skips"),
    ("get", "/results.csv"),
    ("post", "/launch"),
    ("post", "/take-back"),
    ("post", "/pause"),
    ("post", "/resume"),
    ("post", "/cancel"),
    ("post", "/retry-failed"),
    ("post", "/resolve-unknown"),
    ("post", "/test-send"),
]
BODIES = {
    "/retry-failed": {"reason": "they are back"},
    "/resolve-unknown": {"to": "again", "reason": "they are back"},
    "/test-send": {"phone": "+4930123456"},
}


def ask(desk, method, path, act):
    body = (BODIES.get(act, {}),) if method in {"post", "patch"} else ()
    return getattr(desk, method)(f"{path}{act}", *body)


@pytest.mark.parametrize(("method", "act"), ROUTES)
def test_what_is_nobodys_or_somebody_elses_is_404(desk, other_desk, method, act):
    theirs = brought.campaign(other_desk.tenant, total=1, failed=1)
    for id in (f"cmp_{theirs.pk}", f"cmp_{NOBODYS}", f"acc_{theirs.pk}", "cmp_x"):
        assert ask(desk, method, f"/campaigns/{id}", act).status_code == 404, id
    assert other_desk.get(f"/campaigns/cmp_{theirs.pk}").json()["state"] == "running"


@pytest.mark.parametrize(("method", "act"), [*ROUTES, ("post", None), ("get", None)])
def test_a_key_needs_the_scope(client, tenant, method, act):
    needed = "campaigns:read" if method == "get" else "campaigns:write"
    lacking = {"campaigns:read", "campaigns:write", "customers:read"} - {needed}
    path = "/campaigns" if act is None else f"/campaigns/cmp_{brought.campaign(tenant).pk}"
    refused = ask(Desk(client, tenant, *lacking), method, path, act or "")
    assert problem(refused, 403) == "missing_scope"
    assert refused.json()["scope"] == needed
    assert client.get(f"/v1{path}", headers={"Host": "slipway.localhost"}).status_code == 401


# ---- Messages ----


@pytest.fixture
def crowd(desk):
    """A campaign with a message in every state, and a test."""
    one = brought.campaign(desk.tenant, total=len(State))
    made = [brought.message(one, n, state=state) for n, state in enumerate(State)]
    made.append(brought.message(one, 5, test=True, lane=f"campaign-test:{one.pk}"))
    one.made = [f"msg_{row.pk}" for row in reversed(made)]
    one.path = f"/campaigns/cmp_{one.pk}/messages"
    return one


def test_it_lists_messages_newest_first_in_pages(desk, crowd):
    first = desk.get(f"{crowd.path}?limit=5").json()
    second = desk.get(f"{crowd.path}?cursor={first['next_cursor']}").json()
    assert [one["id"] for one in first["data"] + second["data"]] == crowd.made
    assert second["next_cursor"] is None
    assert [one["test"] for one in first["data"]] == [True, False, False, False, False]


STATUSES = [
    ("queued", {S.PENDING, S.SCHEDULED, S.HELD}),
    ("sending", {S.PROCESSING}),
    ("sent", {S.SUCCEEDED}),
    ("retrying", {S.FAILED}),
    ("failed", {S.DEAD_LETTER}),
    ("unknown", {S.UNKNOWN}),
    ("cancelled", {S.CANCELLED, S.DISCARDING, S.DISCARDED}),
]


@pytest.mark.parametrize(("status", "states"), STATUSES)
def test_each_state_has_a_name_outside_by_which_it_is_found(desk, crowd, status, states):
    found = desk.get(f"{crowd.path}?status={status}").json()["data"]
    phones = {f"+4930{100000 + n}" for n, state in enumerate(State) if state in states}
    assert {one["phone"] for one in found if not one["test"]} == phones
    assert {one["status"] for one in found} == {status}
    ids = [one["id"] for one in found]
    assert ids == sorted(ids, reverse=True)
    pages, cursor = [], ""
    while cursor is not None:
        page = desk.get(f"{crowd.path}?status={status}&limit=1&cursor={cursor}").json()
        pages += page["data"]
        cursor = page["next_cursor"]
    assert pages == found


def test_every_state_of_the_engine_is_one_of_them():
    assert {state for _, states in STATUSES for state in states} == set(State)


def test_a_message_is_found_by_its_phone_however_that_is_written(desk, crowd):
    [found] = desk.get(f"{crowd.path}?phone=%2B49%2030%20100-005").json()["data"]
    assert found["phone"] == "+4930100005"
    assert len(desk.get(f"{crowd.path}?phone=%2B4930100005&status=sent").json()["data"]) == 1
    assert desk.get(f"{crowd.path}?phone=%2B4930100005&status=failed").json()["data"] == []
    assert desk.get(f"{crowd.path}?phone=%2B4930999999").json()["data"] == []


def test_where_no_index_leads_a_page_ends_where_looking_ended(desk, monkeypatch):
    monkeypatch.setattr(listing, "LOOKED_AT", 3)
    one = brought.campaign(desk.tenant, total=8)
    sent = brought.message(one, 0, state=S.SUCCEEDED)
    for n in range(1, 8):
        brought.message(one, n)
    path = f"/campaigns/cmp_{one.pk}/messages?status=sent"
    found, cursors = [], []
    page = desk.get(path).json()
    while page["next_cursor"]:
        found, cursors = found + page["data"], [*cursors, page["next_cursor"]]
        page = desk.get(f"{path}&cursor={cursors[-1]}").json()
    assert [row["id"] for row in found + page["data"]] == [f"msg_{sent.pk}"]
    assert len(cursors) == 2


@pytest.mark.parametrize("query", ["status=dead_letter", "status=", "phone=1", "phone=", "x=1"])
def test_it_refuses_bad_parameters_of_messages(desk, crowd, query):
    assert problem(desk.get(f"{crowd.path}?{query}"), 400) == "invalid_parameter"


def test_a_message_shows_what_became_of_it(desk):
    one = brought.campaign(desk.tenant, total=2)
    now = timezone.now()
    brought.message(
        one, 1, state=S.SUCCEEDED, attempts=2, params={"name": "Ada"}, provider_id="p-1",
        customer_id=UUID(NOBODYS), delivered_at=now, read_at=now,
    )  # fmt: skip
    brought.message(one, 2, state=S.FAILED, attempts=1, last_error="HTTP 503", due_at=now)
    waiting, sent = desk.get(f"/campaigns/cmp_{one.pk}/messages").json()["data"]
    assert (waiting["status"], waiting["error"]) == ("retrying", "HTTP 503")
    assert (waiting["sent_at"], waiting["next_attempt_at"] is not None) == (None, True)
    assert (sent["status"], sent["attempts"], sent["provider_id"]) == ("sent", 2, "p-1")
    assert sent["campaign_id"] == f"cmp_{one.pk}"
    assert (sent["customer_id"], sent["params"]) == (f"cus_{NOBODYS}", {"name": "Ada"})
    assert sent["sent_at"] is not None
    assert sent["delivered_at"] == sent["read_at"] == now.isoformat()
    assert sent["next_attempt_at"] is None


def test_it_lists_who_got_no_message_and_why(desk):
    one = brought.campaign(desk.tenant, skipped=3)
    for reason in ("no_phone", "opted_out"):
        brought.skip(one, reason, customer_id=UUID(NOBODYS))
    brought.skip(one, "missing_variable", detail="city")
    path = f"/campaigns/cmp_{one.pk}/skips"
    first = desk.get(f"{path}?limit=2").json()
    second = desk.get(f"{path}?limit=2&cursor={first['next_cursor']}").json()
    rows = [(row["customer_id"], row["reason"], row["detail"]) for row in first["data"]]
    assert rows == [(None, "missing_variable", "city"), (f"cus_{NOBODYS}", "opted_out", "")]
    assert [row["reason"] for row in second["data"]] == ["no_phone"]
    assert problem(desk.get(f"{path}?reason=no_phone"), 400) == "invalid_parameter"


# ---- Trying again, and trying out ----


def test_it_tries_again_what_failed_and_says_how_many(desk):
    one = brought.campaign(desk.tenant, state="completed", total=3, failed=1, unknown=2)
    path = f"/campaigns/cmp_{one.pk}/retry-failed"
    answer = desk.post(path, {"reason": "they are back"})
    assert (answer.status_code, answer.json()) == (202, {"retried": 1})
    both = desk.post(path, {"reason": "they are back", "unknown": True})
    assert both.json() == {"retried": 3}


def test_nothing_failed_is_nothing_to_try_again(desk):
    one = brought.campaign(desk.tenant, state="completed", total=1, sent=1)
    refused = desk.post(f"/campaigns/cmp_{one.pk}/retry-failed", {"reason": "they are back"})
    assert problem(refused, 409) == "nothing_to_retry"


@pytest.mark.parametrize(
    ("to", "status", "counter"),
    [("again", "queued", "remaining"), ("given_up", "cancelled", "cancelled"), ("sent",) * 3],
)
def test_its_tenant_says_what_becomes_of_what_nobody_knows(desk, to, status, counter):
    one = brought.campaign(desk.tenant, total=2, unknown=2)
    for n in range(2):
        brought.message(one, n, state=S.UNKNOWN, attempts=1)
    path = f"/campaigns/cmp_{one.pk}"
    answer = desk.post(f"{path}/resolve-unknown", {"to": to, "reason": "we looked there"})
    assert (answer.status_code, answer.json()) == (200, {"resolved": 2})
    messages = desk.get(f"{path}/messages").json()["data"]
    assert [message["status"] for message in messages] == [status] * 2
    counts = desk.get(path).json()["counts"]
    assert (counts["unknown"], counts[counter]) == (0, 2)


def test_a_test_goes_to_the_named_number_and_is_not_counted(world):
    path = f"/campaigns/{world.made(draft=True)['id']}"
    answer = world.desk.post(
        f"{path}/test-send", {"phone": "+49 30 123456", "params": {"name": "Ada"}}
    )
    assert answer.status_code == 202
    told = answer.json()
    assert (told["phone"], told["test"], told["status"]) == ("+4930123456", True, "queued")
    assert (told["customer_id"], told["params"]) == (None, {"name": "Ada"})
    assert world.desk.get(path).json()["counts"]["total"] == 0
    assert world.desk.get(f"{path}/messages").json()["data"] == [told]
