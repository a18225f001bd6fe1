"""The link in the welcome mail: single use, 72 hours, consumed by POST."""

import logging
import threading
import time

import pytest
from django.core import signing
from django.db import connections
from django.test import Client
from structlog.stdlib import ProcessorFormatter

from tenants import activation, problems
from tests.people import (
    APEX,
    PASSWORD,
    Browser,
    bearer,
    csrf_token,
    host_of,
    join,
    make_user,
    prefix_of,
    tenant_key,
)


@pytest.fixture
def owner(tenant):
    return make_user(tenant, activated=False, accepted=False)


@pytest.fixture
def path(owner, tenant):
    url = activation.url(user_id=owner.pk, tenant_id=tenant.pk)
    assert url.startswith(f"http://{APEX}:8000/activate/")
    return url.removeprefix(f"http://{APEX}:8000")


def state_of(owner, operator):
    return operator.execute(
        "select activated_at is not null, password from tenants_user where id = %s", [owner.pk]
    ).fetchone()


def activate(path, password=PASSWORD):
    return Browser().post(path, password=password, again=password)


def test_the_link_sets_the_password_and_the_owner_signs_in(path, owner, tenant, operator):
    page = Browser().get(path)
    assert page.status_code == 200
    assert owner.email in page.content.decode()
    answer = activate(path)
    assert answer.status_code == 200
    assert f"http://{host_of(tenant)}:8000/login" in answer.content.decode()
    assert Browser(host_of(tenant)).login(owner).status_code == 302
    entry = operator.execute(
        "select actor, target from tenants_auditentry"
        " where action = 'user.activated' and tenant_id = %s",
        [tenant.pk],
    ).fetchall()
    assert entry == [(f"user:{owner.pk}", f"user:{owner.pk}")]


def test_looking_at_the_link_uses_nothing_up(path, owner, operator):
    before = state_of(owner, operator)
    for _ in range(3):
        assert Browser().get(path).status_code == 200
        assert Browser().client.head(path, headers={"Host": APEX}).status_code == 200
    assert state_of(owner, operator) == before
    assert activate(path).status_code == 200


def test_the_link_works_once(path, owner, operator):
    assert activate(path).status_code == 200
    used = state_of(owner, operator)
    assert Browser().get(path).status_code == 410
    again = Browser().client.post(
        path, {"password": "other-password-1", "again": "other-password-1"}, headers={"Host": APEX}
    )
    assert again.status_code in {403, 410}  # No form is left to take a CSRF token from.
    with pytest.raises(problems.InvalidLink):
        activation.activate(token=path.rsplit("/", 1)[1], password="other-password-1")
    assert state_of(owner, operator) == used


def test_of_two_who_use_it_at_once_one_wins(owner, tenant, operator):
    token = activation.make_token(user_id=owner.pk, tenant_id=tenant.pk)
    start, results = threading.Barrier(4), []

    def consume(number):
        start.wait()
        try:
            activation.activate(token=token, password=f"password-number-{number}")
            results.append(number)
        except problems.InvalidLink:
            results.append(None)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=consume, args=[number]) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    winners = [number for number in results if number is not None]
    assert len(results) == 4
    assert len(winners) == 1
    browser = Browser(host_of(tenant))
    assert browser.login(owner, f"password-number-{winners[0]}").status_code == 302
    entries = operator.execute(
        "select count(*) from tenants_auditentry"
        " where action = 'user.activated' and tenant_id = %s",
        [tenant.pk],
    ).fetchone()
    assert entries == (1,)


def test_the_link_is_good_for_72_hours_and_no_longer(path, monkeypatch):
    now = time.time()
    monkeypatch.setattr("django.core.signing.time.time", lambda: now + 72 * 3600 - 60)
    assert Browser().get(path).status_code == 200
    monkeypatch.setattr("django.core.signing.time.time", lambda: now + 72 * 3600 + 60)
    assert Browser().get(path).status_code == 410


@pytest.mark.parametrize("change", ["cut", "flip", "salt", "long", "junk", "odd"])
def test_a_forged_link_is_none(path, owner, tenant, operator, change):
    token = path.rsplit("/", 1)[1]
    claims = [str(owner.pk), tenant.pk]
    forged = {
        "cut": token[:-3],
        "flip": ("A" if token[0] != "A" else "B") + token[1:],
        "salt": signing.dumps(claims, salt="tenants.other"),
        "long": token + "a" * 5000,
        "junk": "x",
        "odd": signing.dumps({"a": 1}, salt="tenants.activation"),
    }[change]
    before = state_of(owner, operator)
    refused = Browser().get(f"/activate/{forged}")
    assert refused.status_code == 410
    assert owner.email not in refused.content.decode()
    assert state_of(owner, operator) == before
    assert Browser().get(path).status_code == 200  # The control.


def test_a_link_is_for_the_tenant_that_it_names(owner, other_tenant):
    """Rightly signed, but the person is no member there."""
    with pytest.raises(problems.InvalidLink):
        activation.read(activation.make_token(user_id=owner.pk, tenant_id=other_tenant.pk))


@pytest.mark.parametrize(
    "password",
    ["shrt-1", "1234567890123", "password123", "x" * 129],
)
def test_a_weak_password_is_refused_and_the_link_stays_good(path, owner, operator, password):
    before = state_of(owner, operator)
    refused = activate(path, password)
    assert refused.status_code == 400
    assert 'role="alert"' in refused.content.decode()
    assert password not in refused.content.decode()
    assert state_of(owner, operator) == before
    assert activate(path).status_code == 200


def test_the_two_passwords_must_be_the_same(path, owner, operator):
    before = state_of(owner, operator)
    refused = Browser().post(path, password=PASSWORD, again=PASSWORD + "x")
    assert refused.status_code == 400
    assert state_of(owner, operator) == before


def test_a_password_like_the_address_is_refused(tenant):
    owner = make_user(
        tenant, activated=False, accepted=False, email="grace.hopper.1906@example.org"
    )
    url = activation.url(user_id=owner.pk, tenant_id=tenant.pk)
    assert activate("/" + url.split("/", 3)[3], "grace.hopper.1906").status_code == 400


def test_activation_ends_the_keys_made_before_it_and_no_others(
    path, tenant, other_tenant, client, operator
):
    before, elsewhere = tenant_key(tenant), tenant_key(other_tenant)
    assert client.get("/v1/customers", headers=bearer(before)).status_code == 200
    activate(path)
    assert client.get("/v1/customers", headers=bearer(before)).status_code == 401
    assert client.get("/v1/customers", headers=bearer(elsewhere)).status_code == 200
    after = tenant_key(tenant)
    assert client.get("/v1/customers", headers=bearer(after)).status_code == 200
    assert operator.execute(
        "select count(*) from tenants_auditentry where action = 'key.revoked' and target = %s",
        [f"api_key:{prefix_of(before)}"],
    ).fetchone() == (1,)


def test_another_site_cannot_post_it(path, owner, operator, client):
    from django.test import Client

    before = state_of(owner, operator)
    refused = Client(enforce_csrf_checks=True).post(
        path, {"password": PASSWORD, "again": PASSWORD}, headers={"Host": APEX}
    )
    assert refused.status_code == 403
    assert state_of(owner, operator) == before


def test_the_page_is_kept_by_no_cache_and_told_to_no_other_site(path):
    page = Browser().get(path)
    assert "no-store" in page.headers["Cache-Control"]
    assert page.headers["Referrer-Policy"] == "same-origin"
    assert csrf_token(page.content.decode())


def test_the_link_is_not_written_to_the_log(path, caplog, settings):
    caplog.set_level("DEBUG")
    Browser().get(path)
    assert path.rsplit("/", 1)[1] not in caplog.text


def test_the_link_is_not_written_to_the_log_when_a_form_is_refused(path, caplog):
    refused = Client(enforce_csrf_checks=True).post(path, headers={"host": "slipway.localhost"})
    assert refused.status_code == 403
    (record,) = [one for one in caplog.records if one.name == "django.security.csrf"]
    ours = [handler.formatter for handler in logging.getLogger().handlers]
    (formatter,) = [one for one in ours if isinstance(one, ProcessorFormatter)]
    written = formatter.format(record)
    assert "/activate/…" in written
    assert path.rsplit("/", 1)[1] not in written


# ---- Somebody who has an account already ----


@pytest.fixture
def known(tenant, other_tenant):
    """A member of another tenant, invited to this one."""
    person = make_user(other_tenant)
    join(person, tenant, role="owner", accepted=False)
    return person


def joined(operator, person, tenant) -> bool:
    return operator.execute(
        "select accepted_at is not null from tenants_membership"
        " where user_id = %s and tenant_id = %s",
        [person.pk, tenant.pk],
    ).fetchone()[0]


def link_for(person, tenant) -> str:
    url = activation.url(user_id=person.pk, tenant_id=tenant.pk)
    return url.removeprefix(f"http://{APEX}:8000")


def test_who_has_an_account_joins_with_its_password(known, tenant, operator):
    path, before = link_for(known, tenant), state_of(known, operator)
    assert "have an account already" in Browser().get(path).content.decode()
    assert Browser().post(path, password=PASSWORD).status_code == 200
    assert joined(operator, known, tenant)
    assert state_of(known, operator) == before  # The password stays.
    assert Browser(host_of(tenant)).login(known).status_code == 302
    assert Browser().get(path).status_code == 410  # Single use.


def test_the_link_alone_joins_nobody(known, tenant, operator):
    path, before = link_for(known, tenant), state_of(known, operator)
    answer = Browser().post(path, password="another-password-1", again="another-password-1")
    assert answer.status_code == 400
    assert not joined(operator, known, tenant)
    assert state_of(known, operator) == before
    assert Browser(host_of(tenant)).login(known).status_code == 403


def test_joining_ends_the_keys_made_before_it(known, tenant, operator, client):
    token = tenant_key(tenant)
    Browser().post(link_for(known, tenant), password=PASSWORD)
    assert client.get("/v1/customers", headers=bearer(token)).status_code == 401
