"""The console under its Content-Security-Policy: nothing inline, nothing from elsewhere."""

import re
from html.parser import HTMLParser
from urllib.parse import urlsplit

import pytest
from django.contrib import admin
from django.test import override_settings

from tests.chromium import CHROMIUM
from tests.console.acting import ACTS, act_url
from tests.console.operators import everything, signed_in
from tests.onboarding.test_browser import web  # noqa: F401 - a fixture.
from tests.people import PASSWORD, Browser, make_user

LINKS = {"script": "src", "img": "src", "link": "href", "form": "action", "iframe": "src"}
LOUD = ("error", "warning")  # Of what a browser says; hints are for whoever writes pages.
RUNS = re.compile(r"^on[a-z]+$")


class Seen(HTMLParser):
    """What a page would have a browser run, paint and fetch against the policy."""

    def __init__(self) -> None:
        super().__init__()
        self.faults: list[str] = []
        self.assets: set[str] = set()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        said = dict(attributes)
        if tag == "style":
            self.faults.append("<style>")
        if tag == "script" and "src" not in said:
            self.faults.append("an inline <script>")
        for name, value in said.items():
            if name == "style" or RUNS.match(name):
                self.faults.append(f"<{tag} {name}={value!r}>")
            if (value or "").strip().lower().startswith("javascript:"):
                self.faults.append(f"<{tag} {name}={value!r}>")
        address = said.get(LINKS.get(tag, "")) or ""
        if address and (urlsplit(address).netloc or urlsplit(address).scheme):
            self.faults.append(f"<{tag}> of {address}")
        elif address.startswith("/static/"):
            self.assets.add(address)


def look(answer, where: str) -> set[str]:
    """Refuse a page with a fault; the assets that it asks for."""
    policy = answer.headers["Content-Security-Policy"]
    assert "unsafe" not in policy, where
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    seen = Seen()
    seen.feed(answer.content.decode())
    assert seen.faults == [], where
    return seen.assets


@pytest.fixture(scope="module")
def rows(django_db_blocker):
    from tests.conftest import create_tenant

    return everything(create_tenant())


def pages_of(rows) -> list[str]:
    """Every page of the console that a row leads to, and those that no row does."""
    paths = ["/console/", "/console/?range=30d", "/console/open/", "/console/password_change/"]
    paths += ["/console/operators/", f"/console/operators/{make_user(staff=True).pk}/"]
    for model in admin.site._registry:
        name = f"{model._meta.app_label}/{model._meta.model_name}"
        paths += [f"/console/{name}/", f"/console/{model._meta.app_label}/"]
        if name in rows:
            paths.append(f"/console/{name}/{rows[name].pk}/change/")
    return sorted(set(paths))


@pytest.mark.thorough
def test_every_page_keeps_the_policy(rows):
    browser, assets = signed_in(), set()
    for path in pages_of(rows):
        answer = browser.get(path)
        while answer.status_code == 302:  # An attempt's page has its moment in the address.
            answer = browser.get(answer.headers["Location"])
        assert answer.status_code == 200, path
        assets |= look(answer, path)
    assert {"/static/console/console.css", "/static/console/refresh.js"} <= assets
    for asset in assets:
        assert browser.get(asset).status_code == 200, asset


@pytest.mark.thorough
def test_every_confirmation_page_keeps_the_policy(rows):
    browser = signed_in()
    tried = 0
    for path, acts in ACTS.items():
        for act in acts:
            if path in rows:
                answer = browser.get(act_url(rows[path], act))
                if answer.status_code == 200:
                    look(answer, f"{path} {act}")
                    tried += 1
    assert tried >= 5


def test_the_door_keeps_the_policy():
    stranger = Browser()
    look(stranger.get("/console/login/"), "sign-in")
    look(stranger.post("/console/login/", username="a@b.example", password="x"), "refused")
    with override_settings(AXES_ENABLED=True):
        for _ in range(6):
            shut = stranger.post("/console/login/", username="c@d.example", password="x")
        assert shut.status_code == 429
        look(shut, "locked")
    user = make_user(staff=True)
    with override_settings(SECOND_FACTOR=True):
        stranger.post("/console/login/", username=user.email, password=PASSWORD)
        look(stranger.get("/console/second-factor/"), "second factor")
        look(stranger.post("/console/second-factor/", token="000000"), "wrong code")
    look(stranger.post("/console/logout/", form="/console/second-factor/"), "signed out")


def test_a_fault_would_be_seen():
    for html in (
        '<p style="color: red">',
        "<style>p {}</style>",
        "<script>alert(1)</script>",
        '<script src="https://elsewhere.example/a.js"></script>',
        '<a href="javascript:alert(1)">',
        '<img src="//elsewhere.example/a.png">',
        '<p onclick="x()">',
    ):
        seen = Seen()
        seen.feed(html)
        assert seen.faults, html


@pytest.mark.thorough
@pytest.mark.browser
def test_a_browser_has_nothing_to_complain_of_and_both_themes_work(rows, web):  # noqa: F811
    from playwright.sync_api import expect, sync_playwright

    user, paths = make_user(staff=True), pages_of(rows)
    said: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(color_scheme="light")
        page.on("console", lambda line: said.append(line.text) if line.type in LOUD else None)
        page.on("pageerror", lambda error: said.append(f"{page.url}: {error}"))
        page.goto(f"http://slipway.localhost:{web}/console/")
        page.fill("[name=username]", user.email)
        page.fill("[name=password]", PASSWORD)
        page.click("[type=submit]")
        for path in paths:
            page.goto(f"http://slipway.localhost:{web}{path}")
        page.goto(f"http://slipway.localhost:{web}/console/")
        paper = "getComputedStyle(document.body).backgroundColor"
        light = page.evaluate(paper)
        page.click("#header .theme-toggle")
        expect(page.locator("html")).to_have_attribute("data-theme", "dark")
        assert page.evaluate(paper) != light
        page.reload()  # The choice stays.
        assert page.evaluate(paper) != light
        browser.close()
    assert said == []


@pytest.mark.thorough
@pytest.mark.browser
def test_the_overview_keeps_itself_fresh_and_lets_people_be(web):  # noqa: F811
    from playwright.sync_api import expect, sync_playwright

    user = make_user(staff=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 390, "height": 844})
        page.clock.install()
        page.goto(f"http://slipway.localhost:{web}/console/")
        page.fill("[name=username]", user.email)
        page.fill("[name=password]", PASSWORD)
        page.click("[type=submit]")
        overview = page.locator("#overview")
        # A phone shows all of it without scrolling sideways.
        wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert page.evaluate(wide) <= 0
        page.locator("figure.chart details summary").first.click()
        page.evaluate("document.activeElement.blur(); window.scrollTo(0, 400)")
        page.clock.run_for(31_000)
        expect(overview).to_have_attribute("data-refreshed", "1")
        assert page.evaluate("window.scrollY") == 400
        expect(page.locator("figure.chart details").first).to_have_attribute("open", "")
        page.locator("#overview .ranges a").first.focus()  # In somebody's hands it stays.
        page.clock.run_for(61_000)
        expect(overview).to_have_attribute("data-refreshed", "1")
        page.evaluate("document.activeElement.blur()")
        page.evaluate("Object.defineProperty(document, 'hidden', {value: true})")
        page.clock.run_for(61_000)
        expect(overview).to_have_attribute("data-refreshed", "1")
        browser.close()
