"""Closing: who is told, what answers, and that it can be taken back for as long as is promised."""

from datetime import timedelta

import pytest
from django.core.checks import run_checks
from django.utils import timezone

from jobs.models import Job
from jobs.outcomes import Snooze, Succeeded
from lifecycle import closing, purging
from lifecycle.errors import PlanChanging
from lifecycle.models import Closure, PlanMove
from tenants import keys, problems, services
from tenants.context import PLATFORM, PLATFORM_ID, tenant_context
from tenants.models import AuditEntry, Tenant
from tests.lifecycle import residents
from tests.people import Browser, bearer, host_of, make_user, platform_key, tenant_key
from webhooks.models import Event, Payload

OPERATOR, WHY = "operator", "Asked for it, ticket 812."


def post(client, tenant, act, token=None):
    return client.post(
        f"/v1/tenants/{tenant.slug}/{act}", {"reason": WHY}, content_type="application/json",
        headers=bearer(token or platform_key()),
    )  # fmt: skip


def fresh(tenant):
    return Tenant.objects.using(OPERATOR).get(pk=tenant.pk)


def closure_of(tenant):
    return Closure.objects.using(OPERATOR).get(tenant_id=tenant.pk)


def job_of(tenant):
    return Job.objects.using(OPERATOR).get(pk=closure_of(tenant).pk)


def actions(tenant):
    rows = AuditEntry.objects.using(OPERATOR).filter(tenant_id=tenant.pk).order_by("id")
    return list(rows.filter(action__startswith="tenant.").values_list("action", "reason"))


@pytest.mark.parametrize("status", ["active", "suspended"])
def test_the_platform_closes_a_tenant_with_thirty_days_of_grace(client, make_tenant, status):
    tenant = make_tenant(status=status)
    answer = post(client, tenant, "close")
    assert answer.status_code == 202, answer.json()
    assert answer.json()["status"] == "closing"
    left = fresh(tenant).closes_at - timezone.now()
    assert timedelta(days=29, hours=23) < left <= timedelta(days=30)
    assert (job_of(tenant).state, job_of(tenant).due_at) == ("scheduled", fresh(tenant).closes_at)
    assert job_of(tenant).tenant_id == PLATFORM_ID
    assert actions(tenant) == [("tenant.closing", WHY)]
    until = fresh(tenant).closes_at
    assert post(client, tenant, "close").status_code == 202
    assert (fresh(tenant).closes_at, actions(tenant)) == (until, [("tenant.closing", WHY)])


def test_pages_and_keys_answer_410_and_nothing_new_is_taken(client, tenant):
    key = tenant_key(tenant)
    post(client, tenant, "close")
    assert Browser(host_of(tenant)).get("/").status_code == 410
    assert client.get("/v1/customers", headers=bearer(key)).status_code == 410
    platform = bearer(platform_key(), **{"Slipway-Tenant": tenant.slug})
    assert client.get("/v1/customers", headers=platform).status_code == 200
    answer = client.post(
        "/v1/customers", {"name": "New"}, content_type="application/json", headers=platform
    )
    assert (answer.status_code, answer.json()["code"]) == (410, "tenant_closed")


def test_it_is_reopened_within_its_grace_and_the_purge_leaves_it_alone(client, tenant, engine):
    post(client, tenant, "close")
    answer = post(client, tenant, "reopen")
    assert (answer.status_code, answer.json()["status"]) == (200, "active")
    assert answer.json()["closes_at"] is None
    assert Browser(host_of(tenant)).get("/").status_code == 200
    residents.due_now(closing.KIND)
    assert residents.work(engine, closing.KIND) == [Succeeded()]
    assert fresh(tenant).status == "active"
    assert [action for action, _ in actions(tenant)] == ["tenant.closing", "tenant.reopened"]


@pytest.mark.parametrize("door", ["operator", "platform"])
def test_reopening_lifts_no_suspension(client, tenant, door):
    """What was suspended when it was closed is suspended again, since when it was."""
    said = {"tenant_id": tenant.pk, "actor": "system:test", "reason": WHY}
    if door == "platform":
        said["door"] = services.Door(keys.parse(platform_key()))
    services.suspend(**said)
    since = fresh(tenant).suspended_at
    closing.close(**said)
    assert services.reopen(**said)
    assert (fresh(tenant).status, fresh(tenant).closes_at) == ("suspended", None)
    assert fresh(tenant).suspended_at == since
    assert Browser(host_of(tenant)).get("/").status_code == 403
    for _ in range(2):  # Sent again, by whoever got no answer.
        assert not services.reopen(**said)
        assert not services.reopen(**said, source="closing")
    assert (fresh(tenant).status, fresh(tenant).suspended_at) == ("suspended", since)
    assert services.reopen(**said, source="suspended")
    assert (fresh(tenant).status, fresh(tenant).suspended_at) == ("active", None)
    services.suspend(**said)
    assert services.reopen(**said)  # Of this suspension nobody can be mistaken.


def test_a_wish_that_is_sent_twice_lifts_no_suspension(client, tenant):
    """Over the API, as whoever got no answer does."""
    services.suspend(tenant_id=tenant.pk, actor="system:test", reason=WHY)
    post(client, tenant, "close")
    for _ in range(2):
        answer = post(client, tenant, "reopen")
        assert (answer.status_code, answer.json()["status"]) == (200, "suspended")
    wishes = ({"from": "closed"}, {"from": "suspended"}, {"from": "suspended"})
    told = [
        client.post(
            f"/v1/tenants/{tenant.slug}/reopen", {"reason": WHY} | wish,
            content_type="application/json", headers=bearer(platform_key()),
        )
        for wish in wishes
    ]  # fmt: skip
    assert [answer.status_code for answer in told] == [400, 200, 200]
    assert [answer.json().get("status") for answer in told[1:]] == ["active", "active"]


def test_the_platforms_door_cannot_choose_to_where_it_is_reopened(tenant):
    """By the function itself: a suspension is not lifted by way of a closing."""
    door = services.Door(keys.parse(platform_key()))
    services.suspend(tenant_id=tenant.pk, actor="system:test", reason=WHY)
    closing.close(tenant_id=tenant.pk, actor="system:test", reason=WHY)
    assert door.move(tenant.pk, source="closing", target="active") == 0
    assert door.move(tenant.pk, source="closing", target="suspended") == 1


def test_the_purge_waits_for_the_grace_to_be_over(client, tenant, engine):
    post(client, tenant, "close")
    residents.due_now(closing.KIND)
    [outcome] = residents.work(engine, closing.KIND)
    assert isinstance(outcome, Snooze)
    assert outcome.delay > 29 * 86400
    assert (fresh(tenant).status, closure_of(tenant).begun_at) == ("closing", None)


def test_nobody_reopens_it_after_its_grace(client, tenant):
    post(client, tenant, "close")
    Tenant.objects.using(OPERATOR).filter(pk=tenant.pk).update(closes_at=timezone.now())
    assert post(client, tenant, "reopen").status_code == 409
    with pytest.raises(problems.StaleState):
        services.reopen(tenant_id=tenant.pk, actor="system:test", reason=WHY)
    assert fresh(tenant).status == "closing"


def test_owners_are_mailed_and_the_platform_hears_an_event(client, tenant):
    owner = make_user(tenant)
    make_user(tenant, role="member")
    post(client, tenant, "close")
    mails = Job.objects.using(OPERATOR).filter(kind="mail.send", tenant_id=PLATFORM_ID)
    [mail] = mails.filter(args__to=[owner.email])
    assert tenant.name in mail.args["text"]
    assert not mails.filter(args__to__contains=f"{tenant.pk}").exists()
    with tenant_context(PLATFORM):
        event = Event.objects.filter(type="tenant.closing").latest("id")
        said = Payload.objects.get(event_id=event.pk).data
    assert f"tnt_{tenant.uuid}" in said
    assert tenant.slug not in said


def test_a_tenant_that_is_being_made_or_undone_is_not_closed(client, make_tenant):
    for status in ("provisioning", "closing"):
        answer = post(client, make_tenant(status=status), "close")
        assert (answer.status_code, answer.json()["code"]) == (409, "stale_state")
    answer = post(client, make_tenant(status="closed"), "close")
    assert (answer.status_code, answer.json()["code"]) == (410, "tenant_purged")


def test_a_tenant_that_moves_is_closed_when_it_has_arrived(tenant):
    PlanMove.objects.using(OPERATOR).create(
        tenant_id=tenant.pk, plan_before="free", plan_after="pro", home_before="pooled",
        home_after="dedicated", actor="system:test", reason=WHY,
    )  # fmt: skip
    with pytest.raises(PlanChanging):
        closing.close(tenant_id=tenant.pk, actor="system:test", reason=WHY)
    assert fresh(tenant).status == "active"


def test_a_key_without_the_scope_closes_nothing(client, tenant):
    assert post(client, tenant, "close", platform_key("tenants:read")).status_code == 403
    assert post(client, tenant, "close", tenant_key(tenant)).status_code == 403
    assert fresh(tenant).status == "active"


def test_the_database_takes_no_grace_shorter_than_a_day(tenant):
    """Whoever has the app role's login and a key cannot close a tenant at once."""
    from django.db import ProgrammingError

    proof = keys.parse(platform_key())
    with pytest.raises(ProgrammingError):
        services.Door(proof).close(tenant.pk, grace=timedelta(hours=1))


@pytest.mark.parametrize(
    ("said", "count"),
    [({"grace": 0}, 1), ({"grace": 0.5}, 1), ({"grace": "30"}, 1), ({"quarantine": -1}, 1),
     ({"grace": 1, "quarantine": 0}, 0), ({"grace": 2.5}, 0)],
)  # fmt: skip
def test_days_of_grace_that_could_not_be_given_are_refused_at_the_start(settings, said, count):
    settings.SLIPWAY = settings.SLIPWAY | {"CLOSING": settings.SLIPWAY["CLOSING"] | said}
    errors = run_checks(tags=["lifecycle"])
    assert len(errors) == count
    for error in errors:
        assert f'SLIPWAY["CLOSING"]["{next(iter(said))}"]' in error.msg


def test_closing_at_once_shortens_the_grace_that_runs(tenant, engine, monkeypatch):
    monkeypatch.setattr(purging, "SETTLING", 0.0)
    closing.close(tenant_id=tenant.pk, actor="system:test", reason=WHY)
    assert closing.close_now(tenant_id=tenant.pk, actor="system:test", reason="At once.")
    residents.due_now(closing.KIND)
    residents.work(engine, closing.KIND)
    assert fresh(tenant).status == "closed"
    assert Browser(host_of(tenant)).get("/").status_code == 410
