"""GET …/events from a real `stream` process: what a browser hears of a sign-up."""

import json
import subprocess
import sys
from uuid import uuid4

import pytest
import requests

from jobs.outcomes import Succeeded
from onboarding import steps
from tests.conftest import ROOT, child_environment
from tests.onboarding.hands import settle, take
from tests.onboarding.test_hangs import wait_until
from tests.onboarding.test_status import NOBODYS
from tests.onboarding.world import free_port, provision, request_id_of

WAY = ["tenant", "owner", "storage", "workspace", "analytics", "cache", "welcome", "announce"]


@pytest.fixture(scope="module")
def stream():
    """Its address."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "granian", "--interface", "asgi", "--port", str(port), "--no-ws",
         "--log-level", "warning", "config.asgi:application"],
        cwd=ROOT, env=child_environment() | {"TRUSTED_PROXIES": "127.0.0.1"},
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    wait_until(lambda: answers(url))
    yield url
    process.terminate()
    process.wait(timeout=20)


def answers(url: str) -> bool:
    try:
        return requests.get(f"{url}/healthz", timeout=1).status_code == 200
    except requests.ConnectionError:
        return False


def listen(stream: str, accepted, *, client: str | None = None, **headers: str):
    address = client or f"203.0.113.{uuid4().int % 200}"
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


def test_it_does_not_look_at_the_database_while_nobody_listens(stream, superuser):
    def looks() -> int:
        return superuser.execute(
            "select count(*) from pg_stat_activity where datname = current_database()"
            " and query like '%onboarding_by_request(wanted)%' and pid <> pg_backend_pid()"
        ).fetchone()[0]

    wait_until(lambda: looks() == 0)
