"""POST /v1/onboard: what is taken in, once, and what is refused without a trace."""

import json
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest
from django.db import connections

from config import limits
from tests.onboarding.conftest import SignUpCaller
from tests.onboarding.world import fresh_address, request_id_of
from tests.people import tenant_key

LONG_KEY = "k" * 256


def rows(operator) -> int:
    return operator.execute("select count(*) from onboarding_pendingonboarding").fetchone()[0]


@pytest.fixture
def writes_nothing(operator):
    """Checks that the test left no sign-up behind, and no number drawn for one."""
    before = rows(operator)
    yield
    assert rows(operator) == before


def test_it_answers_202_with_all_that_a_caller_needs(platform, settings):
    accepted = platform.sign_up(slug=f"a-{uuid4().hex[:8]}", tenant_name="Acme")
    assert accepted.status_code == 202
    body = accepted.json()
    assert set(body) == {
        "request_id", "status", "status_url", "events_url", "tenant", "claim_token",
    }  # fmt: skip
    assert body["status"] == "pending"
    assert body["status_url"] == f"{settings.PUBLIC_URL}/v1/onboard/{body['request_id']}"
    assert accepted["Location"] == body["status_url"]
    assert accepted["Retry-After"] == "1"
    assert accepted["Cache-Control"] == "no-store"


def test_it_takes_the_links_from_the_settings_and_not_from_the_request(stranger):
    body = stranger.post(
        "/v1/onboard",
        {"email": "a@b.example", "tenant_name": "Acme", "plan": "free"},
        **{"X-Forwarded-Host": "evil.example"},
    ).json()
    assert "evil" not in json.dumps(body)


def test_it_takes_one_statement_to_accept(platform, django_assert_num_queries):
    platform.sign_up()  # The key is known from here on.
    with django_assert_num_queries(1):
        assert platform.sign_up(slug=f"a-{uuid4().hex[:8]}").status_code == 202


def test_it_makes_an_address_from_the_name(platform):
    name = f"Café {uuid4().hex[:8]} & Söhne"
    slug = platform.sign_up(tenant_name=name).json()["tenant"]["slug"]
    assert slug == f"cafe-{name.split()[1]}-sohne"


def test_it_gives_a_name_without_latin_letters_an_address_of_chance(platform):
    assert platform.sign_up(tenant_name="株式会社東京").json()["tenant"]["slug"].startswith("t-")


def test_it_does_not_refuse_a_name_that_another_has_when_no_address_was_asked_for(platform):
    name = f"Acme {uuid4().hex[:8]}"
    first, second = platform.sign_up(tenant_name=name), platform.sign_up(tenant_name=name)
    assert second.status_code == 202
    assert second.json()["tenant"]["slug"].startswith(first.json()["tenant"]["slug"] + "-")


# ---- The same request again ----


@pytest.mark.parametrize("form", ["{}", '"{}"'], ids=["bare", "quoted"])
def test_it_answers_the_same_for_the_same_key_and_body(platform, operator, form):
    key, body = str(uuid4()), {"slug": f"a-{uuid4().hex[:8]}", "email": "a@b.example"}
    first = platform.sign_up(key=key, **body)
    again = platform.sign_up(key=form.format(key), **body)
    assert again.status_code == 202
    assert again.content == first.content
    assert "Idempotent-Replayed" not in first
    assert again["Idempotent-Replayed"] == "true"
    count = operator.execute(
        "select count(*) from onboarding_pendingonboarding where slug = %s", [body["slug"]]
    )
    assert count.fetchone() == (1,)


def test_it_replays_an_address_of_chance_as_it_was(platform):
    key, body = str(uuid4()), {"tenant_name": "東京都", "email": "a@b.example"}
    assert platform.sign_up(key=key, **body).content == platform.sign_up(key=key, **body).content


def test_it_does_not_care_in_which_order_the_fields_come(platform):
    key = str(uuid4())
    first = platform.sign_up(key=key, email="a@b.example", tenant_name="Abc", plan="free")
    body = {"plan": "free", "tenant_name": "Abc", "email": "a@b.example"}
    assert platform.post("/v1/onboard", body, key=key).content == first.content


def test_it_refuses_the_same_key_with_another_body_and_writes_nothing(platform, operator):
    key, other = str(uuid4()), f"b-{uuid4().hex[:8]}"
    platform.sign_up(key=key)
    refused = platform.sign_up(key=key, slug=other)
    assert refused.status_code == 422
    assert refused.json()["code"] == "idempotency_key_reused"
    assert not operator.execute(
        "select 1 from onboarding_pendingonboarding where slug = %s", [other]
    ).fetchall()


def test_it_keeps_the_keys_of_two_callers_apart(platform, stranger):
    key, body = str(uuid4()), {"tenant_name": "Acme", "email": "a@b.example"}
    first, other = platform.sign_up(key=key, **body), stranger.sign_up(key=key, **body)
    assert other.status_code == 202
    assert other.json()["request_id"] != first.json()["request_id"]


def test_it_forgets_a_key_after_a_day(platform, operator):
    key, body = str(uuid4()), {"email": "a@b.example"}
    first = platform.sign_up(key=key, **body)
    operator.execute(
        "update onboarding_pendingonboarding set created_at = now() - interval '25 hours'"
        " where id = %s", [request_id_of(first)],
    )  # fmt: skip
    again = platform.sign_up(key=key, **body)
    assert again.status_code == 202
    assert again.json()["request_id"] != first.json()["request_id"]


def test_it_does_not_count_a_replay(stranger):
    key, body = str(uuid4()), {"email": "a@b.example"}
    for _ in range(8):
        assert stranger.sign_up(key=key, **body).status_code == 202
    for _ in range(4):
        assert stranger.sign_up().status_code == 202
    assert stranger.sign_up().status_code == 429
    # Where nothing more is allowed, what was allowed before is still answered.
    assert stranger.sign_up(key=key, **body).status_code == 202


def at_once(count: int, call) -> list:
    def one(number: int):
        try:
            return call(number)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(one, range(count)))


def test_50_simultaneous_posts_with_one_key_make_one_onboarding(platform, operator):
    key, slug = str(uuid4()), f"a-{uuid4().hex[:8]}"
    caller = lambda _: SignUpCaller(token=platform.token, address=platform.address)  # noqa: E731
    answers = at_once(50, lambda n: caller(n).sign_up(key=key, slug=slug, email="a@b.example"))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.content for answer in answers}) == 1
    assert sum("Idempotent-Replayed" not in answer for answer in answers) == 1
    count = operator.execute(
        "select count(*) from onboarding_pendingonboarding where slug = %s", [slug]
    )
    assert count.fetchone() == (1,)


def test_50_simultaneous_posts_for_one_slug_make_one_winner_and_49_clear_409s(platform, operator):
    slug = f"a-{uuid4().hex[:8]}"
    caller = lambda: SignUpCaller(token=platform.token, address=platform.address)  # noqa: E731
    answers = at_once(50, lambda n: caller().sign_up(slug=slug, email=f"u{n}@b.example"))
    assert sorted(answer.status_code for answer in answers) == [202] + [409] * 49
    for answer in answers:
        if answer.status_code == 409:
            assert answer["Content-Type"] == "application/problem+json"
            assert answer.json()["code"] == "slug_taken"
            assert len(answer.json()["suggestions"]) == 3
    count = operator.execute(
        "select count(*) from onboarding_pendingonboarding where slug = %s", [slug]
    )
    assert count.fetchone() == (1,)


def test_it_suggests_addresses_that_are_free(platform):
    slug = f"a-{uuid4().hex[:8]}"
    platform.sign_up(slug=slug)
    platform.sign_up(slug=f"{slug}-hq")
    suggestions = platform.sign_up(slug=slug).json()["suggestions"]
    assert f"{slug}-hq" not in suggestions
    assert platform.sign_up(slug=suggestions[0]).status_code == 202


def test_it_refuses_the_address_of_a_tenant_that_is_there(platform, tenant):
    assert platform.sign_up(slug=tenant.slug).status_code == 409


# ---- Bad input: a problem, every field's error with its pointer, and nothing written ----

GOOD = {"email": "ann@example.org", "tenant_name": "Acme", "plan": "free"}

BAD_FIELDS = {
    "email of the wrong type": ({"email": 7}, "/email", "wrong_type"),
    "email that is none": ({"email": "ann"}, "/email", "email_invalid"),
    "email over length": ({"email": f"{'a' * 250}@b.example"}, "/email", None),
    "email with a line break": ({"email": "a@b.example\nBcc: c@d.example"}, "/email", None),
    "name of two characters": ({"tenant_name": "ab"}, "/tenant_name", None),
    "name of 51 characters": ({"tenant_name": "a" * 51}, "/tenant_name", None),
    "name of spaces": ({"tenant_name": "     "}, "/tenant_name", None),
    "name with NUL": ({"tenant_name": "Ac\0me"}, "/tenant_name", None),
    "name with CR LF": ({"tenant_name": "Acme\r\nBcc: x"}, "/tenant_name", None),
    "email with a long local part": ({"email": f"{'a' * 65}@b.example"}, "/email", "email_length"),
    "external id with a bidi control": (
        {"external_id": "c\u202e7"},
        "/external_id",
        "unseen_character",
    ),
    "external id with a zero width": (
        {"external_id": "c\u200b7"},
        "/external_id",
        "unseen_character",
    ),
    "number of 65 bits": ({"metadata": {"a": 2**64}}, "/metadata/a", "out_of_range"),
    "number that only looks small": ({"metadata": {"a": -1e300}}, "/metadata/a", "out_of_range"),
    "name with a bidi control": ({"tenant_name": "Ac\u202eme"}, "/tenant_name", "name_invalid"),
    "name with a zero-width space": ({"tenant_name": "Ac\u200bme"}, "/tenant_name", None),
    "name with a web address": (
        {"tenant_name": "Win https://evil.example"}, "/tenant_name", "name_has_link"),
    "name that mails link": ({"tenant_name": "evil.com now"}, "/tenant_name", "name_has_link"),
    "unknown plan": ({"plan": "gold"}, "/plan", "plan_unknown"),
    "plan of the wrong type": ({"plan": ["free"]}, "/plan", "wrong_type"),
    "unknown field": ({"admin": True}, "/admin", "unknown_field"),
    "reserved slug": ({"slug": "admin"}, "/slug", "slug_reserved"),
    "slug that looks reserved": ({"slug": "adm1n"}, "/slug", "slug_confusable"),
    "homoglyph slug": ({"slug": "p\u0430ypal"}, "/slug", "slug_confusable"),
    "punycode slug": ({"slug": "xn--pypal-4ve"}, "/slug", "slug_invalid"),
    "slug with a capital": ({"slug": "Acme"}, "/slug", "slug_invalid"),
    "slug that begins with a digit": ({"slug": "9lives"}, "/slug", "slug_invalid"),
    "slug that ends with a hyphen": ({"slug": "acme-"}, "/slug", "slug_invalid"),
    "slug of two characters": ({"slug": "ab"}, "/slug", "slug_invalid"),
    "slug of 41 characters": ({"slug": "a" * 41}, "/slug", None),
    "unknown time zone": ({"time_zone": "Mars/Olympus"}, "/time_zone", "time_zone_unknown"),
    "locale that is none": ({"locale": "../../etc"}, "/locale", "locale_invalid"),
    "nested metadata": ({"metadata": {"a": {"b": 1}}}, "/metadata/a", None),
    "metadata of 51 entries": ({"metadata": {f"k{n}": n for n in range(51)}}, "/metadata", None),
}  # fmt: skip


@pytest.mark.usefixtures("writes_nothing")
@pytest.mark.parametrize(("change", "pointer", "code"), BAD_FIELDS.values(), ids=BAD_FIELDS)
def test_it_refuses(platform, change, pointer, code):
    refused = platform.post("/v1/onboard", GOOD | change)
    assert refused.status_code == 400, refused.content
    assert refused["Content-Type"] == "application/problem+json"
    problem = refused.json()
    assert problem["code"] == "invalid_request"
    assert problem["trace_id"] == refused["X-Request-ID"]
    errors = {error["pointer"]: error["code"] for error in problem["errors"]}
    found = [name for name in errors if name == pointer or name.startswith("/metadata")]
    assert found, errors
    assert code is None or errors[pointer] == code


@pytest.mark.usefixtures("writes_nothing")
def test_it_tells_every_field_that_is_wrong_at_once(platform):
    body = {"email": 1, "tenant_name": "a\0", "slug": "ADMIN", "colour": "red"}
    errors = platform.post("/v1/onboard", body).json()["errors"]
    pointers = {error["pointer"] for error in errors}
    assert pointers == {"/email", "/tenant_name", "/plan", "/slug", "/colour"}


@pytest.mark.usefixtures("writes_nothing")
@pytest.mark.parametrize(
    ("body", "headers", "status", "code"),
    [
        (b"not json", {}, 400, "bad_request"),
        (b"[]", {}, 400, "bad_request"),
        (b" ", {}, 400, "bad_request"),
        (b"\xff\xfe{}", {}, 400, "bad_request"),
        (b"[" * 40 + b"]" * 40, {}, 400, "bad_request"),
        (b'{"email": "' + b"a" * 10_000_000 + b'"}', {}, 413, "body_too_large"),
        (json.dumps(GOOD).encode(), {"content_type": "text/plain"}, 415, "unsupported_media_type"),
        (json.dumps(GOOD).encode(), {"Content-Encoding": "gzip"}, 415, "unsupported_media_type"),
    ],
    ids=["not JSON", "not an object", "empty", "not UTF-8", "deep", "10 MB", "text", "compressed"],
)
def test_it_refuses_a_body_that_is(platform, body, headers, status, code):
    refused = platform.post("/v1/onboard", body, **headers)
    assert refused.status_code == status, refused.content
    assert refused.json()["code"] == code


@pytest.mark.usefixtures("writes_nothing")
@pytest.mark.parametrize(
    "key",
    [
        "short",
        "a" * 40,
        "1234567890" * 2,
        "00000000-0000-0000-0000-000000000000",
        LONG_KEY,
        '"open',
        "with space in the middle of it",
    ],
)
def test_it_refuses_a_strangers_key_that_can_be_guessed_or_is_none(stranger, key):
    refused = stranger.sign_up(key=key)
    assert refused.status_code == 400
    assert refused.json()["code"] == "invalid_idempotency_key"


@pytest.mark.usefixtures("writes_nothing")
def test_it_refuses_an_over_long_key_of_the_platform(platform):
    assert platform.sign_up(key=LONG_KEY).json()["code"] == "invalid_idempotency_key"


def test_it_takes_a_short_key_of_the_platform(platform):
    assert platform.sign_up(key=uuid4().hex[:8]).status_code == 202


# ---- Who may, and how often ----


def test_it_refuses_the_6th_sign_up_in_a_minute_and_writes_nothing(stranger, operator):
    for left in (4, 3, 2, 1, 0):
        accepted = stranger.sign_up()
        assert accepted.status_code == 202
        assert accepted["RateLimit"].startswith(f'"sign-up";r={left};')
    before = rows(operator)
    refused = stranger.sign_up()
    assert refused.status_code == 429
    assert refused.json()["code"] == "rate_limited"
    assert 0 < int(refused["Retry-After"]) <= 61
    assert rows(operator) == before


def test_a_replay_over_the_limit_makes_no_room(stranger):
    keys = [str(uuid4()) for _ in range(5)]
    bodies = [{"email": f"u{n}@{uuid4().hex[:8]}.example"} for n in range(5)]
    for key, body in zip(keys, bodies, strict=True):
        assert stranger.sign_up(key=key, **body).status_code == 202
    assert stranger.sign_up().status_code == 429
    for _ in range(3):
        assert stranger.sign_up(key=keys[0], **bodies[0])["Idempotent-Replayed"] == "true"
    assert stranger.sign_up().status_code == 429


def test_a_sign_up_that_is_not_valid_is_counted_too(stranger, settings):
    settings.SLIPWAY = settings.SLIPWAY | {
        "LIMITS": settings.SLIPWAY["LIMITS"] | {"anonymous": (3, 60)}
    }
    answers = [stranger.post("/v1/onboard", "{") for _ in range(4)]
    assert [answer.status_code for answer in answers] == [400, 400, 400, 429]
    assert answers[0]["RateLimit"].startswith('"anonymous";r=2;')
    assert 0 < int(answers[3]["Retry-After"]) <= 61
    assert stranger.sign_up().status_code == 202  # Who mends it has a sign-up's own limit.


def test_it_asks_redis_once_at_most(platform, stranger, monkeypatch):
    asked = []
    ask = limits._ask_redis
    monkeypatch.setattr(limits, "_ask_redis", lambda counters: asked.append(1) or ask(counters))
    for caller in (platform, stranger):
        asked.clear()
        assert caller.sign_up().status_code == 202
        assert len(asked) <= 1


def test_it_counts_an_ipv6_network_as_one(settings):
    settings.SLIPWAY = settings.SLIPWAY | {
        "LIMITS": settings.SLIPWAY["LIMITS"] | {"sign-up-network": (2, 60)}
    }
    network = f"2001:db8:{uuid4().hex[:4]}:{uuid4().hex[:4]}"
    codes = [SignUpCaller(address=f"{network}::{n}").sign_up().status_code for n in (1, 2, 3)]
    assert codes == [202, 202, 429]


def test_it_counts_the_domain_of_the_mail(settings):
    settings.SLIPWAY = settings.SLIPWAY | {
        "LIMITS": settings.SLIPWAY["LIMITS"] | {"sign-up-domain": (2, 60)}
    }
    domain = f"{uuid4().hex[:8]}.example"
    codes = [
        SignUpCaller(address=fresh_address()).sign_up(email=f"u{n}@{domain}").status_code
        for n in range(3)
    ]
    assert codes == [202, 202, 429]


def test_it_does_not_limit_the_platform_as_a_stranger(platform):
    assert {platform.sign_up().status_code for _ in range(8)} == {202}


@pytest.mark.usefixtures("writes_nothing")
def test_it_refuses_a_stranger_a_plan_that_is_not_open(stranger, settings):
    plans = {"house": {"home": "dedicated", "anonymous": False}}
    settings.SLIPWAY = settings.SLIPWAY | {"PLANS": settings.SLIPWAY["PLANS"] | plans}
    refused = stranger.sign_up(plan="house")
    assert (refused.status_code, refused.json()["code"]) == (403, "plan_not_open")


def test_it_gives_the_platform_any_plan(platform, settings):
    plans = {"house": {"home": "dedicated", "anonymous": False}}
    settings.SLIPWAY = settings.SLIPWAY | {"PLANS": settings.SLIPWAY["PLANS"] | plans}
    assert platform.sign_up(plan="house").status_code == 202


@pytest.mark.usefixtures("writes_nothing")
def test_it_lets_the_project_refuse(stranger, settings):
    settings.SLIPWAY = settings.SLIPWAY | {
        "SIGN_UP_CHECK": "tests.onboarding.test_accept.refuse_disposable"
    }
    refused = stranger.sign_up(email="a@mailinator.com")
    assert (refused.status_code, refused.json()["code"]) == (403, "sign_up_refused")


def test_the_projects_check_is_asked_once_for_one_key(stranger, settings):
    settings.SLIPWAY = settings.SLIPWAY | {
        "SIGN_UP_CHECK": "tests.onboarding.test_accept.take_captcha"
    }
    key, body = str(uuid4()), {"email": "a@b.example", "metadata": {"captcha": uuid4().hex}}
    assert stranger.sign_up(key=key, **body).status_code == 202
    assert stranger.sign_up(key=key, **body)["Idempotent-Replayed"] == "true"
    assert stranger.sign_up(**body).status_code == 403


_taken = set()


def take_captcha(sign_up, caller) -> None:
    from onboarding.errors import SignUpRefused

    answer = sign_up.metadata["captcha"]
    if answer in _taken:
        raise SignUpRefused("This answer was used.")
    _taken.add(answer)


def refuse_disposable(sign_up, caller) -> None:
    from onboarding.errors import SignUpRefused

    if sign_up.email.endswith("@mailinator.com"):
        raise SignUpRefused("Use an address that lasts.")


@pytest.mark.usefixtures("writes_nothing")
def test_it_refuses_a_tenants_key(tenant):
    caller = SignUpCaller(token=tenant_key(tenant), address=fresh_address())
    assert caller.sign_up().status_code == 403


@pytest.mark.usefixtures("writes_nothing")
def test_it_refuses_a_key_that_is_none(stranger):
    stranger.token = "slp_aaaaaaaaaaaa_" + "a" * 32
    assert stranger.sign_up().status_code == 401


def test_it_accepts_while_redis_is_away(platform, stranger, valkey):
    valkey.stop()
    assert platform.sign_up().status_code == 202
    assert [stranger.sign_up().status_code for _ in range(6)] == [202] * 5 + [429]


# ---- What the app role may write without a tenant's context ----

FORGED = {
    "a number that was not drawn": {"tenant_id": "999999", "lane": "'onboarding:999999'"},
    "a state of its own": {"state": "'succeeded'"},
    "a lease": {"lease": "1"},
    "attempts": {"attempts": "3"},
    "another lane": {"lane": "'onboarding:1'"},
    "a date of its own": {"created_at": "now() - interval '1 year'"},
}


@pytest.mark.parametrize("forged", FORGED.values(), ids=FORGED)
def test_injected_sql_cannot_write_a_sign_up_with(app_connection, forged):
    columns = {
        "id": "gen_random_uuid()", "slug": f"'s-{uuid4().hex[:8]}'", "email": "'a@b.example'",
        "tenant_name": "'x'", "plan": "'free'", "home": "'pooled'", "external_id": "''",
        "metadata": "'{}'", "locale": "'en'", "time_zone": "'UTC'", "caller": "'anonymous'",
        "fingerprint": "'\\x00'", "max_attempts": "12", "created_at": "now()", "due_at": "now()",
        "priority": "0", "state": "'pending'", "attempts": "0", "losses": "0", "last_error": "''",
        "tenant_id": "n.id", "lane": "'onboarding:' || n.id",
    }  # fmt: skip

    def insert(columns: dict[str, str]) -> int:
        return app_connection.execute(
            f"insert into onboarding_pendingonboarding ({', '.join(columns)})"
            f" select {', '.join(columns.values())}"
            " from (select nextval('tenants_tenant_id_seq') as id) n"
        ).rowcount

    assert insert(columns) == 1  # As `accept` writes it.
    from psycopg.errors import InsufficientPrivilege

    with pytest.raises(InsufficientPrivilege):
        insert(columns | {"slug": f"'s-{uuid4().hex[:8]}'"} | forged)


def test_injected_sql_finds_nobodys_sign_up(app_connection, platform):
    platform.sign_up()
    assert app_connection.execute("select * from onboarding_pendingonboarding").fetchall() == []
