"""POST /v1/onboard/{request_id}/resend: the owner lost the welcome mail."""

from uuid import uuid4

import pytest
from django.test import Client

from jobs.outcomes import Succeeded
from onboarding import backfill
from tests.onboarding.hands import settle_job, take_job
from tests.onboarding.test_welcome import LINK, text_of
from tests.onboarding.world import activate_owner, provision
from tests.people import PASSWORD, Browser, bearer


@pytest.fixture
def email():
    return f"{uuid4().hex}@lost.example"


@pytest.fixture
def accepted(stranger, operator, smtp, email):
    """A sign-up that is ready, whose mail was sent."""
    accepted = stranger.sign_up(email=email)
    provision(operator, accepted)
    return accepted


def resend(accepted, token: str | None = None):
    token = token or accepted.json()["claim_token"]
    path = f"/v1/onboard/{accepted.json()['request_id']}/resend"
    return Client().post(path, headers=bearer(token))


def a_day_passes(operator) -> None:
    operator.execute(
        "update onboarding_welcomemail set started_at = started_at - interval '25 hours'"
    )


def tenant_of(operator, accepted) -> int:
    slug = accepted.json()["tenant"]["slug"]
    return operator.execute("select id from tenants_tenant where slug = %s", [slug]).fetchone()[0]


def run_job(operator, tenant_id: int) -> None:
    claim = take_job(operator, tenant_id, "onboarding.welcome")
    assert backfill.send_welcome(claim) == Succeeded()
    settle_job(operator, claim, "succeeded")


def test_it_sends_another_mail_a_day_later_with_a_link_that_works(accepted, operator, smtp, email):
    a_day_passes(operator)
    taken = resend(accepted)
    assert taken.status_code == 202
    assert taken.json() == {"request_id": accepted.json()["request_id"]}
    run_job(operator, tenant_of(operator, accepted))
    first, second = smtp.to(email)
    assert first["Message-ID"] != second["Message-ID"]
    link = LINK.search(text_of(second))[1]
    assert Browser().post(link, password=PASSWORD, again=PASSWORD).status_code == 200
    assert Browser().get(LINK.search(text_of(first))[1]).status_code == 410


def test_an_address_gets_one_mail_a_day_however_often_it_is_asked_for(
    accepted, operator, smtp, email
):
    refused = resend(accepted)
    assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
    assert 86_000 < int(refused["Retry-After"]) <= 86_400
    a_day_passes(operator)
    assert resend(accepted).status_code == 202
    assert resend(accepted).status_code == 429  # It is on its way.
    run_job(operator, tenant_of(operator, accepted))
    assert resend(accepted).status_code == 429
    assert len(smtp.to(email)) == 2


def test_of_two_that_were_asked_for_at_once_one_is_sent(accepted, operator, smtp, email):
    a_day_passes(operator)
    assert resend(accepted).status_code == 202
    tenant_id = tenant_of(operator, accepted)
    first = take_job(operator, tenant_id, "onboarding.welcome")
    settle_job(operator, first, "succeeded")  # Out of sight for the second request.
    assert resend(accepted).status_code == 202
    operator.execute("update jobs_job set state = 'processing' where id = %s", [first.id])
    second = operator.execute(
        "select id from jobs_job where tenant_id = %s and id <> %s", [tenant_id, first.id]
    ).fetchone()
    operator.execute("update jobs_job set kind = 'done' where id = %s", [first.id])
    assert backfill.send_welcome(first) == Succeeded()
    claim = take_job(operator, tenant_id, "onboarding.welcome")
    assert (claim.id,) == second
    assert backfill.send_welcome(claim) == Succeeded()
    assert len(smtp.to(email)) == 2  # The first of all, and one more.


def test_it_waits_for_the_mail_that_waits_for_tomorrow(platform, operator, smtp, email, accepted):
    second = platform.sign_up(email=email)
    provision(operator, second)
    a_day_passes(operator)
    refused = resend(second)
    assert refused.status_code == 429
    assert 86_000 < int(refused["Retry-After"]) <= 86_400


def test_it_refuses_when_the_owner_has_come(accepted, operator, smtp, email):
    a_day_passes(operator)
    activate_owner(operator, tenant_of(operator, accepted))
    refused = resend(accepted)
    assert (refused.status_code, refused.json()["code"]) == (409, "already_activated")


def test_it_refuses_a_token_that_is_not_the_sign_ups(accepted, platform, operator):
    a_day_passes(operator)
    other = platform.sign_up()
    for token in (other.json()["claim_token"], "clm_1_x"):
        refused = resend(accepted, token)
        assert (refused.status_code, refused.json()["code"]) == (401, "invalid_claim_token")
    assert resend(accepted).status_code == 202


def test_it_refuses_before_the_tenant_is_ready(platform):
    refused = resend(platform.sign_up())
    assert (refused.status_code, refused.json()["code"]) == (409, "not_ready")
