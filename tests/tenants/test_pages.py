"""A tenant's own pages, as a browser sees them."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from django.test import Client

from config.limits import Limit
from tests.people import (
    PASSWORD,
    Browser,
    host_of,
    join,
    make_user,
    prefix_of,
    tenant_key,
)

ROOT = Path(__file__).parent.parent.parent


def text(response) -> str:
    return response.content.decode()


def test_a_stranger_sees_the_name_and_where_to_sign_in_and_no_more(tenant):
    owner = make_user(tenant)
    token = tenant_key(tenant)
    page = Browser(host_of(tenant)).get("/")
    assert page.status_code == 200
    assert tenant.name in text(page)
    assert 'href="/login"' in text(page)
    assert owner.email not in text(page)
    assert prefix_of(token) not in text(page)


def test_the_owner_signs_in_and_sees_plan_members_and_the_first_key(tenant):
    owner, colleague = make_user(tenant), make_user(tenant, role="member")
    token = tenant_key(tenant)
    browser = Browser(host_of(tenant))
    answer = browser.login(owner)
    assert (answer.status_code, answer.headers["Location"]) == (302, "/")
    page = text(browser.get("/"))
    assert tenant.plan in page
    assert owner.email in page
    assert colleague.email in page
    assert f"slw_{prefix_of(token)}_…" in page
    assert token.split("_")[2] not in page


def test_a_dedicated_tenant_has_the_same_page(dedicated_tenant):
    browser = Browser(host_of(dedicated_tenant))
    assert browser.login(make_user(dedicated_tenant)).status_code == 302
    assert "dedicated" not in text(browser.get("/"))
    assert dedicated_tenant.plan in text(browser.get("/"))


def test_a_mere_member_sees_no_keys(tenant):
    member = make_user(tenant, role="member")
    token = tenant_key(tenant)
    browser = Browser(host_of(tenant))
    browser.login(member)
    assert "Members" in text(browser.get("/"))
    assert prefix_of(token) not in text(browser.get("/"))


def test_the_page_shows_nothing_of_another_tenant(tenant, other_tenant):
    stranger = make_user(other_tenant)
    their_key = tenant_key(other_tenant)
    browser = Browser(host_of(tenant))
    browser.login(make_user(tenant))
    page = text(browser.get("/"))
    for theirs in (stranger.email, prefix_of(their_key), other_tenant.name, other_tenant.slug):
        assert theirs not in page


def test_wrong_password_no_member_and_nobody_are_one_answer(tenant, other_tenant):
    owner, stranger = make_user(tenant), make_user(other_tenant)
    invited = make_user(tenant, accepted=False)
    inactive = make_user(tenant, activated=False)
    browser = Browser(host_of(tenant))
    answers = [
        browser.post("/login", email=owner.email, password="wrong-password"),
        browser.post("/login", email=stranger.email, password=PASSWORD),
        browser.post("/login", email=invited.email, password=PASSWORD),
        browser.post("/login", email=inactive.email, password=PASSWORD),
        browser.post("/login", email="nobody@example.org", password=PASSWORD),
    ]
    assert [answer.status_code for answer in answers] == [403] * 5
    pages = {re.sub(r'value="[^"]*"', "", text(answer)) for answer in answers}
    assert len(pages) == 1
    # The controls: the same people where they belong.
    assert browser.login(owner).status_code == 302
    assert Browser(host_of(other_tenant)).login(stranger).status_code == 302


def test_an_address_is_known_in_any_case(tenant):
    make_user(tenant, email="Ada@Example.org".lower())
    browser = Browser(host_of(tenant))
    answer = browser.post("/login", email="ADA@example.ORG", password=PASSWORD)
    assert answer.status_code == 302


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"email": "no-address", "password": PASSWORD},
        {"email": "a@example.org"},
        {"email": "a@example.org", "password": "x" * 1000},
        {"email": "a" * 300 + "@example.org", "password": PASSWORD},
        {"email": "a\x00@example.org", "password": PASSWORD},
    ],
)
def test_a_form_that_is_not_filled_in_is_shown_again(tenant, fields):
    answer = Browser(host_of(tenant)).post("/login", **fields)
    assert answer.status_code == 400
    assert 'role="alert"' in text(answer)


def test_guessing_is_slowed_down_for_one_account(tenant, monkeypatch):
    monkeypatch.setattr("tenants.throttling.LOGIN_ACCOUNT", Limit("login-account", 2, 60))
    owner, other = make_user(tenant), make_user(tenant)
    browser = Browser(host_of(tenant))
    for _ in range(2):
        assert browser.login(owner, "wrong-password").status_code == 403
    refused = browser.login(owner)  # Even the right one, now.
    assert refused.status_code == 429
    assert int(refused.headers["Retry-After"]) >= 1
    assert browser.login(other).status_code == 302


def test_guessing_is_slowed_down_for_one_address_over_many_accounts(tenant, monkeypatch):
    monkeypatch.setattr("tenants.throttling.LOGIN_ADDRESS", Limit("login-address-test", 2, 60))
    browser = Browser(host_of(tenant))
    statuses = [
        browser.post("/login", email=f"p{n}@example.org", password=PASSWORD).status_code
        for n in range(3)
    ]
    assert statuses == [403, 403, 429]


def test_another_site_cannot_post_the_forms(tenant):
    owner = make_user(tenant)
    client = Client(enforce_csrf_checks=True)
    for path, fields in (
        ("/login", {"email": owner.email, "password": PASSWORD}),
        ("/logout", {}),
    ):
        answer = client.post(path, fields, headers={"Host": host_of(tenant)})
        assert answer.status_code == 403


def test_only_a_post_signs_out(tenant):
    browser = Browser(host_of(tenant))
    browser.login(make_user(tenant))
    assert browser.get("/logout").status_code == 405
    assert "Sign out" in text(browser.get("/"))
    assert browser.post("/logout", form="/").status_code == 302
    assert "Sign out" not in text(browser.get("/"))


def test_no_cache_keeps_the_pages(tenant):
    browser = Browser(host_of(tenant))
    for path in ("/", "/login"):
        assert "no-store" in browser.get(path).headers["Cache-Control"]


def test_the_pages_keep_a_strict_policy(tenant):
    browser = Browser(host_of(tenant))
    browser.login(make_user(tenant))
    join(make_user(), tenant)
    pages = [browser.get("/"), browser.get("/login"), browser.get("/nowhere"), Browser().get("/")]
    for page in pages:
        policy = page.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert page.headers["X-Frame-Options"] == "DENY"
        assert page.headers["Referrer-Policy"] == "same-origin"
        assert page.headers["X-Content-Type-Options"] == "nosniff"
        html = text(page)
        assert not re.search(r"<style|style=|<script(?![^>]*src=)|\son\w+=|javascript:", html)


def test_a_name_with_markup_is_shown_as_text(tenant, operator):
    operator.execute(
        "update tenants_tenant set name = '<script>alert(1)</script>' where id = %s", [tenant.pk]
    )
    page = text(Browser(host_of(tenant)).get("/"))
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)" in page


def test_a_page_that_is_not_there_is_a_page_for_people(tenant):
    missing = Browser(host_of(tenant)).get("/nowhere")
    assert missing.status_code == 404
    assert missing.headers["Content-Type"].startswith("text/html")
    assert "slipway.css" in text(missing)


def test_styles_are_served_on_every_host(tenant):
    for host in (host_of(tenant), "slipway.localhost"):
        sheet = Client().get("/static/slipway/slipway.css", headers={"Host": host})
        assert sheet.status_code == 200
        assert "prefers-color-scheme: dark" in b"".join(sheet.streaming_content).decode()


def test_cookies_belong_to_one_host_and_no_script(tenant):
    browser = Browser(host_of(tenant))
    browser.login(make_user(tenant))
    cookie = browser.client.cookies["slipway"]
    assert cookie["domain"] == ""
    assert cookie["path"] == "/"
    assert cookie["httponly"]
    assert cookie["samesite"] == "Lax"


def test_over_https_cookies_are_host_bound_by_name():
    environment = os.environ | {"PUBLIC_URL": "https://launch.example"}
    shown = subprocess.run(
        [
            sys.executable,
            "-c",
            "from config import settings as s;"
            "print(s.SESSION_COOKIE_NAME, s.CSRF_COOKIE_NAME, s.SESSION_COOKIE_SECURE,"
            " s.CSRF_COOKIE_SECURE, getattr(s, 'SESSION_COOKIE_DOMAIN', None))",
        ],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert shown == ["__Host-slipway", "__Host-csrf", "True", "True", "None"]
