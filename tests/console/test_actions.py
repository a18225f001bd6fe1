"""What operators do in the console: by whom, asked how, told what, and with which trace."""

import json
import re
import time
from threading import Thread
from uuid import UUID, uuid4

import pytest
from django.conf import settings
from django.contrib import admin
from django.db import DatabaseError, connections, transaction

from config.admin.acting import Acting
from console.roles import DEEDS
from jobs.models import DeadLetter, Lane
from jobs.services import enqueue
from tenants import audit
from tenants.context import PLATFORM, tenant_context
from tenants.models import AuditEntry
from tenants.postgres import token
from tenants.routers import as_app, as_operator
from tests.console.acting import (
    ACTS,
    Signed,
    act_url,
    campaign,
    dead,
    dead_job,
    entries,
    fresh,
    job,
    seen,
)
from tests.console.operators import letter
from tests.jobs.conftest import Engine, withdraw_everything
from tests.people import Browser, bearer, tenant_key
from tests.webhooks.ears import listen, publish_in
from webhooks import moving
from webhooks.models import Delivery

OPERATOR = "operator"
DECLARED = {
    (f"{model._meta.app_label}/{model._meta.model_name}", act.name): act
    for model, of in admin.site._registry.items()
    if isinstance(of, Acting)
    for act in of.acts
}


@pytest.fixture(scope="module")
def people(django_db_blocker):
    """One of each role."""
    return {role: Signed(role) for role in ("viewer", "operator", "administrator")}


@pytest.fixture
def operator(people):
    return people["operator"]


@pytest.fixture
def engine():
    withdraw_everything()
    taken_apart = Engine()
    yield taken_apart
    taken_apart.close()


@pytest.fixture
def viewer(people):
    return people["viewer"]


def why() -> str:
    return f"ticket {uuid4()}"


# ---- Every act, every role ----


def test_every_act_that_is_declared_is_tried_here():
    tried = {(path, name) for path, acts in ACTS.items() for name in acts}
    assert set(DECLARED) == tried


def test_every_act_asks_for_a_permission_that_some_role_has():
    assert {act.permission for act in DECLARED.values()} <= DEEDS["administrator"]


def one_by_one():
    """Each act; those on a lane that an object has are a lane's own, and tried thoroughly."""
    for path, name in sorted(DECLARED):
        again = path != "jobs/lane" and ("-lane" in name or name in {"set-window", "set-rate"})
        yield pytest.param(path, name, marks=pytest.mark.thorough if again else ())


@pytest.mark.parametrize(("path", "name"), list(one_by_one()))
def test_an_act_is_done_by_those_who_may_and_refused_to_all_others(people, tenant, path, name):
    make, form, action = ACTS[path][name]
    row, reason = make(tenant), why()
    form = {field: said(row) if callable(said) else said for field, said in form.items()}
    url, act = act_url(row, name), DECLARED[path, name]
    allowed = [role for role in people if act.permission in DEEDS[role]]
    before = fresh(row).__dict__
    for role in set(people) - set(allowed):
        assert people[role].get(url).status_code == 403
        assert people[role].post(url, reason=reason, seen=seen(row), **form).status_code == 403
        assert url not in people[role].html(f"/console/{path}/{row.pk}/change/")
    assert {**before, "_state": 0} == {**fresh(row).__dict__, "_state": 0}
    assert entries(reason) == []
    doer = people[allowed[0]]
    assert url.replace("&", "&amp;") in doer.html(f"/console/{path}/{row.pk}/change/")
    answer = doer.confirm(url, reason=reason, **form)
    assert answer.status_code == 302, answer.content.decode()
    (entry, *_) = entries(reason)
    assert entry.action == action
    assert entry.actor == doer.actor
    assert (entry.request_id, entry.address) == (answer["X-Request-ID"], "127.0.0.1")


def test_who_is_not_signed_in_is_sent_to_sign_in(tenant):
    row = dead_job(tenant)
    answer = Browser().get(act_url(row, "replay"))
    assert answer.status_code == 302
    assert answer["Location"].startswith("/console/login/")
    assert fresh(row).state == "dead_letter"


# ---- What the page asks ----


def test_looking_at_an_acts_page_changes_nothing(operator, tenant):
    row = dead_job(tenant)
    html = operator.html(act_url(row, "replay") + "&reason=by+its+address")
    assert "<strong>1</strong> job" in html
    assert "Done again, with a new budget of attempts" in html
    assert fresh(row).state == "dead_letter"


@pytest.mark.parametrize("reason", ["", "  \n "])
def test_without_a_reason_nothing_is_done_and_it_is_asked_for(operator, tenant, reason):
    row = dead_job(tenant)
    answer = operator.confirm(act_url(row, "replay"), reason=reason)
    assert answer.status_code == 200
    assert "This field is required." in answer.content.decode()
    assert fresh(row).state == "dead_letter"


def test_without_its_csrf_token_nothing_is_done(operator, tenant):
    row = dead_job(tenant)
    answer = operator.browser.client.post(
        act_url(row, "replay"), {"reason": "x", "seen": seen(row)}, headers=operator.browser.headers
    )
    assert answer.status_code == 403
    assert fresh(row).state == "dead_letter"


def test_a_value_that_cannot_be_is_said_beside_its_field(operator, tenant):
    endpoint = listen(tenant.ref)
    answer = operator.confirm(act_url(endpoint, "set-window"), reason="x", window="0")
    assert answer.status_code == 200
    assert "greater than or equal to 1" in answer.content.decode()
    assert not Lane.objects.using(OPERATOR).filter(key=endpoint.lane).exists()


def test_the_page_asks_what_first_and_why_last_and_shows_what_it_died_of(operator, tenant):
    html = operator.html(act_url(listen(tenant.ref), "set-window"))
    assert 0 < html.index('name="window"') < html.index('name="reason"')
    row = dead_job(tenant)
    page = operator.html(f"/console/jobs/deadletter/act/replay/?act.row={_letter_of(row).pk}")
    assert "HTTP 503" in page.partition('class="act-sample"')[2].partition("</table>")[0]


def test_an_empty_list_offers_nothing_to_do(operator, tenant):
    path = f"/console/jobs/job/?tenant={tenant.slug}&state=dead_letter"
    assert "act-choices" in operator.html("/console/jobs/job/")
    empty = operator.html(path)
    assert 'class="acts"' not in empty
    dead_job(tenant)
    assert "All that is found" in operator.html(path)


def test_undoing_a_sign_up_says_what_that_means(operator, tenant):
    row = dead(ACTS["onboarding/pendingonboarding"]["retry"][0](tenant), "onboarding")
    html = operator.html(act_url(row, "undo"))
    assert "its schema or rows, its files, its keys and its people" in html


def test_what_strangers_sent_stays_text_on_the_page(operator, tenant):
    evil = "<script>alert(1)</script>"
    row = job(tenant, kind="act", state="dead_letter", last_error=evil)
    letter(row, "jobs", error=evil)
    for one in (row, row):
        html = operator.html(act_url(one, "replay"))
        assert "<script>alert" not in html
    html = operator.html(f"/console/jobs/deadletter/act/replay/?act.row={_letter_of(row).pk}")
    assert "<script>alert" not in html


def _letter_of(row):
    return DeadLetter.objects.using(OPERATOR).get(work_id=row.pk)


# ---- What stands otherwise by now ----


def test_what_was_resolved_meanwhile_is_told_and_not_done_again(operator, tenant):
    row, reason = dead_job(tenant), why()
    html = operator.html(act_url(row, "replay"))
    (was,) = re.findall(r'name="seen" value="([^"]*)"', html)
    operator.told(operator.confirm(act_url(row, "replay"), reason=reason))
    answer = operator.post(act_url(row, "replay"), reason=reason, seen=was)
    assert "it stands otherwise by now" in operator.told(answer).lower()
    assert len(entries(reason)) == 1


def test_two_clicks_send_a_finished_delivery_once(operator, tenant):
    """A succeeded delivery may be replayed: what it became in between says that it was."""
    endpoint, event = listen(tenant.ref), publish_in(tenant)
    row = Delivery.objects.using(OPERATOR).get(event_id=event.pk, endpoint_id=endpoint.pk)
    Delivery.objects.using(OPERATOR).filter(pk=row.pk).update(state="succeeded", attempts=1)
    url, reason = act_url(row, "replay"), why()
    was = seen(row)
    operator.told(operator.post(url, reason=reason, seen=was))
    # It was delivered again before the second click arrives.
    Delivery.objects.using(OPERATOR).filter(pk=row.pk).update(state="succeeded", attempts=2)
    assert "stands otherwise" in operator.told(operator.post(url, reason=reason, seen=was))
    assert fresh(row).state == "succeeded"
    assert len(entries(reason)) == 1


def test_two_clicks_at_once_do_it_once(people, tenant):
    row, reason = dead_job(tenant), why()
    url, was = act_url(row, "replay"), seen(row)
    answers = []

    def click(role):
        answers.append(people[role].post(url, reason=reason, seen=was).status_code)
        connections.close_all()

    clicks = [Thread(target=click, args=[role]) for role in ("operator", "administrator")]
    for one in clicks:
        one.start()
    for one in clicks:
        one.join()
    assert answers == [302, 302]
    assert len(entries(reason)) == 1


def test_a_post_that_saw_nothing_does_nothing(operator, tenant):
    row = dead_job(tenant)
    told = operator.told(operator.post(act_url(row, "replay"), reason="x"))
    assert "stands otherwise" in told
    assert fresh(row).state == "dead_letter"


def test_what_does_not_fit_has_no_button_and_cannot_be_done_by_hand(operator, tenant):
    row, reason = job(tenant, kind="act"), why()
    url = act_url(row, "replay")
    assert url not in operator.html(f"/console/jobs/job/{row.pk}/change/")
    assert "There is nothing here" in operator.html(url)
    assert "cannot be" in operator.told(operator.post(url, reason=reason, seen=seen(row)))
    assert (fresh(row).state, entries(reason)) == ("pending", [])


def test_why_a_delivery_cannot_be_replayed_is_told(operator, tenant):
    endpoint, event = listen(tenant.ref), publish_in(tenant)
    row = Delivery.objects.using(OPERATOR).get(event_id=event.pk, endpoint_id=endpoint.pk)
    row = dead(row, "deliveries")
    type(endpoint).objects.using(OPERATOR).filter(pk=endpoint.pk).update(
        disabled_at="2026-01-01T00:00Z"
    )
    told = operator.told(operator.confirm(act_url(row, "replay"), reason="x"))
    assert "endpoint disabled" in told
    assert fresh(row).state == "dead_letter"


@pytest.mark.parametrize("query", ["", "?act.row=", "?act.row=nobody", f"?act.row={UUID(int=7)}"])
def test_an_act_on_nothing_is_not_found(operator, query):
    assert operator.get(f"/console/jobs/job/act/replay/{query}").status_code == 404
    assert operator.get(f"/console/jobs/job/act/nonsense/{query}").status_code == 404


# ---- Several rows ----


def test_ticked_rows_are_done_each_for_itself_and_the_count_is_told(operator, tenant):
    rows, reason = [dead_job(tenant) for _ in range(3)], why()
    ticked = [str(row.pk) for row in rows]
    answer = operator.browser.post(
        "/console/jobs/job/?state=dead_letter",
        form="/console/jobs/job/?state=dead_letter",
        action="discard",
        index="0",
        _selected_action=ticked,
    )
    assert answer.status_code == 302
    assert {fresh(row).state for row in rows} == {"dead_letter"}  # Asked for, not done.
    url = answer["Location"]
    assert "<strong>3</strong> jobs" in operator.html(url)
    answer = operator.confirm(url, reason=reason)
    assert answer["Location"] == "/console/jobs/job/?state=dead_letter"
    assert "3 of 3 jobs discarded." in operator.told(answer)
    assert {fresh(row).state for row in rows} == {"discarding"}
    assert {entry.target for entry in entries(reason)} == {f"jobs:{row.pk}" for row in rows}


def test_of_several_rows_those_that_do_not_fit_are_left_out(operator, tenant):
    good, other = dead_job(tenant), job(tenant, kind="act")
    url = act_url(good, "replay", other)
    assert "1 more cannot be, as they stand" in operator.html(url)
    operator.confirm(url, reason="x")
    assert (fresh(good).state, fresh(other).attempts) == ("pending", 0)


def test_of_those_that_are_left_out_it_is_told_that_they_cannot_be_as_they_stand(operator, tenant):
    good, other = dead_job(tenant), job(tenant, kind="act")
    told = operator.told(operator.confirm(act_url(good, "replay", other), reason="x"))
    assert "1 of 2 jobs replayed." in told
    assert "1 of 2 jobs not replayed: it cannot be, as it stands." in told
    assert "otherwise" not in told


def test_a_viewer_is_offered_nothing_on_lists_and_pages(viewer, tenant):
    row = dead_job(tenant)
    for html in (
        viewer.html("/console/jobs/job/?state=dead_letter"),
        viewer.html(f"/console/jobs/job/{row.pk}/change/"),
    ):
        assert "/act/" not in html
        assert 'name="action"' not in html
    answer = viewer.browser.post(
        "/console/jobs/job/", form="/console/jobs/job/", action="discard", index="0",
        _selected_action=[str(row.pk)],
    )  # fmt: skip
    assert answer.status_code in {200, 302, 403}
    assert "/act/" not in answer.get("Location", "")
    assert fresh(row).state == "dead_letter"


# ---- What some of them come to ----


def test_a_lane_without_a_row_is_paused_from_its_endpoints_page(operator, tenant):
    endpoint = listen(tenant.ref)
    operator.confirm(act_url(endpoint, "pause-lane"), reason="their gateway is down", hours="")
    lane = Lane.objects.using(OPERATOR).get(tenant_id=tenant.pk, key=endpoint.lane)
    assert lane.operator_paused_until.year == 9999
    assert lane.operator_why == "their gateway is down"
    assert lane.paused_until is None  # What the tenant says of it is the tenant's.


def test_an_endpoint_is_disabled_as_its_tenant_would_and_enabled_again(operator, tenant):
    endpoint, event = listen(tenant.ref), publish_in(tenant)
    row = Delivery.objects.using(OPERATOR).get(event_id=event.pk, endpoint_id=endpoint.pk)
    operator.confirm(act_url(endpoint, "disable"), reason="it floods us")
    assert fresh(row).state == "held"
    operator.confirm(act_url(endpoint, "enable"), reason="it is quiet again")
    assert fresh(row).state == "pending"


def test_a_campaign_is_paused_where_its_tenant_has_a_schema_of_its_own(operator, dedicated_tenant):
    row, reason = campaign(dedicated_tenant), why()
    operator.confirm(act_url(row, "pause"), reason=reason)
    assert (fresh(row).state, fresh(row).reason) == ("paused", reason)
    (entry,) = entries(reason)
    assert (entry.actor, entry.tenant_id) == (operator.actor, dedicated_tenant.pk)


def test_the_platforms_own_endpoint_is_disabled_as_a_tenants_is(operator):
    endpoint, reason = listen(PLATFORM), why()
    operator.confirm(act_url(endpoint, "disable"), reason=reason)
    assert fresh(endpoint).disabled_at is not None
    assert [entry.actor for entry in entries(reason)] == [operator.actor]


def test_a_suspended_tenants_keys_are_refused_until_it_is_reopened(client, operator, tenant):
    headers = bearer(tenant_key(tenant))
    operator.confirm(act_url(tenant, "suspend"), reason="unpaid")
    assert client.get("/v1/endpoints", headers=headers).status_code == 403
    operator.confirm(act_url(fresh(tenant), "reopen"), reason="paid")
    assert client.get("/v1/endpoints", headers=headers).status_code == 200


# ---- As the app role, for an operator ----


def vouched(key=settings.CONTEXT_KEY, *, expires=60.0, **said):
    """The arguments of slipway.record_for_operator."""
    entry = {"id": str(uuid4()), "actor": "operator:1", "action": "a", "target": "b", "reason": ""}
    text = json.dumps({**entry, "request_id": "", "expires": time.time() + expires, **said})
    return [text, token.key_id(settings.CONTEXT_KEY), token.vouch(key, text)]


@pytest.mark.parametrize(
    "arguments",
    [
        vouched(b"some other key"),
        vouched(expires=-1.0),
        [*vouched()[:2], vouched()[2]],  # Of another entry.
        [*vouched()[:2], None],
    ],
    ids=["forged", "expired", "another", "none"],
)
def test_the_app_role_passes_for_an_operator_with_no_mac_of_the_applications(tenant, arguments):
    refused = pytest.raises(DatabaseError, match=r"forged|expired")
    with tenant_context(tenant), connections["default"].cursor() as cursor, refused:
        cursor.execute("select slipway.record_for_operator(%s, %s, %s)", arguments)
    target = json.loads(arguments[0])["id"]
    assert not AuditEntry.objects.using(OPERATOR).filter(pk=target).exists()


def test_an_entry_that_is_vouched_for_is_still_its_tenants_alone(tenant, other_tenant):
    arguments = vouched(tenant_id=other_tenant.pk)
    refused = pytest.raises(DatabaseError, match="another tenant's")
    with tenant_context(tenant), connections["default"].cursor() as cursor, refused:
        cursor.execute("select slipway.record_for_operator(%s, %s, %s)", arguments)


def test_only_the_consoles_own_code_is_vouched_for(tenant):
    said = {"action": "a", "target": "b", "tenant_id": tenant.pk}
    with tenant_context(tenant), pytest.raises(DatabaseError, match="no_operator"):
        audit.record(actor="operator:1", **said)
    with as_app(), tenant_context(tenant), pytest.raises(DatabaseError, match="no_operator"):
        audit.record(actor="operator:1", **said)  # No operator was there to lend it.


def test_what_a_job_goes_on_with_is_the_systems_though_an_operator_asked(operator, tenant, engine):
    """A job's arguments are a tenant's to write: they prove nothing of an operator."""
    endpoint, event, reason = listen(tenant.ref), publish_in(tenant), why()
    with as_operator(), as_app(), tenant_context(tenant), transaction.atomic():
        enqueue(
            "webhooks.move",
            tenant_id=tenant.pk,
            args={
                "endpoint_id": str(endpoint.pk), "move": "cancel", "reason": reason,
                "actor": operator.actor,
            },
        )  # fmt: skip
    type(endpoint).objects.using(OPERATOR).filter(pk=endpoint.pk).update(
        deleted_at="2026-01-01T00:00Z"
    )
    (claim,) = engine.claim("jobs", drainer=engine.drainer())
    moving.run(claim)
    row = Delivery.objects.using(OPERATOR).get(event_id=event.pk)
    assert row.state == "cancelled"
    (entry,) = entries(reason)
    assert entry.actor == "system:webhooks.move"
