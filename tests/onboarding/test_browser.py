"""The set-up page in a real browser: it opens the tenant's page by itself."""

import subprocess
import sys

import pytest
import requests

from tests.chromium import CHROMIUM
from tests.conftest import ROOT, child_environment
from tests.onboarding.hands import settle, take
from tests.onboarding.test_hangs import wait_until
from tests.onboarding.world import free_port, request_id_of

pytestmark = pytest.mark.browser


@pytest.fixture
def web():
    """A web process; its port."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "granian", "--interface", "wsgi", "--port", str(port), "--no-ws",
         "--log-level", "warning", "config.wsgi:application"],
        cwd=ROOT, env=child_environment(),
    )  # fmt: skip
    try:
        wait_until(lambda: answers(port))
        yield port
    finally:
        process.terminate()
        process.wait(timeout=20)


def answers(port: int) -> bool:
    try:
        return requests.get(f"http://127.0.0.1:{port}/healthz", timeout=1).ok
    except requests.RequestException:  # The first answer may take longer.
        return False


@pytest.mark.thorough
def test_the_set_up_page_opens_the_tenants_page_when_it_is_ready(web, platform, operator):
    from playwright.sync_api import expect, sync_playwright

    from onboarding import steps

    accepted = platform.sign_up(tenant_name="Zeta Works")
    slug = accepted.json()["tenant"]["slug"]
    errors: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda line: errors.append(line.text) if "Policy" in line.text else None)
        page.goto(f"http://{slug}.slipway.localhost:{web}/")
        expect(page.get_by_role("heading", name="Setting up Zeta Works")).to_be_visible()
        expect(page.locator("li[data-state=waiting]")).to_have_count(8)

        claim = take(operator, request_id_of(accepted))
        expect(page.locator("li[data-state=running]")).to_have_text("tenant")
        run_beside_the_browser(steps.run, claim)
        settle(operator, claim, "succeeded")
        expect(page.get_by_role("link", name="Sign in")).to_be_visible(timeout=15_000)
        assert page.url == f"http://{slug}.slipway.localhost:{web}/"
        browser.close()
    assert errors == []


def run_beside_the_browser(step, claim) -> None:
    """On a thread: playwright's loop runs on this one, where Django would refuse to wait."""
    from concurrent.futures import ThreadPoolExecutor

    from django.db import connections

    def run():
        try:
            return step(claim)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as thread:
        thread.submit(run).result(timeout=30)
