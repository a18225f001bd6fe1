"""Syncs: customers pulled from a tenant's own source, each page once, whatever happens."""

import csv
import io
import json
from datetime import timedelta

import pytest
from django.utils import timezone

from customers import sources, syncing
from customers.models import Source, Sync
from jobs.errors import LeaseLost
from jobs.models import Job
from jobs.outcomes import Retry, Snooze, Succeeded
from tenants.context import tenant_context
from tests.customers.desk import OPERATOR, Desk
from tests.customers.shop import as_page
from tests.people import bearer, tenant_key

ADA = {"external_id": "a", "name": "Ada", "phone": "+49 30 901820", "consent": "given", "vip": 1}


def people(many):
    return [{"external_id": f"c{n:02}", "name": f"Customer {n}"} for n in range(many)]


def add(desk, shop, **fields):
    body = {"name": "Shop", "url": shop.url, "page_size": 10} | fields
    answer = desk.post("/sources", body)
    assert answer.status_code == 201, answer.json()
    return answer.json()


def begin(desk, source):
    answer = desk.post(f"/sources/{source['id']}/sync")
    assert answer.status_code == 202, answer.json()
    assert answer["Location"].endswith(answer.json()["id"])
    return answer["Location"].removeprefix("/v1/customers")


def sync(desk, source):
    """Pull everything; what the API says of it then."""
    path = begin(desk, source)
    desk.work()
    return desk.get(path).json()


def once(desk):
    """One try at the one sync that is to be done, by a drainer of its own."""
    drainer = desk.engine.drainer()
    (claim,) = desk.engine.claim("jobs", drainer=drainer)
    return drainer, claim


def counts(shown):
    return [shown[name] for name in ("read", "created", "updated", "unchanged", "rejected")]


def test_it_pulls_all_pages_in_both_homes(desks, shop):
    shop.items = people(25)
    shown = sync(desks, add(desks, shop))
    assert (shown["status"], shown["pages"], shown["error"]) == ("finished", 3, "")
    assert counts(shown) == [25, 25, 0, 0, 0]
    assert desks.by_external_id()["c24"]["name"] == "Customer 24"
    assert [query.get("cursor") for query in shop.asked] == [None, "10", "20"]
    assert {query["limit"] for query in shop.asked} == {"10"}
    assert {query["kind"] for query in shop.asked} == {"all"}  # What the URL says itself stays.


def test_the_request_asks_nobody_and_queues_a_job(desk, shop):
    source = add(desk, shop)
    path = begin(desk, source)
    assert shop.asked == []
    assert desk.get(path).json()["status"] == "pending"
    assert [job.kind for job in desk.jobs()] == ["customers.sync"]
    again = desk.post(f"/sources/{source['id']}/sync")
    assert (again.status_code, again.json()["code"]) == (409, "already_syncing")


def test_a_second_sync_finds_the_customers_again(desks, shop):
    shop.items = people(3)
    source = add(desks, shop)
    sync(desks, source)
    shop.items[1]["name"] = "Another"
    assert counts(sync(desks, source)) == [3, 0, 1, 2, 0]
    listed = desks.get(f"/sources/{source['id']}/syncs").json()["data"]
    assert [counts(row) for row in listed] == [[3, 0, 1, 2, 0], [3, 3, 0, 0, 0]]


def test_fields_are_found_where_the_source_says(desk, shop):
    item = {
        "id": 7,
        "profile": {"full": "Ada", "tel": "+4930901820"},
        "city": "Berlin",
        "vip": True,
    }
    shop.answer = lambda query: (200, {}, json.dumps({"result": {"rows": [item]}}).encode())
    source = add(
        desk, shop, items_path="result.rows", cursor_path="result.next",
        fields={
            "external_id": "id", "name": "profile.full", "phone": "profile.tel",
            "email": "profile.mail", "attributes.city": "city", "attributes.vip": "vip",
        },
    )  # fmt: skip
    assert counts(sync(desk, source)) == [1, 1, 0, 0, 0]
    ada = desk.by_external_id()["7"]
    assert (ada["name"], ada["phone"], ada["email"]) == ("Ada", "+4930901820", "")
    assert ada["attributes"] == {"city": "Berlin", "vip": 1}


def test_it_logs_consent_by_the_sync_and_undoes_no_opt_out(desk, shop):
    made = desk.post("", {"external_id": "b", "consent": "withdrawn"}).json()
    shop.items = [ADA, {"external_id": "b", "consent": "given", "name": None}]
    shown = sync(desk, add(desk, shop))
    found = desk.by_external_id()
    assert (found["a"]["consent"], found["b"]["consent"]) == ("given", "withdrawn")
    log = desk.get(f"/{found['a']['id']}/consent").json()["data"]
    assert [row["source"] for row in log] == [f"sync:{shown['id'].removeprefix('syn_')}"]
    assert len(desk.get(f"/{made['id']}/consent").json()["data"]) == 1


def test_bad_items_are_rejected_with_their_place_and_reason(desks, shop):
    shop.items = [*people(10), {"name": "x"}, [], ADA | {"phone": "1"}, ADA]
    source = add(desks, shop)
    shown = sync(desks, source)
    assert (shown["status"], counts(shown)) == ("finished", [14, 11, 0, 0, 3])
    answer = desks.get(f"/sources/{source['id']}/syncs/{shown['id']}/rejected")
    text = b"".join(answer.streaming_content).decode()
    told = {row["item"]: (row["page"], row["reason"]) for row in csv.DictReader(io.StringIO(text))}
    assert told["11"] == ("2", "/external_id Required.")
    assert told["12"] == ("2", "It is not a JSON object.")
    assert told["13"][1].startswith("/phone It is not a phone number")
    assert len(told) == 3


# ---- Killed, cancelled, taken away ----


def test_killed_anywhere_it_goes_on_behind_what_it_wrote(desks, shop, monkeypatch):
    shop.items = [*people(32), {"external_id": ""}]
    path = begin(desks, add(desks, shop))
    write = syncing._write

    def killed(claim, found, page):
        write(claim, found, page)
        raise KeyboardInterrupt

    monkeypatch.setattr(syncing, "_write", killed)
    seen = []
    while (shown := desks.get(path).json())["status"] != "finished":
        seen.append(shown["read"])
        drainer, claim = once(desks)
        with pytest.raises(KeyboardInterrupt):
            syncing.run(claim)
        desks.engine.silence(drainer)
        desks.engine.rescue()
        desks.jobs().update(losses=0)
    assert seen == [0, 10, 20, 30]
    assert counts(shown) == [33, 32, 0, 0, 1]
    assert [query.get("cursor") for query in shop.asked] == [None, "10", "20", "30"]


def test_a_drainer_that_lost_its_job_writes_nothing(desk, shop):
    shop.items = people(3)
    begin(desk, add(desk, shop))
    drainer, claim = once(desk)
    desk.engine.silence(drainer)
    desk.engine.rescue()
    with pytest.raises(LeaseLost):
        syncing.run(claim)
    assert desk.by_external_id() == {}
    desk.work()
    assert len(desk.by_external_id()) == 3


def test_a_long_one_gives_others_their_turn_after_each_page(desk, shop, monkeypatch):
    monkeypatch.setattr(syncing, "STRETCH", 0.0)
    shop.items = people(25)
    begin(desk, add(desk, shop))
    _, claim = once(desk)
    assert syncing.run(claim) == Snooze(0.0, "there is more to do")
    assert len(shop.asked) == 1


def test_a_cancelled_one_writes_no_further_page(desk, shop):
    shop.items = people(25)
    source = add(desk, shop)
    path = begin(desk, source)

    def cancelled_meanwhile(query):
        if query.get("cursor") == "10":
            assert desk.delete(path).status_code == 204
        return shop.page(query)

    shop.answer = cancelled_meanwhile
    desk.work()
    shown = desk.get(path).json()
    assert (shown["status"], shown["read"]) == ("cancelled", 10)
    assert len(desk.by_external_id()) == 10
    assert desk.delete(path).json()["code"] == "already_finished"
    shop.answer = shop.page
    assert sync(desk, source)["status"] == "finished"


def test_a_deleted_source_is_pulled_no_further_and_its_customers_stay(desk, shop):
    shop.items = people(3)
    source = add(desk, shop)
    sync(desk, source)
    begin(desk, source)
    assert desk.delete(f"/sources/{source['id']}").status_code == 204
    desk.work()
    assert len(shop.asked) == 1
    assert len(desk.by_external_id()) == 3
    with tenant_context(desk.tenant):
        assert not Sync.objects.exists()


# ---- Sources that misbehave ----


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ((503, {}, b""), "The source answered 503."),
        ((200, {}, b"<html>"), "What the source answered is not JSON."),
        ((200, {"Content-Length": "99"}, b"{"), "closed the connection without a whole answer."),
    ],
)
def test_what_may_pass_is_tried_again_and_told_meanwhile(desk, shop, answer, error):
    shop.items = people(3)
    path = begin(desk, add(desk, shop))
    shop.answer = lambda query: answer
    _, claim = once(desk)
    outcome = syncing.run(claim)
    assert isinstance(outcome, Retry)
    assert error in outcome.error
    shown = desk.get(path).json()
    assert shown["status"] == "running"
    assert error in shown["error"]
    desk.engine.settle((claim, outcome))
    shop.answer = shop.page
    desk.jobs().update(state="pending")
    desk.work()
    assert desk.get(path).json() | {"status": "finished", "error": ""} == desk.get(path).json()


def test_the_last_try_ends_it_with_the_reason(desk, shop, monkeypatch):
    monkeypatch.setattr(syncing.POLICY.__class__, "allows", lambda *_, **__: False)
    shop.answer = lambda query: (500, {}, b"")
    shown = sync(desk, add(desk, shop))
    assert (shown["status"], shown["error"]) == (
        "failed", "The source answered 500. It was tried 10 times.",
    )  # fmt: skip
    assert desk.jobs().get().state == "succeeded"


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ((401, {}, b""), "The source answered 401."),
        ((302, {"Location": "http://127.0.0.1/"}, b""), "redirects are not followed"),
        ((200, {}, b'{"rows": []}'), "no list at 'data'"),
        ((200, {}, b"[]"), "no list at 'data'"),
        (as_page([], {"a": 1}), "cursor is not a text"),
        (as_page([], "x" * 1001), "cursor is not a text"),
        (as_page([], "a\0b"), "cursor is not a text"),
        (as_page([{}] * 5001), "5000 at most"),
        ((200, {}, b'{"data": ["' + b"x" * 5_000_000 + b'"]}'), "larger than 4194304 bytes"),
    ],
)
def test_what_will_not_pass_ends_it_with_the_reason(desk, shop, answer, error):
    shop.answer = lambda query: answer
    shown = sync(desk, add(desk, shop))
    assert shown["status"] == "failed"
    assert error in shown["error"]
    assert len(shop.asked) == 1


@pytest.mark.parametrize("circle", [["same"], ["a", "b"], ["a", "b", "c", "d", "e"]])
def test_a_source_that_goes_in_a_circle_is_stopped(desk, shop, circle):
    cursors = iter(["first", "second"] + circle * 20)
    shop.answer = lambda query: as_page(people(2), next(cursors))
    shown = sync(desk, add(desk, shop))
    assert shown["status"] == "failed"
    assert "in a circle" in shown["error"]
    assert len(shop.asked) <= 2 + 4 * len(circle)


def test_a_source_without_an_end_is_stopped(desk, shop, settings):
    limits = settings.SLIPWAY["CUSTOMERS"] | {"sync_pages_most": 4}
    settings.SLIPWAY = settings.SLIPWAY | {"CUSTOMERS": limits}
    shop.answer = lambda query: as_page([], int(query.get("cursor", 0)) + 1)
    shown = sync(desk, add(desk, shop))
    assert (shown["status"], shown["pages"]) == ("failed", 4)
    assert shown["error"] == "The source has more than 4 pages."


@pytest.mark.parametrize(("headers", "delay"), [({}, 30.0), ({"Retry-After": "7"}, 7.0)])
def test_it_waits_as_long_as_a_429_says_at_no_attempts_cost(desk, shop, headers, delay):
    path = begin(desk, add(desk, shop))
    shop.answer = lambda query: (429, headers, b"")
    _, claim = once(desk)
    outcome = syncing.run(claim)
    assert isinstance(outcome, Snooze)
    assert outcome.delay == delay
    assert "429" in desk.get(path).json()["error"]
    with tenant_context(desk.tenant):
        Sync.objects.update(throttled_since=timezone.now() - timedelta(days=1, seconds=1))
    assert isinstance(syncing.run(claim), Succeeded)
    assert desk.get(path).json()["status"] == "failed"


def test_an_address_inside_is_not_asked(desk, shop, settings):
    source = add(desk, shop)
    settings.WEBHOOK_OPEN_DESTINATIONS = []
    shown = sync(desk, source)
    assert shown["status"] == "failed"
    assert shop.asked == []
    refused = desk.post("/sources", {"name": "x", "url": "https://169.254.169.254/latest"})
    assert [error["pointer"] for error in refused.json()["errors"]] == ["/url"]


def test_one_whose_job_is_dead_is_said_to_be_stuck_and_is_in_nobodys_way(desk, shop):
    source = add(desk, shop)
    path = begin(desk, source)
    desk.jobs().update(state="dead_letter")
    assert desk.get(path).json()["status"] == "stuck"
    listed = desk.get(f"/sources/{source['id']}/syncs").json()["data"]
    assert [row["status"] for row in listed] == ["stuck"]
    begin(desk, source)
    assert desk.get(path).json()["error"] == syncing.JOB_DIED


# ---- Sources ----


def test_its_headers_are_sent_and_shown_to_nobody(desk, shop, operator):
    shop.items = people(1)
    source = add(desk, shop, headers={"X-Api-Key": "open-sesame"})
    assert source["headers"] == {"X-Api-Key": "••••••••"}
    sync(desk, source)
    assert shop.headers[0]["x-api-key"] == "open-sesame"
    (kept,) = operator.execute(
        "select headers from pool.customers_source where tenant_id = %s", [desk.tenant.pk]
    ).fetchone()
    assert kept
    assert "open-sesame" not in kept


def test_headers_do_not_go_to_another_host_unasked(desk, shop):
    source = add(desk, shop, headers={"X-Api-Key": "open-sesame"})
    path = f"/sources/{source['id']}"
    moved = "https://example.com/customers"
    refused = desk.patch(path, url=moved)
    assert [error["pointer"] for error in refused.json()["errors"]] == ["/headers"]
    assert desk.get(path).json()["url"] == shop.url
    assert desk.patch(path, url=shop.url + "&more=1").status_code == 200
    changed = desk.patch(path, url=moved, headers={"x-api-key": None})
    assert (changed.status_code, changed.json()["headers"]) == (200, {})


def test_a_source_is_changed_listed_and_named_once(desk, shop, settings):
    source = add(desk, shop)
    assert desk.patch(f"/sources/{source['id']}", page_size=7).json()["page_size"] == 7
    assert desk.get("/sources").json()["data"][0]["page_size"] == 7
    again = desk.post("/sources", {"name": "Shop", "url": shop.url})
    assert (again.status_code, again.json()["code"]) == (409, "source_name_taken")
    limits = settings.SLIPWAY["CUSTOMERS"] | {"sources_most": 1}
    settings.SLIPWAY = settings.SLIPWAY | {"CUSTOMERS": limits}
    assert desk.post("/sources", {"name": "x", "url": shop.url}).json()["code"] == (
        "too_many_sources"
    )


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"url": "ftp://example.com/"}, "/url"),
        ({"url": "https://localhost/"}, "/url"),
        ({"headers": {"Host": "x"}}, "/headers/Host"),
        ({"page_size": 0}, "/page_size"),
        ({"every_minutes": 4}, "/every_minutes"),
        ({"cursor_parameter": ""}, "/cursor_parameter"),
        ({"fields": {"name": "n"}}, "/fields/external_id"),
        ({"fields": {"external_id": "id", "nme": "n"}}, "/fields/nme"),
        ({"fields": {"external_id": ""}}, "/fields/external_id"),
        ({"name": "a\u202eb"}, "/name"),
    ],
)
def test_it_refuses_bad_sources(desk, shop, fields, pointer):
    refused = desk.post("/sources", {"name": "Shop", "url": shop.url} | fields)
    assert refused.status_code == 400
    assert [error["pointer"] for error in refused.json()["errors"]] == [pointer]
    assert desk.get("/sources").json()["data"] == []


# ---- By the clock ----


def due(desk):
    """The turns that wait, soonest first."""
    rows = Job.objects.using(OPERATOR).filter(tenant_id=desk.tenant.pk, state="scheduled")
    return list(rows.filter(kind=sources.KIND).order_by("due_at"))


def test_it_is_pulled_every_so_often(desks, shop):
    shop.items = people(2)
    source = add(desks, shop, every_minutes=5)
    for turn in range(2):
        (job,) = due(desks)
        assert job.args["turn"] == turn
        assert timedelta(minutes=4) < job.due_at - timezone.now() <= timedelta(minutes=5)
        Job.objects.using(OPERATOR).filter(pk=job.pk).update(state="pending")
        desks.work()
    listed = desks.get(f"/sources/{source['id']}/syncs").json()["data"]
    assert [row["status"] for row in listed] == ["finished", "finished"]


def test_a_turn_that_is_run_twice_leads_to_one_next_turn(desk, shop):
    add(desk, shop, every_minutes=5)
    desk.jobs().update(state="pending")
    _, claim = once(desk)
    sources.run_due(claim)
    sources.run_due(claim)
    assert [job.args["turn"] for job in due(desk)] == [1]
    assert desk.jobs().filter(kind=syncing.KIND).count() == 1


@pytest.mark.parametrize("change", [{"every_minutes": None}, {"every_minutes": 10}])
def test_turns_of_an_earlier_wish_do_nothing(desk, shop, change):
    source = add(desk, shop, every_minutes=5)
    (old,) = due(desk)
    desk.patch(f"/sources/{source['id']}", **change)
    Job.objects.using(OPERATOR).filter(pk=old.pk).update(state="pending")
    desk.work()
    assert not desk.jobs().filter(kind=syncing.KIND).exists()
    assert len(due(desk)) == (1 if change["every_minutes"] else 0)


# ---- Nobody else's ----


def test_another_tenant_sees_and_touches_no_source(desks, shop, client, other_tenant):
    shop.items = [{"external_id": ""}]
    source = add(desks, shop)
    shown = sync(desks, source)
    other = Desk(client, other_tenant)
    path = f"/sources/{source['id']}"
    assert other.get("/sources").json()["data"] == []
    for refused in (
        other.get(path),
        other.patch(path, name="x"),
        other.delete(path),
        other.post(f"{path}/sync"),
        other.get(f"{path}/syncs"),
        other.get(f"{path}/syncs/{shown['id']}"),
        other.get(f"{path}/syncs/{shown['id']}/rejected"),
        other.delete(f"{path}/syncs/{shown['id']}"),
    ):
        assert refused.status_code == 404
    assert desks.get(f"{path}/syncs/{shown['id']}").json() == shown  # The control.
    with tenant_context(other_tenant.ref):
        assert not Source.objects.exists()


def test_each_deed_needs_its_scope(desk, shop):
    source = add(desk, shop)
    reader = Desk(desk.client, desk.tenant)
    reader.headers = bearer(tenant_key(desk.tenant, "customers:read"))
    path = f"/sources/{source['id']}"
    assert reader.get(path).status_code == 200
    for refused in (
        reader.post("/sources", {"name": "x", "url": shop.url}),
        reader.patch(path, name="x"),
        reader.delete(path),
        reader.post(f"{path}/sync"),
    ):
        assert refused.json()["code"] == "missing_scope"
