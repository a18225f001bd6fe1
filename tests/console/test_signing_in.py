"""The console's door: lock-out, the second factor, and what a stranger learns at it."""

import base64
import re
import time
import uuid
from datetime import timedelta

import psycopg
import pytest
from django.contrib import admin
from django.contrib.sessions.backends.base import SessionBase
from django.test import override_settings
from django.urls import URLResolver
from django.utils import timezone
from django_otp.oath import totp

from config.limits import Limit
from console import operators, second_factor
from console.models import SecondFactor
from console.roles import Role
from console.site import SIGN_IN_NAME
from tenants.models import AuditEntry, User
from tests.people import PASSWORD, Browser, make_user
from webhooks.secrets import decrypt, encrypt

LOGIN = "/console/login/?next=/console/"
CODE = "/console/second-factor/"
FORM = "/console/password_change/"  # A page with a form, of one who is in.
WHY = {"actor": "system:test", "reason": "a test"}
locking = override_settings(AXES_ENABLED=True)
asking = override_settings(SECOND_FACTOR=True)


class Client(Browser):
    """A browser with an address of its own."""

    def __init__(self, address: str | None = None) -> None:
        super().__init__()
        self.client.defaults["REMOTE_ADDR"] = address or "10.{}.{}.{}".format(*uuid.uuid4().bytes)

    def sign_in(self, email: str, password: str = PASSWORD):
        return self.post(LOGIN, username=email, password=password)

    def show(self, token: str):
        return self.post(CODE, token=token)

    def is_in(self) -> bool:
        return self.get("/console/").status_code == 200


def staff() -> User:
    return make_user(staff=True)


def code_of(user: User, *, steps: int = 0) -> str:
    factor = SecondFactor.objects.using("operator").get(user_id=user.pk)
    return code_by(factor.secret, steps=steps)


def code_by(secret: str, *, steps: int = 0) -> str:
    return f"{totp(base64.b32decode(decrypt(secret)), t0=-30 * steps):06d}"


def enrolled() -> tuple[User, list[str]]:
    """An operator with a second factor, and their recovery codes."""
    user, secret = staff(), second_factor.draft(SessionBase())
    made = second_factor.confirm(user=user, secret=secret, token=code_by(secret, steps=-1))
    assert made is not None
    return user, made.codes


def key_on(page: str) -> str:
    """The key that a page shows to be typed, encrypted as a session keeps it."""
    return encrypt(re.search(r"<code>([A-Z2-7 ]+)</code>", page)[1].replace(" ", ""))


def written(user: User, action: str) -> list[AuditEntry]:
    rows = AuditEntry.objects.using("operator").filter(target=f"user:{user.pk}")
    return list(rows.filter(action=f"operator.{action}"))


def test_a_password_alone_opens_where_nothing_more_is_asked():
    client = Client()
    assert client.sign_in(staff().email).status_code == 302
    assert client.is_in()


@locking
def test_five_wrong_passwords_shut_the_door_for_that_address_from_that_client():
    user, client = staff(), Client("10.1.1.1")
    for _ in range(5):
        answer = client.sign_in(user.email, "wrong")
    shut = client.sign_in(user.email.upper())  # However it is spelled.
    assert shut.status_code == 429
    assert shut.headers["Retry-After"] == "900"
    assert not client.is_in()
    assert answer.status_code in (200, 429)
    # From elsewhere the same person comes in: nobody can shut out another.
    assert Client("10.1.1.2").sign_in(user.email).status_code == 302
    # And from there another person does.
    assert Client("10.1.1.1").sign_in(staff().email).status_code == 302


@locking
def test_the_door_opens_again_after_a_while():
    user, client = staff(), Client("10.1.2.1")
    for _ in range(5):
        client.sign_in(user.email, "wrong")
    assert client.sign_in(user.email).status_code == 429
    with psycopg_operator() as connection:
        connection.execute(
            "update axes_accessattempt set attempt_time = now() - interval '16 minutes'"
        )
    assert client.sign_in(user.email).status_code == 302


def psycopg_operator() -> psycopg.Connection:
    from tests.conftest import connect

    return connect("slipway_operator")


@locking
def test_whoever_does_not_exist_is_shut_out_just_so():
    real, nobody = staff().email, f"{uuid.uuid4().hex}@example.org"
    seen = {}
    for email in (real, nobody):
        client = Client(f"10.2.{len(seen)}.1")
        answers = [client.sign_in(email, "wrong") for _ in range(7)]
        seen[email] = [(a.status_code, without_what_is_random(a, email)) for a in answers]
    assert seen[real] == seen[nobody]


def without_what_is_random(answer, email: str) -> str:
    page = re.sub(r'name="csrfmiddlewaretoken" value="[^"]+"', "", answer.content.decode())
    return page.replace(email, "…")


@locking
@override_settings(TRUSTED_PROXIES=["10.9.0.0/16"])
def test_the_address_is_the_clients_and_not_the_proxys():
    user, client = staff(), Client("10.9.0.1")
    client.headers["X-Forwarded-For"] = "203.0.113.7"
    for _ in range(5):
        client.sign_in(user.email, "wrong")
    assert client.sign_in(user.email).status_code == 429
    client.headers["X-Forwarded-For"] = "203.0.113.8"
    assert client.sign_in(user.email).status_code == 302
    liar = Client("10.9.0.1")
    liar.headers["X-Forwarded-For"] = "203.0.113.8, 203.0.113.7"  # Whoever lies, lies on the left.
    assert liar.sign_in(user.email).status_code == 429


@locking
def test_a_tenants_members_sign_in_where_axes_has_no_business(tenant):
    from tests.people import host_of

    member, browser = make_user(tenant), Browser(host_of(tenant))
    for _ in range(6):
        assert browser.login(member, "wrong").status_code == 403
    assert browser.login(member).status_code == 302
    with psycopg_operator() as connection:
        query = "select count(*) from axes_accessattempt where username = %s"
        assert connection.execute(query, [member.email]).fetchone() == (0,)


@locking
def test_a_client_has_one_network_of_ipv6_and_not_each_of_its_addresses():
    user = staff()
    for n in range(5):
        Client(f"2001:db8:7:1::{n:x}").sign_in(user.email, "wrong")
    assert Client("2001:db8:7:1:ffff::1").sign_in(user.email).status_code == 429
    assert Client("2001:db8:7:2::1").sign_in(user.email).status_code == 302


def test_the_limit_of_a_client_counts_its_network_of_ipv6(monkeypatch):
    monkeypatch.setattr("console.site.SIGN_IN_ADDRESS", Limit(uuid.uuid4().hex, 2, 60))
    answers = [
        Client(f"2001:db8:8:1::{n:x}").sign_in(f"{n}@example.org", "wrong").status_code
        for n in range(3)
    ]
    assert answers == [200, 200, 429]


def test_one_address_is_tried_from_everywhere_so_often_and_no_more(monkeypatch):
    assert (SIGN_IN_NAME.amount, SIGN_IN_NAME.seconds) == (50, 3600)
    monkeypatch.setattr("console.site.SIGN_IN_NAME", Limit(uuid.uuid4().hex, 2, 60))
    user = staff()
    for n in range(3):  # The right one is not counted.
        assert Client(f"10.4.1.{n}").sign_in(user.email).status_code == 302
    for email in (user.email, f"{uuid.uuid4().hex}@example.org"):
        tries = [email, f" {email.upper()}", email]
        wrong = [Client(f"10.4.2.{n}").sign_in(each, "no") for n, each in enumerate(tries)]
        assert [answer.status_code for answer in wrong] == [200, 200, 429]
    assert Client("10.4.3.1").sign_in(user.email).status_code == 429


@pytest.mark.thorough
def test_one_address_tries_so_many_and_no_more():
    client = Client("10.3.1.1")
    answers = [client.sign_in(f"{n}@example.org", "wrong").status_code for n in range(61)]
    assert answers[:60] == [200] * 60
    assert answers[60] == 429


@asking
def test_a_password_alone_opens_nothing_where_a_second_factor_is_asked():
    user, _ = enrolled()
    client = Client()
    client.sign_in(user.email)
    for path in ("/console/", "/console/jobs/job/", "/console/operators/"):
        to_the_door = client.get(path).headers["Location"]
        assert to_the_door.startswith("/console/login/")
        assert client.get(to_the_door).headers["Location"].startswith(CODE)
    assert client.post("/console/operators/", form=CODE, email="a@b.example").status_code == 302
    assert client.show("000000").status_code == 403
    assert not client.is_in()
    assert client.post("/console/logout/", form=CODE).status_code == 200
    assert "/console/login/" in client.get(CODE).headers["Location"]


@asking
def test_the_code_opens_and_only_once():
    user, _ = enrolled()
    client, token = Client(), code_of(user)
    client.sign_in(user.email)
    assert client.show(token).status_code == 302
    assert client.is_in()
    other = Client()
    other.sign_in(user.email)
    assert other.show(token).status_code == 403
    assert not other.is_in()


@asking
def test_who_has_none_sets_one_up_and_gets_recovery_codes():
    user, client = staff(), Client()
    client.sign_in(user.email)
    page = client.get(CODE).content.decode()
    assert "<svg" in page
    assert 'class="ink"' in page
    key = key_on(page)
    assert client.show("123456").status_code == 403
    answer = client.show(code_by(key))
    codes = re.findall(r"<code>([a-z2-9]{5}-[a-z2-9]{5})</code>", answer.content.decode())
    assert len(set(codes)) == 10
    assert client.is_in()
    assert client.get(CODE).status_code == 302  # The key is shown to nobody again.
    stored = SecondFactor.objects.using("operator").get(user_id=user.pk)
    assert decrypt(key) not in stored.secret
    assert not set(codes) & set(stored.recovery)


@asking
def test_a_recovery_code_opens_once():
    user, codes = enrolled()
    client = Client()
    client.sign_in(user.email)
    assert client.show(f" {codes[0].upper()} ").status_code == 302
    assert client.is_in()
    other = Client()
    other.sign_in(user.email)
    assert other.show(codes[0]).status_code == 403


@asking
def test_wrong_codes_make_whoever_guesses_wait():
    user, _ = enrolled()
    client = Client()
    client.sign_in(user.email)
    for _ in range(3):
        client.show("000000")
    assert client.show(code_of(user)).status_code == 403  # Right, and too soon.
    factor = SecondFactor.objects.using("operator").get(user_id=user.pk)
    assert factor.throttling_failure_count >= 1


@asking
def test_a_reset_asks_for_a_new_one_and_ends_what_was_open():
    user, _ = enrolled()
    client = Client()
    client.sign_in(user.email)
    client.show(code_of(user))
    assert client.is_in()
    assert operators.reset_second_factor(user=user, **WHY)
    assert not client.is_in()
    assert 'class="ink"' in client.get(CODE).content.decode()
    entry = AuditEntry.objects.using("operator").get(
        target=f"user:{user.pk}", action="operator.second_factor_reset"
    )
    assert (entry.actor, entry.reason) == tuple(WHY.values())


@asking
def test_it_goes_on_where_they_were_on_the_way_to_and_nowhere_else():
    user, _ = enrolled()
    for target, lands in (
        ("https://evil.example/console/", "/console/"),
        ("//evil.example/console/", "/console/"),
        ("/console/jobs/job/", "/console/jobs/job/"),
    ):
        client = Client()
        client.sign_in(user.email)
        SecondFactor.objects.using("operator").update(last_step=0)
        answer = client.post(CODE, token=code_of(user), next=target)
        assert answer.headers["Location"] == lands


@asking
def test_a_stranger_sees_no_second_factor_page():
    assert "/console/login/" in Client().get(CODE).headers["Location"]


def test_the_app_role_reads_nothing_of_the_door(app_connection):
    for table in ("console_secondfactor", "console_minute", "axes_accessattempt", "axes_accesslog"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            app_connection.execute(f"select * from {table}")


COULD_BE_SECRET = ("secret", "password", "token", "hash", "credential", "digest", "headers")
COULD_BE_SECRET += ("session", "fingerprint", "recovery", "args", "url")
HARMLESS = {
    "jobs_lane.tokens",  # Of a token bucket.
    "customers_import.digest",  # Of a file.
    "lifecycle_export.digest",
    "campaigns_provideraccount.base_url",  # The provider's; who may send is in `credentials`.
    "campaigns_campaign.fingerprint",  # Of a request without secrets.
    "webhooks_event.fingerprint",
}


def test_statistics_read_no_secrets(superuser, dedicated_tenant):
    """A new column with such a name is looked at by whoever adds it. In every home."""
    query = """
        select c.relname || '.' || a.attname from pg_attribute a
        join pg_class c on c.oid = a.attrelid join pg_namespace n on n.oid = c.relnamespace
        where a.attnum > 0 and not a.attisdropped and c.relkind in ('r', 'p', 'v', 'm')
          and n.nspname not in ('pg_catalog', 'information_schema')
          and has_column_privilege('slipway_analytics', c.oid, a.attnum, 'select')"""
    read = {name for (name,) in superuser.execute(query)}
    assert {"tenants_user.email", "customers_source.name"} <= read  # All else it reads.
    found = {name for name in read if any(word in name for word in COULD_BE_SECRET)}
    assert found - HARMLESS == set()
    whole = ("axes_", "console_secondfactor", "console_bulk", "tenants_session")
    assert not [name for name in read if name.startswith(whole)]


def test_signing_in_is_written_down_when_it_happened():
    user, client = staff(), Client()
    client.sign_in(user.email, "wrong")
    assert not written(user, "signed_in")
    client.sign_in(user.email)
    assert len(written(user, "signed_in")) == 1
    client.post(LOGIN, form=FORM, username=user.email, password="wrong")
    assert len(written(user, "signed_in")) == 1


@asking
def test_who_is_asked_for_a_code_is_written_down_as_in_with_the_code():
    user, codes = enrolled()
    client = Client()
    client.sign_in(user.email)
    client.show("000000")
    client.show("000000")  # Too soon: not looked at.
    assert not written(user, "signed_in")
    assert len(written(user, "wrong_code")) == 1
    SecondFactor.objects.using("operator").update(throttling_failure_timestamp=None)
    assert client.show(codes[0]).status_code == 302
    [used] = written(user, "recovery_code_used")
    assert used.after == {"left": 9}
    assert len(written(user, "signed_in")) == 1


@asking
def test_a_password_shown_again_is_not_a_code():
    user, _ = enrolled()
    client = Client()
    client.sign_in(user.email)
    client.show(code_of(user))
    assert client.is_in()
    again = client.post(LOGIN, form=FORM, username=user.email, password=PASSWORD)
    assert again.status_code == 302
    assert not client.is_in()


@asking
def test_a_thief_of_the_first_password_has_no_key_that_the_owner_enrols():
    user, thief, owner = staff(), Client(), Client()
    thief.sign_in(user.email)
    seen = key_on(thief.get(CODE).content.decode())
    owner.sign_in(user.email)
    kept = key_on(owner.get(CODE).content.decode())
    assert decrypt(seen) != decrypt(kept)
    assert decrypt(key_on(owner.get(CODE).content.decode())) == decrypt(kept)  # To be scanned.
    assert owner.show(code_by(seen)).status_code == 403
    assert owner.show(code_by(kept)).status_code == 200
    assert thief.show(code_by(seen)).status_code == 403
    assert not thief.is_in()
    stored = SecondFactor.objects.using("operator").get(user_id=user.pk)
    assert decrypt(stored.secret) == decrypt(kept)


@asking
def test_a_wrong_code_lets_nobody_in_while_somebody_else_enrols(monkeypatch):
    user, thief, owner = staff(), Client(), Client()
    for client in (thief, owner):
        client.sign_in(user.email)
    kept, confirm = key_on(owner.get(CODE).content.decode()), second_factor.confirm

    def and_then_the_owner(**said):
        monkeypatch.setattr(second_factor, "confirm", confirm)
        answer = confirm(**said)
        assert owner.show(code_by(kept)).status_code == 200
        return answer

    monkeypatch.setattr(second_factor, "confirm", and_then_the_owner)
    answer = thief.show("000000")
    assert answer.status_code == 403
    assert 'class="ink"' not in answer.content.decode()  # No key of a factor that is in use.
    assert not thief.is_in()
    assert owner.is_in()


def test_a_code_of_the_next_half_minute_is_taken_and_one_of_two_later_is_not():
    user, secret = staff(), second_factor.draft(SessionBase())
    while time.time() % 30 > 28:  # The steps below must be of one half minute.
        time.sleep(0.2)
    said = {"user": user, "secret": secret}
    assert second_factor.confirm(**said, token=code_by(secret, steps=3)) is None
    assert second_factor.confirm(**said, token=code_by(secret, steps=1)) is not None


def test_a_viewer_enrols_like_everybody():
    made = operators.add(email=f"{uuid.uuid4().hex}@example.org", role=Role.VIEWER, **WHY)
    with asking:
        client = Client()
        client.sign_in(made.user.email, made.password)
        key = key_on(client.get(CODE).content.decode())
        assert client.show(code_by(key)).status_code == 200
        assert client.is_in()


ENDS = override_settings(CONSOLE_SESSION_AGE=12 * 3600, CONSOLE_SESSION_IDLE=3600)


def pass_time(monkeypatch, **span: int) -> None:
    now = timezone.now() + timedelta(**span)
    monkeypatch.setattr("console.sessions._now", now.timestamp)


@asking
@ENDS
def test_who_is_idle_for_an_hour_is_out_second_factor_and_all(monkeypatch):
    user, _ = enrolled()
    client = Client()
    client.sign_in(user.email)
    client.show(code_of(user))
    for minutes in (59, 118):
        pass_time(monkeypatch, minutes=minutes)
        assert client.is_in()
    pass_time(monkeypatch, minutes=160)
    assert client.get("/console/", **{"Sec-Fetch-Dest": "empty"}).status_code == 200  # A page did.
    pass_time(monkeypatch, minutes=178)
    assert "/console/login/" in client.get("/console/jobs/job/").headers["Location"]
    client.sign_in(user.email)
    assert not client.is_in()
    assert client.get(CODE).status_code == 200


@ENDS
def test_a_session_ends_half_a_day_after_the_password_however_busy(monkeypatch):
    client = Client()
    client.sign_in(staff().email)
    for half_hour in range(1, 24):
        pass_time(monkeypatch, minutes=30 * half_hour)
        assert client.get("/console/password_change/").status_code == 200
    pass_time(monkeypatch, hours=12)
    assert not client.is_in()


def every_address(entries, prefix: str = "/console/"):
    for entry in entries:
        path = prefix + str(entry.pattern).lstrip("^").rstrip("$")
        if isinstance(entry, URLResolver):
            yield from every_address(entry.url_patterns, path)
        else:
            yield re.sub(r"<[^>]*uuid:[^>]+>", str(uuid.uuid4()), path), entry.name


@asking
@pytest.mark.thorough
def test_no_address_of_the_console_opens_by_a_password_alone():
    user, _ = enrolled()
    client, seen = Client(), 0
    client.sign_in(user.email)
    for pattern, name in every_address(admin.site.get_urls()):
        path = re.sub(r"<[^>]+>|\(\?P[^)]+\)", "1", pattern)
        if name in ("login", "logout", "second_factor", "jsi18n"):
            continue  # The door itself, the way out, and words of Django's that are nobody's.
        for method in ("get", "post"):
            answer = getattr(client.client, method)(path, headers=client.headers)
            refused = answer.status_code in (302, 403, 404, 405)
            assert refused, (path, method, answer.status_code)
            if answer.status_code == 302 and name != "view_on_site":
                assert "/console/login/" in answer.headers["Location"], path
            elif answer.status_code == 404:
                assert name is None or "catch" in pattern or ".*" in pattern, path
        seen += 1
    assert seen > 60


CONSOLE = "console.slipway.localhost"
apart = override_settings(CONSOLE_HOST=CONSOLE)


@apart
def test_the_console_answers_at_its_own_host_alone():
    user, own, shared = staff(), Client(), Client()
    own.headers["Host"] = f"{CONSOLE}:8000"
    assert own.get("/").headers["Location"] == "/console/"
    assert own.sign_in(user.email).status_code == 302
    assert own.is_in()
    for path in ("/console/", "/console/login/", "/console/jobs/job/", CODE):
        assert shared.get(path).status_code == 404
    for path in ("/v1/openapi.json", "/v1/tenants", "/login", "/activate/x", "/v1/nothing"):
        assert own.get(path).status_code == 404
    assert own.get("/healthz").status_code == 200
    assert own.get("/static/console/console.css").status_code == 200
    assert shared.get("/v1/openapi.json").status_code == 200


def test_without_a_host_of_its_own_it_answers_at_the_platforms():
    client = Client()
    client.sign_in(staff().email)
    assert client.is_in()
    client.headers["Host"] = CONSOLE  # Nobody's.
    assert client.get("/console/").status_code == 404
