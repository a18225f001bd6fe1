"""A session belongs to one tenant, or to the console, and works nowhere else."""

import re

import pytest
from django.utils import timezone

from tenants.context import tenant_context
from tenants.models import Session
from tenants.routers import as_operator
from tenants.sessions import SessionStore
from tenants.tasks import sessions
from tests.people import PASSWORD, Browser, host_of, join, make_user, tenant_key


def signed_in(browser) -> bool:
    return "Sign out" in browser.get("/").content.decode()


@pytest.fixture
def member(tenant):
    return make_user(tenant)


@pytest.fixture
def browser(tenant, member):
    browser = Browser(host_of(tenant))
    assert browser.login(member).status_code == 302
    assert signed_in(browser)
    return browser


def test_a_session_works_on_its_own_host_alone(browser, other_tenant):
    elsewhere = Browser(host_of(other_tenant))
    elsewhere.take_cookie(browser.cookie())
    assert not signed_in(elsewhere)
    assert signed_in(browser)


def test_a_session_of_one_tenant_is_no_session_of_another_even_for_a_member_of_both(
    browser, member, other_tenant
):
    join(member, other_tenant, role="owner")
    elsewhere = Browser(host_of(other_tenant))
    elsewhere.take_cookie(browser.cookie())
    assert not signed_in(elsewhere)
    # The control: the same person signs in there.
    assert elsewhere.login(member).status_code == 302
    assert signed_in(elsewhere)


def test_a_member_who_is_removed_is_out_with_the_next_click(browser, member, operator):
    operator.execute("delete from tenants_membership where user_id = %s", [member.pk])
    assert not signed_in(browser)


def test_a_person_who_is_disabled_is_out_with_the_next_click(browser, member, operator):
    operator.execute("update tenants_user set is_active = false where id = %s", [member.pk])
    assert not signed_in(browser)


def test_a_changed_password_ends_the_sessions_begun_before(browser, member):
    with as_operator():
        member.set_password("another-good-password")
        member.save(update_fields=["password"])
    assert not signed_in(browser)


def test_a_suspended_tenants_session_shows_nothing(browser, tenant, operator):
    from tenants import services

    services.suspend(tenant_id=tenant.pk, actor="operator:1", reason="Unpaid.")
    refused = browser.get("/")
    assert refused.status_code == 403
    assert "Sign out" not in refused.content.decode()


def test_the_table_signs_nobody_in(browser, tenant, operator):
    stored = operator.execute(
        "select session_key from tenants_session where tenant_id = %s", [tenant.pk]
    ).fetchall()
    assert stored
    assert browser.cookie() not in {key for (key,) in stored}
    thief = Browser(host_of(tenant))
    for (key,) in stored:
        thief.take_cookie(key)
        assert not signed_in(thief)


def test_signing_in_changes_the_sessions_key(tenant, member):
    browser = Browser(host_of(tenant))
    with tenant_context(tenant.ref):
        planted = SessionStore()
        planted["planted"] = True
        planted.create()
    browser.take_cookie(planted.session_key)
    browser.login(member)
    assert signed_in(browser)
    assert browser.cookie() != planted.session_key
    fixated = Browser(host_of(tenant))
    fixated.take_cookie(planted.session_key)
    assert not signed_in(fixated)


def test_signing_out_ends_the_session_in_the_database(browser, tenant, operator):
    cookie = browser.cookie()
    browser.post("/logout", form="/")
    thief = Browser(host_of(tenant))
    thief.take_cookie(cookie)
    assert not signed_in(thief)
    assert operator.execute(
        "select count(*) from tenants_session where tenant_id = %s", [tenant.pk]
    ).fetchone() == (0,)


def test_an_expired_session_is_none(browser, tenant, operator):
    operator.execute(
        "update tenants_session set expire_date = now() - interval '1 second' where tenant_id = %s",
        [tenant.pk],
    )
    assert not signed_in(browser)


def test_the_app_role_reads_one_tenants_sessions_at_most(browser, app_connection, tenant):
    with tenant_context(tenant.ref):
        assert Session.objects.count() == 1
    assert app_connection.execute("select count(*) from tenants_session").fetchone() == (0,)


# ---- The console ----


@pytest.fixture
def staff():
    return make_user(staff=True)


@pytest.fixture
def console(staff):
    browser = Browser()
    answer = browser.post("/console/login/?next=/console/", username=staff.email, password=PASSWORD)
    assert answer.status_code == 302
    assert "Console" in browser.get("/console/").content.decode()
    return browser


def test_an_operator_signs_in_to_the_console_and_sees_all_tenants(console, tenant, other_tenant):
    page = console.get("/console/tenants/tenant/").content.decode()
    assert tenant.slug in page
    assert other_tenant.slug in page


def test_the_console_does_not_even_read_a_tenants_session(browser, tenant):
    with tenant_context(tenant.ref):
        assert SessionStore(browser.cookie()).load()
    with as_operator():
        assert SessionStore(browser.cookie()).load() == {}
        assert not SessionStore().exists(browser.cookie())


def test_a_member_is_nobody_in_the_console(browser, member):
    visitor = Browser()
    visitor.take_cookie(browser.cookie())
    assert visitor.get("/console/").status_code == 302
    refused = visitor.post("/console/login/", username=member.email, password=PASSWORD)
    assert refused.status_code == 200
    assert "errornote" in refused.content.decode()


def test_an_operator_is_nobody_on_a_tenants_pages(console, staff, tenant):
    visitor = Browser(host_of(tenant))
    visitor.take_cookie(console.cookie())
    assert not signed_in(visitor)
    assert visitor.login(staff).status_code == 403


def test_not_even_an_operator_who_is_a_member(console, staff, tenant):
    join(staff, tenant, role="owner")
    assert Browser(host_of(tenant)).login(staff).status_code == 403


def test_the_app_role_sees_no_console_session_and_no_operator(console, staff, tenant, operator):
    assert operator.execute(
        "select count(*) from tenants_session where tenant_id is null"
    ).fetchone() >= (1,)
    with tenant_context(tenant.ref):
        assert not Session.objects.filter(tenant=None).exists()
        assert not type(staff).objects.filter(pk=staff.pk).exists()


def test_the_platforms_own_pages_keep_no_session(client):
    response = client.get("/", headers={"Host": "slipway.localhost"})
    assert response.status_code == 200
    assert "slipway" not in response.cookies


def test_the_console_shows_and_changes_nothing(console, tenant):
    for path in (
        f"/console/tenants/tenant/{tenant.pk}/change/",
        "/console/tenants/user/",
        "/console/tenants/auditentry/",
        "/console/tenants/apikey/",
        "/console/tenants/platformkey/",
        "/console/tenants/membership/",
        "/console/tenants/domain/",
    ):
        page = console.get(path)
        assert page.status_code == 200, path
        assert 'name="_save"' not in page.content.decode()
        assert "secret_hash" not in page.content.decode()
    assert console.get("/console/tenants/tenant/add/").status_code == 403
    assert console.get(f"/console/tenants/tenant/{tenant.pk}/delete/").status_code == 403


def test_the_console_shows_every_table_that_is_registered(console, tenant):
    tenant_key(tenant)
    index = console.get("/console/").content.decode()
    shown = set(re.findall(r'href="(/console/[a-z]+/[a-z]+/)"', index))
    assert len(shown) >= 14
    for path in shown:
        listed = console.get(path)
        assert listed.status_code == 200, path
        assert "Add " not in listed.content.decode(), path
        row = re.search(rf'href="({path}[^"]+/change/[^"]*)"', listed.content.decode())
        if row:
            page = console.get(row[1])
            assert page.status_code == 200, row[1]
            assert 'name="_save"' not in page.content.decode(), row[1]


def test_a_session_lasts_two_weeks_at_most(browser, tenant, operator):
    (expires,) = operator.execute(
        "select expire_date from tenants_session where tenant_id = %s", [tenant.pk]
    ).fetchone()
    assert (expires - timezone.now()).days <= 14


def test_expired_sessions_are_deleted_of_all_tenants_and_no_others(
    tenant, other_tenant, make_tenant, operator
):
    kept = make_tenant()
    for owner in (tenant, other_tenant, kept):
        sign_in = Browser(host_of(owner))
        assert sign_in.login(make_user(owner)).status_code == 302
    operator.execute(
        "update tenants_session set expire_date = now() - interval '1 second'"
        " where tenant_id = any (%s)",
        [[tenant.pk, other_tenant.pk]],
    )
    sessions()
    left = operator.execute(
        "select tenant_id from tenants_session where tenant_id = any (%s)",
        [[tenant.pk, other_tenant.pk, kept.pk]],
    ).fetchall()
    assert left == [(kept.pk,)]
