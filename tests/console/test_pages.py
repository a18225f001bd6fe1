"""Pages of the console: what operators need to see, and what strangers wrote only as text."""

import json
import re
import shlex
import shutil
import subprocess
from datetime import timedelta

import pytest
from django.utils import timezone

from config.admin import trying
from config.admin.showing import visible
from jobs.models import DeadLetter, Lane
from jobs.states import State
from tenants.models import Tenant
from tests.chromium import CHROMIUM
from tests.conftest import create_tenant
from tests.console.operators import (
    OPERATOR,
    asked,
    attempt,
    job,
    letter,
    made,
    shown,
    sign_up,
    signed_in,
)
from tests.onboarding.test_browser import web
from tests.people import PASSWORD, make_user
from tests.webhooks.ears import listen, publish_in
from webhooks.models import Delivery

__all__ = ["web"]  # A fixture.

SCRIPT = "<script>alert(1)</script>"
HOSTILE = {
    "script": f"{SCRIPT}<img src=x onerror=alert(1)>",
    "bidi": "user\u202egnp.exe",
    "escapes": "\x1b[2J\x1b]0;owned\x07 done\x9b31m",
    "attribute": '" onmouseover="alert(1)" x="',
    "template": "{{ 7|add:7 }}{% load static %}",
    "comment": "--><svg/onload=alert(1)>",
}


@pytest.fixture(scope="module")
def console(django_db_blocker):
    return signed_in()


@pytest.fixture
def delivery(tenant):
    listen(tenant.ref)
    event = publish_in(tenant, payload={"n": 1, "who": f"Ada {SCRIPT}"})
    return Delivery.objects.using(OPERATOR).get(event_id=event.pk)


def exchange(text: str) -> dict:
    """What an attempt keeps when all of it is what a stranger wrote."""
    return {
        "request": {
            "method": "POST", "url": f"https://u:pw@h.example/{text}?token=hush&n=1",
            "headers": {f"X-{text}": text, "Authorization": "Bearer hush", "X-Api-Key": "hush"},
            "body_bytes": 20, "body_sha256": "ab",
        },
        "response": {
            "status": 503, "headers": {"server": text, "set-cookie": "hush"},
            "body": json.dumps({"said": text}), "truncated": True, "address": "10.0.0.1",
        },
    }  # fmt: skip


def attempt_page(console, one) -> str:
    return shown(console, f"jobs/attempt/{one.pk}/change/")


# ---- What strangers wrote ----


@pytest.mark.parametrize(
    "name",
    ["script", *(pytest.param(name, marks=pytest.mark.thorough) for name in [*HOSTILE][1:])],
)
def test_what_strangers_wrote_stays_text_on_every_page(console, tenant, delivery, name):
    text = HOSTILE[name]
    rows = Delivery.objects.using(OPERATOR).filter(pk=delivery.pk)
    rows.update(state=State.DEAD_LETTER, last_error=text[:500])
    one = attempt(delivery, "deliveries", error=text, **exchange(text))
    dead = letter(delivery, "deliveries", error=text[:500], **exchange(text))
    for path in (
        f"jobs/attempt/{one.pk}/change/", f"jobs/deadletter/{dead.pk}/change/",
        f"webhooks/delivery/{delivery.pk}/change/", f"webhooks/delivery/?tenant={tenant.slug}",
        f"jobs/attempt/?tenant={tenant.slug}", f"jobs/deadletter/?tenant={tenant.slug}",
        f"tenants/tenant/{tenant.pk}/change/",
    ):  # fmt: skip
        html = shown(console, path)
        for markup in (SCRIPT, "<img src=x", "<svg/onload", '" onmouseover="', "\u202e", "\x1b"):
            assert markup not in html, (path, markup)
        assert not re.search(r'<[^>]+\sstyle="|<style|<script(?![^>]* src=)', html), path


def test_secrets_are_redacted_in_headers_addresses_and_the_command(console, delivery):
    html = attempt_page(console, attempt(delivery, "deliveries", **exchange("plain")))
    assert "hush" not in html
    assert "u:pw" not in html
    assert html.count("[redacted]") >= 5


def test_a_response_is_shown_beside_its_request_indented_and_with_its_size(console, delivery):
    html = attempt_page(console, attempt(delivery, "deliveries", **exchange("plain")))
    request, _, response = html.partition("<h3>Response</h3>")
    assert "POST https://h.example/plain" in request
    assert "{\n  &quot;said&quot;: &quot;plain&quot;\n}" in response
    assert "17 bytes It went on: only this much was kept." in response


def test_what_a_delivery_sent_is_shown_from_its_event(console, delivery):
    html = attempt_page(console, attempt(delivery, "deliveries", **exchange("plain")))
    request = html.partition("<h3>Response</h3>")[0]
    assert "&quot;who&quot;: &quot;Ada &lt;script&gt;" in request


def test_a_huge_body_is_cut(console, delivery):
    said = {"status": 200, "headers": {}, "body": "x" * 500_000}
    html = attempt_page(console, attempt(delivery, "deliveries", response=said))
    assert len(html) < 200_000
    assert "500,000 bytes, cut here." in html


def test_a_body_that_is_no_text_is_shown_in_hex(console, delivery):
    said = {"status": 200, "headers": {}, "body": "\ufffd\x01\x02PNG" * 9}
    html = attempt_page(console, attempt(delivery, "deliveries", response=said))
    assert "00000000  ef bf bd 01 02 50 4e 47" in html


@pytest.mark.parametrize(
    "kept",
    [None, {}, {"status": None}, {"headers": "none"}, {"headers": None, "body": 7}, {"body": []}],
)
def test_what_is_kept_oddly_opens_all_the_same(console, delivery, kept):
    attempt_page(console, attempt(delivery, "deliveries", request=kept, response=kept))


# ---- As curl ----


@pytest.mark.parametrize("text", [*HOSTILE.values(), "it's", "$(touch x)`id`;!!", "a\nb\r\nc", ""])
def test_the_command_is_what_was_sent_and_no_more(text):
    request = {"method": "POST", "url": "https://h.example/p", "headers": {"x-said": text}}
    command = trying.curl(request, sent=text)
    bash = shutil.which("bash")
    printed = subprocess.run(
        [bash, "-c", f"curl() {{ printf '%s\\0' \"$@\"; }}; {command}"],
        capture_output=True, check=True,
    ).stdout.decode().split("\0")[:-1]  # fmt: skip
    assert printed[:5] == [
        "--request",
        "POST",
        "https://h.example/p",
        "--header",
        f"x-said: {text}",
    ]
    assert printed[5:] == (["--data-binary", text] if text else [])
    assert not any(ord(one) < 32 or ord(one) == 0x9B for one in command)


def test_a_plain_command_is_quoted_as_shlex_does():
    command = trying.curl({"method": "PUT", "url": "https://h/?a=1&b=2", "headers": {}})
    assert shlex.split(command) == ["curl", "--request", "PUT", "https://h/?a=1&b=2"]


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://u:p@h/a", "https://h/a"),
        ("https://h/services/T00000000/B00000000/aBcD1234eFgH5678iJkL9012",
         "https://h/services/T00000000/B00000000/[redacted]"),
        ("https://h/x/01890a5d-ac96-774b-bcce-b302099a8057", None),
        ("https://h/?api_key=1&page=2", "https://h/?api_key=[redacted]&page=2"),
        ("http://[broken", "[redacted]"),
    ],
)  # fmt: skip
def test_an_address_keeps_to_itself_what_opens_doors(url, shown):
    assert trying.redacted_url(url) == (shown or url)


def test_nothing_hides_in_a_text():
    assert visible("a\u202eb\x00c\x1bd\u200be\n") == "a\\u202eb\\x00c\\x1bd\\u200be\n"


# ---- What each page says ----


def test_a_work_says_what_it_waits_for(console, tenant, delivery):
    page = f"webhooks/delivery/{delivery.pk}/change/"
    assert "a drainer with a free slot" in shown(console, page)
    later = timezone.now() + timedelta(hours=1)
    lane = made(Lane, tenant_id=tenant.pk, key=delivery.lane, operator_paused_until=later,
                operator_why="they <asked>")  # fmt: skip
    html = shown(console, page)
    assert f"lane {delivery.lane}: they &lt;asked&gt;, until {later:%Y-%m-%d %H:%M:%S} UTC" in html
    assert f"/console/jobs/lane/{lane.pk}/change/" in html


def test_a_work_shows_its_tries_in_order_and_which_were_kept(console, tenant):
    work = job(tenant, state=State.DEAD_LETTER)
    first = attempt(work, "jobs", 1, error="HTTP 500", outcome="retry")
    attempt(work, "jobs", 2, error="no more", outcome="failed")
    kept = {"id": str(first.pk)[:-4] + "0000", "number": 0, "outcome": "lost", "error": "long ago",
            "started_at": "2020-01-01T00:00:00+00:00", "duration_ms": None, "drainer": 1,
            "request": None, "response": None}  # fmt: skip
    letter(work, "jobs", attempts=[kept])
    html = shown(console, f"jobs/job/{work.pk}/change/")
    said = re.findall(r'class="try-said">([^<]+)<', html)
    assert said == ["long ago", "HTTP 500", "no more"]
    assert "(kept by its dead letter)" in html


def test_a_sign_up_shows_steps_ledger_and_attempts(console, tenant):
    from uuid import uuid4

    from onboarding.models import ProvisionedResource

    work = sign_up(tenant, state=State.FAILED, attempts=1, last_error="owner: HTTP 500")
    made(ProvisionedResource, id=uuid4(), tenant_id=tenant.pk, step="tenant", name="t", lease=1)
    attempt(work, "onboarding", error="owner: HTTP 500")
    html = shown(console, f"onboarding/pendingonboarding/{work.pk}/change/")
    for heading in ("Steps", "Where it stands", "Attempts", "Resource ledger", "Audit trail"):
        assert f"<h2>{heading}</h2>" in html
    steps = re.findall(r'<td>(\w+)</td><td><span class="mark mark-\w+">(\w+)</span>', html)
    assert steps[:2] == [("tenant", "done"), ("owner", "running")]


def test_a_dead_letter_shows_why_and_what_was_said_last(console, tenant, delivery):
    one = letter(delivery, "deliveries", **exchange("plain"))
    html = shown(console, f"jobs/deadletter/{one.pk}/change/")
    assert "exhausted" in html
    assert "Last request and response" in html
    assert f"/console/webhooks/delivery/{delivery.pk}/change/" in html


def test_a_lane_says_who_holds_it_back_and_what_waits(console, tenant, delivery):
    later = timezone.now() + timedelta(hours=1)
    lane = made(Lane, tenant_id=tenant.pk, key=delivery.lane, paused_until=later,
                paused_why="HTTP 429", learnt_rate=7.5)  # fmt: skip
    html = shown(console, f"jobs/lane/{lane.pk}/change/")
    assert "HTTP 429, until" in html
    assert "7.5" in html
    assert "<td>deliveries</td><td>runnable</td><td>1</td>" in html


def test_a_tenant_shows_its_works_and_letters(console, tenant, delivery):
    letter(delivery, "deliveries")
    Tenant.objects.using(OPERATOR).filter(pk=tenant.pk).update(currency="CHF")
    html = shown(console, f"tenants/tenant/{tenant.pk}/change/")
    assert f"tnt_{tenant.uuid}" in html
    assert "CHF" in html
    assert "1 pending" in html
    assert f"{tenant.slug}.slipway.localhost" in html
    assert DeadLetter.objects.using(OPERATOR).filter(tenant_id=tenant.pk).count() == 1


@pytest.mark.thorough
def test_more_rows_are_shown_by_no_more_statements(console):
    tenant = create_tenant()
    work = job(tenant)
    counts = []
    for _ in range(2):
        for n in range(8):
            attempt(work, "jobs", n + 1 + 10 * len(counts))
            letter(job(tenant), "jobs")
        counts.append([
            len(asked(console, f"jobs/job/?tenant={tenant.slug}")),
            len(asked(console, f"jobs/deadletter/?tenant={tenant.slug}")),
            len(asked(console, f"jobs/job/{work.pk}/change/")),
            len(asked(console, f"tenants/tenant/{tenant.pk}/change/")),
        ])  # fmt: skip
    assert counts[0] == counts[1]


def test_an_attempt_is_found_by_its_id_alone(console, delivery):
    one = attempt(delivery, "deliveries", error="there it is")
    assert "there it is" in attempt_page(console, one)


@pytest.mark.parametrize(
    "key", ["x", "1.2", "00000000-0000-0000-0000-000000000000.99999999999999999999"]
)
def test_a_page_that_is_none_leads_back(console, key):
    assert console.get(f"/console/jobs/attempt/{key}/change/").status_code == 302


# ---- In a real browser ----


@pytest.mark.browser
def test_no_stored_script_runs_and_the_command_can_be_copied(web, delivery):
    from playwright.sync_api import sync_playwright

    text = "".join(HOSTILE.values())
    one = attempt(delivery, "deliveries", error=text, **exchange(text))
    staff = make_user(staff=True)
    said: list[str] = []
    base = f"http://127.0.0.1:{web}/console"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
        page = context.new_page()
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: said.append(dialog.message))
        page.on("console", lambda line: said.append(line.text) if "Policy" in line.text else None)
        page.goto(f"{base}/login/")
        page.fill("#id_username", staff.email)
        page.fill("#id_password", PASSWORD)
        page.click("[type=submit]")
        page.goto(f"{base}/jobs/attempt/{one.pk}/change/")
        sides = [side.bounding_box() for side in page.locator(".side").all()]
        assert sides[0]["y"] == sides[1]["y"]  # Side by side.
        assert "<script>alert(1)</script>" in page.locator(".side").nth(1).inner_text()
        page.click("button[data-copy=curl]")
        page.get_by_role("button", name="Copied").wait_for()
        copied = page.evaluate("navigator.clipboard.readText()")
        assert copied == page.locator("#curl").text_content()
        page.goto(f"{base}/webhooks/delivery/")
        page.wait_for_selector("#changelist")
        page.set_viewport_size({"width": 360, "height": 700})
        page.goto(f"{base}/jobs/attempt/{one.pk}/change/")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        browser.close()
    assert said == []


def test_a_list_of_lanes_shows_the_rate_and_the_window_that_hold(console, tenant):
    made(Lane, tenant_id=tenant.pk, key="a", rate=5.0, operator_rate=0.5, operator_window=3)
    html = shown(console, f"jobs/lane/?tenant={tenant.slug}")
    assert re.findall(r'class="field-(pace|room)">([^<]*)<', html) == [
        ("pace", "0.5"),
        ("room", "3"),
    ]
