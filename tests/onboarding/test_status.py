"""GET /v1/onboard/{request_id}, and the page that the tenant's address shows meanwhile."""

from uuid import uuid4

import pytest

from onboarding import steps
from tests.onboarding.hands import settle, take
from tests.onboarding.world import provision, request_id_of

DONE, RUNNING, WAITING = "done", "running", "waiting"
NOBODYS = "6f1d0b3e-0000-4000-8000-000000000000"


@pytest.fixture
def accepted(platform):
    return platform.sign_up(slug=f"a-{uuid4().hex[:8]}", email="ann@secret.example")


def progress_of(answer) -> list[str]:
    return [step["state"] for step in answer.json()["steps"]]


def test_it_goes_from_pending_over_provisioning_to_ready(stranger, accepted, operator):
    fresh = stranger.status(accepted)
    assert (fresh.status_code, fresh.json()["status"]) == (200, "pending")
    assert set(progress_of(fresh)) == {WAITING}
    assert fresh["Retry-After"] == "1"

    claim = take(operator, request_id_of(accepted))
    running = stranger.status(accepted)
    assert running.json()["status"] == "provisioning"
    assert progress_of(running)[:2] == [RUNNING, WAITING]

    steps.run(claim)
    settle(operator, claim, "succeeded")
    ready = stranger.status(accepted)
    assert ready.json()["status"] == "ready"
    assert set(progress_of(ready)) == {DONE}
    assert ready.json()["tenant"]["id"].startswith("tnt_")
    assert ready.json()["ready_at"]
    assert "Retry-After" not in ready


def test_it_tells_the_public_neither_address_nor_error_nor_attempts(stranger, accepted, operator):
    operator.execute(
        "update onboarding_pendingonboarding set state = 'dead_letter', attempts = 12,"
        " last_error = 'welcome: 451 try later' where id = %s", [request_id_of(accepted)],
    )  # fmt: skip
    seen = stranger.status(accepted)
    assert (seen.json()["status"], seen.json()["delayed"]) == ("provisioning", True)
    assert seen["Retry-After"] == "5"
    for secret in (b"secret.example", b"451", b"attempt", b"dead", b"error", b"caller"):
        assert secret not in seen.content


def test_it_tells_the_platform_attempts_and_the_last_error(platform, accepted, operator):
    operator.execute(
        "update onboarding_pendingonboarding set state = 'failed', attempts = 2,"
        " last_error = 'storage: away' where id = %s", [request_id_of(accepted)],
    )  # fmt: skip
    seen = platform.status(accepted).json()
    assert (seen["state"], seen["attempts"]) == ("failed", 2)
    assert seen["last_error"] == "storage: away"
    assert "secret.example" not in str(seen)


def test_it_says_delayed_after_half_a_minute(stranger, accepted, operator):
    assert stranger.status(accepted).json()["delayed"] is False
    operator.execute(
        "update onboarding_pendingonboarding set created_at = now() - interval '31 seconds'"
        " where id = %s", [request_id_of(accepted)],
    )  # fmt: skip
    assert stranger.status(accepted).json()["delayed"] is True


@pytest.mark.parametrize("state", ["cancelled", "discarding", "discarded"])
def test_it_says_cancelled_for_what_was_given_up(stranger, accepted, operator, state):
    operator.execute(
        "update onboarding_pendingonboarding set state = %s where id = %s",
        [state, request_id_of(accepted)],
    )
    seen = stranger.status(accepted)
    assert seen.json()["status"] == "cancelled"
    assert "Retry-After" not in seen


def test_it_answers_304_to_who_has_it_already(stranger, accepted, operator):
    first = stranger.status(accepted)
    again = stranger.status(accepted, **{"If-None-Match": first["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert again["ETag"] == first["ETag"]
    take(operator, request_id_of(accepted))
    assert stranger.status(accepted, **{"If-None-Match": first["ETag"]}).status_code == 200


@pytest.mark.parametrize("path", [f"req_{NOBODYS}", "req_1", NOBODYS, f"tnt_{NOBODYS}"])
def test_it_answers_404_for_an_id_that_is_nobodys(stranger, path):
    refused = stranger.get(f"/v1/onboard/{path}")
    assert (refused.status_code, refused.json()["code"]) == (404, "unknown_request")


# ---- The tenant's own address ----


def visit(caller, accepted, path: str = "/", accept: str = "text/html"):
    host = accepted.json()["tenant"]["slug"] + ".slipway.localhost"
    return caller.client.get(path, headers={"Host": host, "Accept": accept})


def test_the_tenants_address_shows_the_set_up_page_until_it_is_ready(stranger, accepted, operator):
    page = visit(stranger, accepted)
    assert page.status_code == 503
    assert page["Retry-After"] == "2"
    assert page["Cache-Control"] == "no-store"
    assert page["X-Robots-Tag"] == "noindex"
    html = page.content.decode()
    assert "Setting up" in html
    assert "onboarding/setup.js" in html
    assert "secret.example" not in html
    assert accepted.json()["request_id"] not in html

    provision(operator, accepted)
    ready = visit(stranger, accepted)
    assert ready.status_code == 200
    assert "Setting up" not in ready.content.decode()


def test_the_set_up_page_has_no_script_of_its_own(stranger, accepted):
    page = visit(stranger, accepted)
    html = page.content.decode()
    assert "<script>" not in html
    assert " style=" not in html
    assert "script-src 'self'" in page["Content-Security-Policy"]


def test_the_set_up_page_is_told_the_progress(stranger, accepted, operator):
    take(operator, request_id_of(accepted))
    told = visit(stranger, accepted, "/progress", "application/json")
    assert told.status_code == 200
    assert told.json()["status"] == "provisioning"
    assert told.json()["steps"][0] == {"name": "tenant", "state": "running"}
    assert "id" not in str(told.json().keys())


def test_the_api_of_a_tenant_that_is_not_ready_answers_503(stranger, accepted):
    refused = visit(stranger, accepted, "/v1/customers", "application/json")
    assert refused.status_code == 503
    assert refused.json()["code"] == "tenant_not_ready"


def test_an_address_that_nobody_asked_for_is_unknown(stranger):
    answer = stranger.client.get("/", headers={"Host": f"no-{uuid4().hex[:8]}.slipway.localhost"})
    assert answer.status_code == 404


def test_a_discarded_sign_up_frees_its_address(platform, stranger, accepted, operator):
    slug = accepted.json()["tenant"]["slug"]
    claim = take(operator, request_id_of(accepted), discarding=True)
    steps.undo(claim)
    assert platform.sign_up(slug=slug).status_code == 409  # Until the undoing is settled.
    settle(operator, claim, "discarded")
    assert visit(stranger, accepted).status_code == 404
    assert platform.sign_up(slug=slug).status_code == 202
