"""Steps of the platform's own back end, over real HTTP on loopback."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote
from uuid import uuid5

import pytest
from django.test import Client
from django.utils import timezone
from standardwebhooks import Webhook

from jobs.outcomes import Fail, Retry, Snooze, Succeeded
from onboarding import steps
from tests.onboarding.hands import take
from tests.onboarding.world import request_id_of
from tests.people import APEX

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


class BackEnd(ThreadingHTTPServer):
    """The platform's billing system: keeps what it is told, answers as it is told."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.calls: list[tuple[dict, dict]] = []
        self.answer: tuple[int, dict] = (200, {"resource": "cus_1"})
        self.headers: dict[str, str] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/provision"


class Handler(BaseHTTPRequestHandler):
    server: BackEnd

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        Webhook(SECRET).verify(body, dict(self.headers))
        self.server.calls.append((dict(self.headers), json.loads(body)))
        status, answer = self.server.answer
        self.send_response(status)
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.end_headers()
        said = answer(body, self.headers) if callable(answer) else json.dumps(answer)
        self.wfile.write(said.encode())

    def log_message(self, *args) -> None:
        pass


@pytest.fixture
def billing(settings):
    with BackEnd() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        settings.SLIPWAY = settings.SLIPWAY | {
            "PROVISIONING_STEPS": [{"name": "billing", "url": server.url, "secret": SECRET}]
        }
        steps.all_steps.cache_clear()
        yield server
        server.shutdown()
    steps.all_steps.cache_clear()


def run(operator, accepted):
    return steps.run(take(operator, request_id_of(accepted)))


def call_back(accepted, body: dict, *, secret: str = SECRET, name: str = "billing"):
    text, now = json.dumps(body), timezone.now()
    return Client().post(
        f"/v1/onboard/{accepted.json()['request_id']}/steps/{name}",
        text,
        content_type="application/json",
        headers={
            "Host": APEX,
            "webhook-id": "msg_1",
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": Webhook(secret).sign("msg_1", now, text),
        },
    )


def resources(operator, accepted) -> dict[str, str]:
    return dict(
        operator.execute(
            "select r.step, r.name from onboarding_provisionedresource r"
            " join onboarding_pendingonboarding o using (tenant_id) where o.id = %s",
            [request_id_of(accepted)],
        ).fetchall()
    )


def test_it_calls_the_back_end_signed_and_records_what_that_made(platform, operator, billing):
    accepted = platform.sign_up(tenant_name="Acme", metadata={"ref": "x1"}, external_id="c7")
    assert run(operator, accepted) == Succeeded()
    [(headers, body)] = billing.calls
    assert headers["webhook-id"] == f"msg_{uuid5(request_id_of(accepted), 'billing')}"
    assert body["type"] == "tenant.provision"
    assert body["data"]["slug"] == accepted.json()["tenant"]["slug"]
    assert (body["data"]["metadata"], body["data"]["external_id"]) == ({"ref": "x1"}, "c7")
    assert resources(operator, accepted)["billing"] == "cus_1"
    names = [step["name"] for step in platform.status(accepted).json()["steps"]]
    assert names.index("analytics") < names.index("billing") < names.index("welcome")


def test_it_calls_again_with_the_same_id_after_a_failure(platform, operator, billing):
    accepted = platform.sign_up()
    billing.answer, billing.headers = (503, {}), {"Retry-After": "7"}
    outcome = run(operator, accepted)
    assert isinstance(outcome, Retry)
    assert (outcome.error, outcome.after) == ("billing: HTTP 503", 7.0)
    billing.answer = (200, {})
    assert run(operator, accepted) == Succeeded()
    assert len({headers["webhook-id"] for headers, _ in billing.calls}) == 1


def test_the_attempt_keeps_the_exchange_without_signature_and_address(platform, operator, billing):
    billing.answer = (500, {"oops": 1})
    exchange = run(operator, platform.sign_up(email="ann@secret.example")).exchange
    assert exchange.response["status"] == 500
    assert "oops" in exchange.response["body"]
    assert "secret.example" not in str(exchange)
    assert "v1," not in str(exchange)


def echoes_of(body: bytes, headers) -> str:
    """How a back end in debug mode answers: all that it was sent, in several spellings."""
    email = json.loads(body)["data"]["email"]
    return "\n".join(
        [
            email,  # First, for the test that has it cut in two.
            body.decode(),
            str(dict(headers)),
            json.dumps({"signature": headers["webhook-signature"].replace("/", "\\/")}),
            email.upper(),
            quote(email, safe=""),
            email.replace("@", "\\u0040").replace("+", "\\u002B"),
            email.replace("@", "&#64;").replace("+", "&#x2b;"),
            f"secret={SECRET}",
            SECRET.removeprefix("whsec_"),
        ]
    )


@pytest.mark.parametrize("padding", [0, 4096 - 10])
def test_the_attempt_keeps_no_echo_of_address_signature_or_secret(
    platform, operator, billing, padding
):
    billing.answer = (500, lambda body, headers: "x" * padding + echoes_of(body, headers))
    accepted = platform.sign_up(
        email="Ann+Bo@Secret.example", metadata={"by": "ann+bo@secret.EXAMPLE"}
    )
    exchange = run(operator, accepted).exchange
    [(headers, _)] = billing.calls
    kept = str(exchange).lower()
    for secret in ("secret.example", "ann+bo", "ann%2bbo", SECRET[6:26].lower(), "v1,"):
        assert secret not in kept
    assert headers["webhook-signature"].lower()[3:20] not in kept
    if not padding:
        assert "webhook-id" in kept  # What is no secret stays.


def test_a_refusal_goes_to_the_dead_letters_at_once(platform, operator, billing):
    billing.answer = (422, {})
    assert isinstance(run(operator, platform.sign_up()), Fail)


def test_it_waits_for_a_back_end_that_says_202_and_goes_on_when_called_back(
    platform, operator, billing
):
    billing.answer = (202, {})
    accepted = platform.sign_up()
    assert isinstance(run(operator, accepted), Snooze)
    assert "billing" not in resources(operator, accepted)
    operator.execute(
        "update onboarding_pendingonboarding set state = 'scheduled', lease = null,"
        " due_at = now() + interval '1 hour' where id = %s", [request_id_of(accepted)],
    )  # fmt: skip
    assert call_back(accepted, {"resource": "cus_9"}).status_code == 204
    assert call_back(accepted, {"resource": "cus_9"}).status_code == 204
    assert resources(operator, accepted)["billing"] == "cus_9"
    due = operator.execute(
        "select due_at <= now() from onboarding_pendingonboarding where id = %s",
        [request_id_of(accepted)],
    )
    assert due.fetchone() == (True,)
    assert run(operator, accepted) == Succeeded()
    assert len(billing.calls) == 1


def test_a_callback_with_another_signature_changes_nothing(platform, operator, billing):
    accepted = platform.sign_up()
    refused = call_back(accepted, {"resource": "x"}, secret="whsec_" + "A" * 32)
    assert refused.status_code == 401
    assert resources(operator, accepted) == {}


def test_nobody_can_call_back_for_a_step_of_ours(platform, operator, billing):
    accepted = platform.sign_up()
    assert call_back(accepted, {}, name="welcome").status_code == 404
    assert resources(operator, accepted) == {}


def test_undoing_tells_the_back_end(platform, operator, billing):
    accepted = platform.sign_up()
    run(operator, accepted)
    claim = take(operator, request_id_of(accepted), discarding=True)
    assert steps.undo(claim) == Succeeded()
    headers, body = billing.calls[-1]
    assert body["type"] == "tenant.deprovision"
    assert headers["webhook-id"] == f"msg_{uuid5(request_id_of(accepted), 'billing:undo')}"


@pytest.mark.parametrize(("status", "undone"), [(404, True), (410, True), (500, False)])
def test_undoing_is_done_only_when_the_back_end_says_so(
    platform, operator, billing, status, undone
):
    accepted = platform.sign_up()
    run(operator, accepted)
    billing.answer = (status, {})
    outcome = steps.undo(take(operator, request_id_of(accepted), discarding=True))
    assert (outcome == Succeeded()) is undone


@pytest.mark.parametrize(
    ("signature", "body"),
    [
        ("v1", b"{}"),
        ("v1,a,b", b"{}"),
        ("v1,\xe9", b"{}"),
        ("v1,%%%", b"{}"),
        ("v1,YQ==", b"\xff"),
        ("", b"{}"),
    ],
)
def test_a_callback_that_nobody_signed_is_refused(platform, billing, signature, body):
    accepted = platform.sign_up()
    refused = platform.post(
        f"/v1/onboard/{accepted.json()['request_id']}/steps/billing", body,
        **{"webhook-id": "msg_1", "webhook-timestamp": str(int(timezone.now().timestamp()))},
        **{"webhook-signature": signature},
    )  # fmt: skip
    assert refused.status_code == 401


def test_a_callback_before_there_is_a_tenant_is_told_to_come_again(platform, operator, billing):
    accepted = platform.sign_up()
    early = call_back(accepted, {"resource": "cus_2"})
    assert (early.status_code, early.json()["code"]) == (409, "step_not_begun")
    assert early["Retry-After"] == "2"
    billing.answer = (202, {})
    assert isinstance(run(operator, accepted), Snooze)
    assert call_back(accepted, {"resource": "cus_2"}).status_code == 204
    assert resources(operator, accepted)["billing"] == "cus_2"


@pytest.mark.parametrize("name", ["a\0b", "a\u202eb"])
def test_what_a_back_end_calls_its_resource_is_cleaned(platform, operator, billing, name):
    accepted = platform.sign_up()
    billing.answer = (202, {})
    assert isinstance(run(operator, accepted), Snooze)
    assert call_back(accepted, {"resource": name}).status_code == 204
    assert resources(operator, accepted)["billing"] == "ab"
    other = platform.sign_up()
    billing.answer = (200, {"resource": name})
    assert run(operator, other) == Succeeded()
    assert resources(operator, other)["billing"] == "ab"
