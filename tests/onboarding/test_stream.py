"""GET …/events from a real `stream` process: what a browser hears of a sign-up."""

import asyncio
import json
import socket
import subprocess
import sys
from contextlib import contextmanager
from uuid import uuid4

import pytest
import requests

from config import watching
from jobs.outcomes import Succeeded
from onboarding import steps
from onboarding.watching import SignUpWatcher
from tests.conftest import ROOT, child_environment
from tests.onboarding.hands import settle, take
from tests.onboarding.test_hangs import wait_until
from tests.onboarding.test_status import NOBODYS
from tests.onboarding.world import free_port, provision, request_id_of

WAY = ["tenant", "owner", "storage", "workspace", "analytics", "cache", "welcome", "announce"]


@pytest.fixture(scope="module")
def stream():
    """Its address."""
    with running() as url:
        yield url


@contextmanager
def running(**environment: str):
    """A stream process, and its address."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "granian", "--interface", "asgi", "--port", str(port), "--no-ws",
         "--log-level", "warning", "config.asgi:application"],
        cwd=ROOT, env=child_environment() | {"TRUSTED_PROXIES": "127.0.0.1"} | environment,
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: answers(url))
        yield url
    finally:
        process.terminate()
        process.wait(timeout=20)


def answers(url: str) -> bool:
    try:
        return requests.get(f"{url}/healthz", timeout=1).status_code == 200
    except requests.RequestException:
        return False


def listen(stream: str, accepted, *, client: str | None = None, **headers: str):
    address = client or "198.18.{}.{}".format(*uuid4().bytes)
    return requests.get(
        f"{stream}/v1/onboard/{accepted.json()['request_id']}/events",
        headers={"X-Forwarded-For": address, **headers}, stream=True, timeout=20,
    )  # fmt: skip


def heard(answer) -> list[tuple[int, str, dict]]:
    """The events of a stream that has ended."""
    found, event = [], {}
    for line in answer.iter_lines(decode_unicode=True):
        name, _, value = line.partition(": ")
        if line == "" and "data" in event:
            found.append((int(event["id"]), event["event"], json.loads(event["data"])))
            event = {}
        elif name:
            event[name] = value
    return found


def test_it_tells_each_step_as_it_is_done_and_ends_when_the_tenant_is_ready(
    stream, platform, operator
):
    accepted = platform.sign_up()
    answer = listen(stream, accepted)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "text/event-stream"
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    provision(operator, accepted)
    events = heard(answer)
    assert [number for number, _, _ in events] == list(range(1, len(WAY) + 3))
    assert events[0][2] == {"status": "provisioning"}
    assert [data["name"] for _, name, data in events if name == "step"] == WAY
    assert events[-1][2]["status"] == "ready"
    assert events[-1][2]["tenant"]["url"] == accepted.json()["tenant"]["url"]


def test_it_goes_on_after_the_last_event_that_the_browser_had(stream, platform, operator):
    accepted = platform.sign_up()
    provision(operator, accepted)
    events = heard(listen(stream, accepted, **{"Last-Event-ID": "7"}))
    assert [number for number, _, _ in events] == [8, 9, 10]


def test_it_tells_that_a_sign_up_was_given_up(stream, platform, operator):
    accepted = platform.sign_up()
    claim = take(operator, request_id_of(accepted), discarding=True)
    assert steps.undo(claim) == Succeeded()
    settle(operator, claim, "discarded")
    assert heard(listen(stream, accepted))[-1][2]["status"] == "cancelled"


def test_a_client_may_have_five_open_and_not_a_sixth(stream, platform):
    accepted = platform.sign_up()
    client = "203.0.113.250"
    open_ones = [listen(stream, accepted, client=client) for _ in range(5)]
    assert {answer.status_code for answer in open_ones} == {200}
    refused = listen(stream, accepted, client=client)
    assert (refused.status_code, refused.json()["code"]) == (429, "too_many_streams")
    assert refused.headers["Retry-After"] == "10"
    assert listen(stream, accepted).status_code == 200  # Somebody else may.
    open_ones[0].close()
    wait_until(lambda: listen(stream, accepted, client=client).status_code == 200)


@pytest.mark.parametrize("path", [f"/v1/onboard/req_{NOBODYS}/events", "/v1/onboard/x/events", "/"])
def test_it_answers_404_for_what_is_nobodys(stream, path):
    refused = requests.get(stream + path, timeout=5)
    assert refused.status_code == 404
    assert refused.headers["Content-Type"] == "application/problem+json"


def test_it_takes_the_requests_id_and_tells_it(stream, platform):
    answer = listen(stream, platform.sign_up(), **{"X-Request-ID": "abc-1"})
    assert (answer.status_code, answer.headers["X-Request-ID"]) == (200, "abc-1")
    refused = requests.get(f"{stream}/v1/x", headers={"X-Request-ID": "abc-2"}, timeout=5)
    assert refused.headers["X-Request-ID"] == refused.json()["trace_id"] == "abc-2"
    made_up = requests.get(f"{stream}/v1/x", headers={"X-Request-ID": "no good"}, timeout=5)
    assert made_up.headers["X-Request-ID"] == made_up.json()["trace_id"] != "no good"
    assert len(made_up.json()["trace_id"]) == 32


@pytest.fixture
def silent_postgres():
    """A database that takes connections and says nothing: the URL of it."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as server:
        yield f"postgres://slipway_app:x@127.0.0.1:{server.getsockname()[1]}/slipway"


@pytest.mark.thorough
def test_it_says_so_when_the_database_keeps_silent_and_hears_who_leaves(silent_postgres, platform):
    accepted = platform.sign_up()
    client = "203.0.113.251"
    with running(DATABASE_URL=silent_postgres) as url:
        for _ in range(6):  # More than one client may have open at once.
            with pytest.raises(requests.ReadTimeout):
                requests.get(
                    f"{url}/v1/onboard/{accepted.json()['request_id']}/events",
                    headers={"X-Forwarded-For": client}, timeout=0.3,
                )  # fmt: skip
        wait_until(lambda: listen(url, accepted, client=client).status_code != 429)
        refused = listen(url, accepted)
    assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
    assert refused.json()["trace_id"] == refused.headers["X-Request-ID"]
    assert refused.headers["Retry-After"] == "2"


def test_a_look_that_breaks_is_followed_by_another(platform, monkeypatch):
    """Whatever it broke on: else all who watch would wait for nothing."""
    monkeypatch.setattr(watching, "AFTER_ERROR", 0.05)
    request_id = request_id_of(platform.sign_up())

    class Stumbling(SignUpWatcher):
        looks = 0

        async def _look(self, connection):
            self.looks += 1
            if self.looks == 1:
                raise LookupError("stumbled")
            await super()._look(connection)

    async def watch():
        watcher = Stumbling()
        with watcher.watch(request_id) as watched:
            row = await watched.first(timeout=10)
        await watcher.stop()
        return row

    assert asyncio.run(watch()).id == request_id


def test_it_does_not_look_at_the_database_while_nobody_listens(stream, superuser):
    def looks() -> int:
        return superuser.execute(
            "select count(*) from pg_stat_activity where datname = current_database()"
            " and query like '%onboarding_by_request(wanted)%' and pid <> pg_backend_pid()"
        ).fetchone()[0]

    wait_until(lambda: looks() == 0)
