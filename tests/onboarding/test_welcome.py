"""The welcome mail: one, to the right person, with a link that works once."""

import re
from uuid import uuid4

import pytest
from django.test import Client

from jobs.outcomes import Retry, Snooze, Succeeded
from onboarding import backfill, steps
from tenants import activation
from tests.onboarding.hands import take, take_job
from tests.onboarding.world import provision, request_id_of, traces
from tests.people import APEX, Browser, bearer, make_user

LINK = re.compile(r"http://slipway\.localhost:8000(/activate/\S+)")


def text_of(mail) -> str:
    return mail.get_payload(0).get_payload(decode=True).decode()


def fresh_email() -> str:
    return f"{uuid4().hex[:12]}@{uuid4().hex[:8]}.example"


def run(operator, accepted):
    return steps.run(take(operator, request_id_of(accepted)))


def test_it_writes_to_the_owner_with_a_link_that_activates_the_account(stranger, operator, smtp):
    email = fresh_email()
    accepted = stranger.sign_up(email=email, tenant_name="Acme & Sons", plan="free")
    provision(operator, accepted)
    [mail] = smtp.to(email)
    assert mail["Subject"] == "Welcome: activate your account at Acme & Sons"
    assert mail["Auto-Submitted"] == "auto-generated"
    assert accepted.json()["tenant"]["url"] in text_of(mail)
    link = LINK.search(text_of(mail))[1]

    browser = Browser()
    assert browser.get(link).status_code == 200
    done = browser.post(link, password="a-long-enough-1", again="a-long-enough-1")
    assert done.status_code == 200
    owner = operator.execute(
        "select activated_at is not null, accepted_at is not null from tenants_user u"
        " join tenants_membership m on m.user_id = u.id where u.email = %s", [email],
    )  # fmt: skip
    assert owner.fetchall() == [(True, True)]
    assert browser.get(link).status_code == 410  # Single use.

    path = f"/v1/onboard/{accepted.json()['request_id']}/claim"
    token = accepted.json()["claim_token"]
    given = Client().post(path, headers={"Host": APEX, "Authorization": f"Bearer {token}"})
    assert given.status_code == 201


def test_its_id_is_made_from_the_request(platform, operator, smtp):
    email = fresh_email()
    accepted = platform.sign_up(email=email)
    provision(operator, accepted)
    from uuid import uuid5

    [mail] = smtp.to(email)
    assert mail["Message-ID"] == f"<{uuid5(request_id_of(accepted), 'welcome')}@slipway.localhost>"


def test_an_address_gets_one_welcome_a_day_and_the_second_a_day_later(platform, operator, smtp):
    email = fresh_email()
    provision(operator, platform.sign_up(email=email))
    second = provision(operator, platform.sign_up(email=email.upper()))
    assert len(smtp.mails) == 1
    job = operator.execute(
        "select due_at > now() + interval '23 hours' from jobs_job"
        " where tenant_id = %s and kind = 'onboarding.welcome'", [second],
    )  # fmt: skip
    assert job.fetchall() == [(True,)]

    claim = take_job(operator, second, "onboarding.welcome")
    assert isinstance(backfill.send_welcome(claim), Snooze)  # Still the same day.
    operator.execute(
        "update onboarding_welcomemail set started_at = started_at - interval '25 hours'"
    )
    assert backfill.send_welcome(claim) == Succeeded()
    assert len(smtp.mails) == 2


def test_a_server_that_is_away_costs_no_try(platform, operator, smtp, settings):
    email = fresh_email()
    accepted = platform.sign_up(email=email)
    port, settings.EMAIL_PORT = settings.EMAIL_PORT, 1
    for _ in range(3):
        assert isinstance(run(operator, accepted), Retry)
    settings.EMAIL_PORT = port
    assert run(operator, accepted) == Succeeded()
    assert len(smtp.to(email)) == 1


def test_a_refusal_costs_no_try(platform, operator, smtp):
    email = fresh_email()
    accepted = platform.sign_up(email=email)
    smtp.refuse = "451 try later"
    for _ in range(3):
        assert isinstance(run(operator, accepted), Retry)
    smtp.refuse = None
    assert run(operator, accepted) == Succeeded()
    assert len(smtp.to(email)) == 1


def test_the_error_that_operators_read_does_not_name_the_owner(platform, operator, smtp):
    email = fresh_email()
    smtp.refuse = f"550 <{email}> unknown"
    outcome = run(operator, platform.sign_up(email=email))
    assert outcome.error.startswith("welcome: SMTPDataError")
    assert "<owner>" in outcome.error
    assert email not in outcome.error


def test_two_sign_ups_of_one_new_address_make_one_person_who_owns_both(platform, operator, smtp):
    email = fresh_email()
    tenants = [provision(operator, platform.sign_up(email=email)) for _ in range(2)]
    people = operator.execute(
        "select count(distinct user_id) from tenants_membership where tenant_id = any (%s)",
        [tenants],
    )
    assert people.fetchone() == (1,)


def test_who_has_an_account_already_joins_only_by_accepting(platform, operator, smtp):
    email = fresh_email()
    provision(operator, platform.sign_up(email=email))
    operator.execute("update tenants_user set activated_at = now() where email = %s", [email])
    second = provision(operator, platform.sign_up(email=email))
    joined = operator.execute(
        "select accepted_at from tenants_membership where tenant_id = %s", [second]
    )
    assert joined.fetchall() == [(None,)]


def test_a_stranger_does_not_learn_that_an_address_is_an_operators(stranger, operator, smtp):
    staff, somebody = make_user(staff=True), make_user()
    answers = []
    for email in (staff.email, somebody.email):
        accepted = stranger.sign_up(email=email)
        provision(operator, accepted)
        seen = stranger.status(accepted).json()
        path = f"/v1/onboard/{accepted.json()['request_id']}/claim"
        claimed = Client().post(path, headers=bearer(accepted.json()["claim_token"])).json()
        steps_seen = [(step["name"], step["state"]) for step in seen["steps"]]
        answers.append((seen["status"], seen["delayed"], steps_seen, claimed["code"]))
        assert len(smtp.to(email)) == 1
    assert answers[0] == answers[1]
    assert answers[0][0] == "ready"


def test_an_operators_address_owns_no_tenant(platform, operator, smtp):
    staff = make_user(staff=True)
    accepted = platform.sign_up(email=staff.email.upper())
    tenant_id = provision(operator, accepted)
    waiting = operator.execute(
        "select user_id, role, accepted_at from tenants_membership where tenant_id = %s",
        [tenant_id],
    )
    assert waiting.fetchall() == [(staff.pk, "owner", None)]
    [mail] = smtp.to(staff.email.upper())
    assert "operators own no tenants" in text_of(mail)
    assert "/activate/" not in mail.as_string() + text_of(mail)

    # And a link would lead nowhere.
    token = activation.make_token(user_id=staff.pk, tenant_id=tenant_id)
    assert Browser().get(f"/activate/{token}").status_code == 410
    host = f"{accepted.json()['tenant']['slug']}.slipway.localhost"
    assert Browser(host).login(staff).status_code == 403


def test_undoing_leaves_the_operator_alone(platform, operator, smtp):
    staff = make_user(staff=True)
    accepted = platform.sign_up(email=staff.email)
    tenant_id = provision(operator, accepted)
    claim = take(operator, request_id_of(accepted), discarding=True)
    assert steps.undo(claim) == Succeeded()
    assert traces(operator, tenant_id) == {}
    left = operator.execute("select is_staff from tenants_user where id = %s", [staff.pk])
    assert left.fetchall() == [(True,)]


@pytest.mark.parametrize("name", ['<b>"Bold"</b>', "{{ settings.SECRET_KEY }}"])
def test_the_name_is_text_in_the_mail(platform, operator, smtp, name):
    email = fresh_email()
    provision(operator, platform.sign_up(email=email, tenant_name=name))
    [mail] = smtp.to(email)
    html = mail.get_payload(1).get_payload(decode=True).decode()
    assert "<b>" not in html
    assert name in text_of(mail)
