"""An operator's day in a real browser, on a `make up`: the web process, a worker, a receiver.

What is stuck is found from the overview, understood, put right and seen in the audit trail; who may
only look changes nothing; and what strangers wrote stays text on every page that shows it.
"""

import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import psycopg
import pytest

from config.embedded import Postgres
from tests.chromium import launched
from tests.flows.stranger import Stranger
from tests.flows.test_webhooks import Caller, environment
from tests.upping import ROOT, Up, wait

pytestmark = [pytest.mark.browser, pytest.mark.thorough]

PATIENCE = 30_000  # Milliseconds, on a machine that runs other tests besides.
SCRIPT = "<script>owned=1</script>"
SHORT = "<svg/onload=owned=1>"  # A tenant's name has at most 50 characters.
MARKUP = SCRIPT + SHORT
RAN = "typeof owned !== 'undefined'"


def hostile(place: str) -> str:
    """Markup that says where it was written."""
    return f"{place}{MARKUP}"


class Receiver(ThreadingHTTPServer):
    """A tenant's receiver: it fails, in a stranger's words, until it `works`."""

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", port), Answer)
        self.works = False
        self.heard: list[str] = []


class Answer(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        self.server.heard.append(self.headers["webhook-id"])
        self.rfile.read(int(self.headers["content-length"]))
        body = f"<html>{hostile('body')}".encode()
        self.send_response(200 if self.server.works else 503)
        self.send_header("Content-Type", "text/html")
        self.send_header("X-Said", hostile("header"))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *said: object) -> None:
        """Nothing: pytest's own output is enough."""


@pytest.fixture
def receiver(receiver_port) -> Iterator[Receiver]:
    with Receiver(receiver_port) as server:
        threading.Thread(target=server.serve_forever).start()
        yield server
        server.shutdown()


class Trouble:
    """A tenant whose receiver fails: an endpoint that is tried once, and what died of it."""

    def __init__(self, running: Up, receiver: Receiver, name: str, many: int) -> None:
        stranger = Stranger(running)
        address = f"{len(name)}-{time.time_ns()}@example.com"
        accepted = stranger.sign_up(email=address, tenant_name=name, plan="free")
        stranger.wait_ready(accepted)
        self.slug = accepted["tenant"]["slug"]
        self.api = Caller(running, stranger.platform_key, **{"Slipway-Tenant": self.slug})
        self.endpoint = self.api.post(
            "/endpoints",
            url=f"http://127.0.0.1:{receiver.server_port}/in?{MARKUP}",
            description=hostile("description"),
            event_types=["order.*"],
            schedule=[],
        )
        for n in range(many):
            said = {"n": n, "said": hostile("payload")}
            self.api.post("/events", type="order.paid", data=said)
        wait(lambda: self.states() == ["dead_letter"] * many, 60)

    def states(self) -> list[str]:
        """Of its deliveries, the oldest first."""
        return [one["state"] for one in self.deliveries()]

    def deliveries(self) -> list[dict]:
        return self.api.get("/deliveries")["data"][::-1]


def operator(running: Up, role: str) -> tuple[str, str]:
    """A new operator's address and password."""
    email = f"{role}-{time.time_ns()}@example.com"
    done = subprocess.run(
        [sys.executable, "manage.py", "operators", "add", email, "--role", role,
         "--reason", "a day's work", "--json"],
        cwd=ROOT, env=environment(running), capture_output=True, text=True, check=True,
    )  # fmt: skip
    return email, json.loads(done.stdout)["password"]


class Console:
    """The console in a browser's window, where somebody has signed in."""

    def __init__(self, browser, running: Up, role: str) -> None:
        self.base = f"http://127.0.0.1:{running.port}"
        self.page = browser.new_context().new_page()
        self.page.set_default_timeout(PATIENCE)
        self.said: list[str] = []  # What a browser complains of, and what no page should do.
        self.page.on("pageerror", lambda error: self.said.append(f"{self.page.url}: {error}"))
        self.page.on("dialog", lambda dialog: self.said.append(f"dialog: {dialog.message}"))
        self.page.on("console", self.hear)
        email, password = operator(running, role)
        self.open("/console/")
        self.page.fill("[name=username]", email)
        self.page.fill("[name=password]", password)
        self.page.click("[type=submit]")
        self.page.wait_for_selector("#overview")

    def hear(self, line) -> None:
        if line.type in ("error", "warning"):
            self.said.append(f"{self.page.url}: {line.text}")

    def open(self, path: str) -> str:
        """A page, by its path or its address; its text."""
        self.page.goto(path if path.startswith("http") else self.base + path)
        return self.text()

    def text(self) -> str:
        """What can be read on the page, and in what it would unfold."""
        return self.page.locator("body").text_content()

    def go(self, words: str, within: str = "#content") -> str:
        """Click the first link that says so."""
        self.page.locator(f"{within} a", has_text=words).first.click()
        return self.text()

    def do(self, act: str, reason: str, **fields: str) -> str:
        """Press an act's button, and confirm it with a reason; what the console says then."""
        self.page.locator(f".acts a.act-{act}").click()
        assert self.page.locator(".act-confirm").count() == 1
        self.page.fill("[name=reason]", reason)
        for name, value in fields.items():
            self.page.locator(f"[name={name}]").select_option(value)
        self.page.click(".act-do")
        return self.page.locator(".messagelist").inner_text()

    def acts(self) -> set[str]:
        """The addresses of all acts that the page offers."""
        links = self.page.locator("#content a").evaluate_all("all => all.map(one => one.href)")
        return {link for link in links if "/act/" in link}

    def buttons(self) -> list[str]:
        """All of the page's content that could be pressed to send something, but the search's."""
        return self.page.locator("#content button, #content [type=submit]").evaluate_all(
            "all => all.filter(one => one.form?.method === 'post').map(one => one.outerHTML)"
        )


@contextmanager
def consoles(running: Up, *roles: str) -> Iterator[list[Console]]:
    with launched() as browser:
        opened = [Console(browser, running, role) for role in roles]
        yield opened
        said = [line for one in opened for line in one.said]
        assert said == [], said


def test_what_is_stuck_is_found_understood_put_right_and_kept_in_the_audit_trail(running, receiver):
    trouble = Trouble(running, receiver, "Harbour Supplies", 2)
    first, second = (one["id"].removeprefix("dlv_") for one in trouble.deliveries())
    with consoles(running, "operator") as [console]:
        letter = find(console, trouble, first)
        understand(console)
        receiver.works = True  # The cause is put right.
        before = len(receiver.heard)
        replay(console, letter, first)
        assert len(receiver.heard) == before + 1
        assert trouble.states() == ["succeeded", "dead_letter"]
        give_up(console, trouble, second)
        pause_and_suspend(console, trouble)
        check_trail(console, trouble)


def letters(console: Console):
    """The rows of a list."""
    return console.page.locator("#result_list tbody tr")


def find(console: Console, trouble: Trouble, work: str) -> str:
    """From the overview to a work's dead letter: its address."""
    assert "dead in deliveries" in console.text()
    need = console.page.locator(".needs li", has_text="HTTP 503")
    need.locator("a", has_text="dead in deliveries").click()
    assert urlsplit(console.page.url).path == "/console/jobs/deadletter/"
    both = letters(console).filter(has_text=trouble.slug)
    both.nth(1).wait_for()
    assert both.count() == 2
    letters(console).filter(has_text=work).locator("th a").click()
    assert "HTTP 503" in console.text()
    return console.page.url


def understand(console: Console) -> None:
    """What was asked and answered, side by side."""
    console.go("#1", ".timeline")
    request, response = console.page.locator(".exchange .side").all_inner_texts()
    assert "order.paid" in request
    assert "webhook-id" in request
    assert response.startswith("Response\n\n503\n")
    assert hostile("body") in response


def replay(console: Console, letter: str, work: str) -> None:
    """Looked at first, then done; it is seen to arrive."""
    console.open(letter)
    console.page.locator(".acts a.act-replay").click()
    sample = console.page.locator(".act-sample").inner_text()
    assert work in sample
    assert "<" not in sample  # Links are shown whole.
    console.open(letter)
    assert "replayed" in console.do("replay", "they fixed their server")
    page = f"/console/webhooks/delivery/{work}/change/"
    wait(lambda: "succeeded" in state(console, page), 60)
    console.go("#2", ".timeline")
    assert "\n200\n" in console.page.locator(".exchange .side").nth(1).inner_text()


def give_up(console: Console, trouble: Trouble, work: str) -> None:
    its = f"/console/jobs/deadletter/?resolved=no&queue=deliveries&tenant={trouble.slug}"
    console.open(its)
    assert letters(console).count() == 1
    letters(console).filter(has_text=work).locator("th a").click()
    assert "discarded" in console.do("discard", "nobody wants it any more")
    wait(lambda: trouble.states() == ["succeeded", "discarded"], 60)  # Undone by the worker.
    assert "None" in console.open(its)


def pause_and_suspend(console: Console, trouble: Trouble) -> None:
    """Its lane rests, as the overview says then; and then the whole tenant."""
    endpoint = trouble.endpoint["id"].removeprefix("ep_")
    console.open(f"/console/webhooks/endpoint/{endpoint}/change/")
    console.do("pause-lane", "their migration; ticket 4711")
    assert "their migration; ticket 4711" in console.open("/console/")
    console.go(f"endpoint:{endpoint}", "#overview")
    assert "their migration; ticket 4711" in console.text()
    console.go(trouble.slug)
    console.do("suspend", "they do not pay")
    assert "suspended" in console.text()


def check_trail(console: Console, trouble: Trouble) -> None:
    trail = console.open(f"/console/tenants/auditentry/?tenant={trouble.slug}")
    for action, reason in (
        ("work.replayed", "they fixed their server"),
        ("work.discarded", "nobody wants it any more"),
        ("lane.paused", "their migration; ticket 4711"),
        ("tenant.suspended", "they do not pay"),
    ):
        row = console.page.locator("#result_list tbody tr", has_text=reason).first
        assert action in row.inner_text(), trail
        assert "operator:" in row.inner_text(), trail


def state(console: Console, path: str) -> str:
    console.open(path)
    return console.page.locator(".facts > div", has_text="state").first.inner_text()


def pages_about(trouble: Trouble, console: Console) -> list[str]:
    """The lists that name the tenant, and of each the first page that it leads to."""
    lists = [
        f"/console/{path}/?tenant={trouble.slug}"
        for path in (
            "jobs/deadletter", "jobs/attempt", "jobs/lane", "webhooks/delivery", "webhooks/event",
            "webhooks/endpoint", "onboarding/pendingonboarding", "tenants/auditentry",
            "tenants/apikey",
        )
    ]  # fmt: skip
    lists.append(f"/console/tenants/tenant/?q={trouble.slug}")
    found = ["/console/"]
    for path in lists:
        console.open(path)
        links = console.page.locator("#result_list tbody th a")
        found += [path, *links.evaluate_all("all => all.slice(0, 1).map(one => one.href)")]
    return found


def test_who_may_only_look_changes_nothing_also_not_by_hand(running, receiver):
    trouble = Trouble(running, receiver, "Old Mill", 2)
    with consoles(running, "administrator", "viewer") as [chief, viewer]:
        acts: dict[tuple[str, ...], str] = {}
        for path in pages_about(trouble, chief):
            chief.open(path)
            acts |= {kind(act): act for act in chief.acts()}
            viewer.open(path)
            assert viewer.acts() == set(), path
            assert viewer.buttons() == [], path
        named = {(model, act) for model, act, _ in acts}
        assert {("jobs/deadletter", "replay"), ("tenants/tenant", "suspend")} <= named
        assert len(named) >= 15

        as_it_was = standing(running, trouble)
        token = fields(viewer, f"{viewer.base}/console/")["csrfmiddlewaretoken"]
        for act in acts.values():
            # All that whoever may do it would send, in the name of who may not.
            form = fields(chief, act) | {"reason": "by hand", "csrfmiddlewaretoken": token}
            sent = viewer.page.context.request.post(act, form=form, headers={"Referer": act})
            assert (act, sent.status) == (act, 403)
            assert "CSRF" not in sent.text()
            assert viewer.page.context.request.get(act).status == 403
        assert standing(running, trouble) == as_it_was

        # The token was good, and so is the form: each does what it may.
        out = viewer.page.context.request.post(
            f"{viewer.base}/console/logout/",
            form={"csrfmiddlewaretoken": token},
            headers={"Referer": viewer.base},
        )
        assert out.ok
        act = acts["tenants/tenant", "suspend", "row"]
        chief.page.context.request.post(
            act, form=fields(chief, act) | {"reason": "by hand"}, headers={"Referer": act}
        )
        assert standing(running, trouble) != as_it_was


def kind(act: str) -> tuple[str, ...]:
    """Which act an address is: of which model, which one, and of a row or of all that is found."""
    model, name = re.search(r"/console/(\w+/\w+)/act/([\w-]+)/", act).groups()
    return model, name, "all" if re.search(r"\ball=1", act) else "row"


def fields(console: Console, url: str) -> dict[str, str]:
    """What the forms of a page would send that nobody types, with the CSRF token."""
    html = console.page.context.request.get(url).text()
    return dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', html))


def standing(running: Up, trouble: Trouble) -> list[tuple]:
    """All that the tenant has, as the database says, and every entry of the audit trail."""
    with psycopg.connect(Postgres(running.state / "postgres").superuser_conninfo("slipway")) as db:
        whose = "tenant_id = (select id from tenants_tenant where slug = %s)"
        return [
            db.execute(f"select * from {table} where {where} order by 1", [trouble.slug]).fetchall()
            for table, where in (
                ("tenants_tenant", "slug = %s"),
                ("tenants_auditentry", f"{whose} and actor like 'operator:%%'"),
                ("webhooks_delivery", whose),
                ("webhooks_endpoint", whose),
                ("jobs_deadletter", whose),
                ("jobs_lane", whose),
                ("tenants_apikey", whose),
            )
        ]


def test_what_strangers_wrote_is_read_and_never_run(running, receiver):
    trouble = Trouble(running, receiver, f"name{SHORT}", 2)
    errors = Postgres(running.state / "postgres").superuser_conninfo("slipway")
    with psycopg.connect(errors) as db:  # A receiver that is not HTTP puts its words there.
        for table, column in (
            ("webhooks_delivery", "last_error"), ("jobs_deadletter", "error"),
            ("jobs_attempt", "error"),
        ):  # fmt: skip
            db.execute(
                f"update {table} set {column} = %s where tenant_id ="
                " (select id from tenants_tenant where slug = %s)",
                [hostile("error"), trouble.slug],
            )
    with consoles(running, "administrator") as [console]:
        console.open(f"/console/jobs/deadletter/?resolved=no&tenant={trouble.slug}")
        console.page.locator("#result_list tbody tr").first.locator("th a").click()
        console.do("discard", hostile("reason"))
        endpoint = trouble.endpoint["id"].removeprefix("ep_")
        console.open(f"/console/webhooks/endpoint/{endpoint}/change/")
        console.do("pause-lane", hostile("pause"))
        unseen = {
            *(hostile(place) for place in ("payload", "header", "body", "description", "error")),
            *(hostile(place) for place in ("reason", "pause")),
            f"name{SHORT}",
        }
        acts: dict[tuple[str, ...], str] = {}
        for path in pages_about(trouble, console):
            read(console, path, unseen)
            acts |= {kind(act): act for act in console.acts()}
        for act in acts.values():
            read(console, act, unseen)
        assert unseen == set()
        assert len(acts) >= 15


def test_what_strangers_wrote_would_run_if_a_page_let_it():
    with launched() as browser:
        for markup in (SCRIPT, SHORT):
            page = browser.new_page()
            page.set_content(f"<p>{markup}</p>")
            page.wait_for_function(RAN)


def read(console: Console, path: str, unseen: set[str]) -> None:
    """Open a page: nothing on it runs, or is there otherwise than as text."""
    text = console.open(path)
    console.page.wait_for_load_state("load")
    assert not console.page.evaluate(RAN), path
    assert console.page.locator("script:not([src]), [onload]").count() == 0, path
    unseen -= {said for said in unseen if said in text}
