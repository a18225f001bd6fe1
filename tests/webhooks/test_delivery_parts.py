"""What a delivery is made of: schedule, request, what its attempt keeps, what answers mean."""

import json
from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime
from hashlib import sha256
from uuid import UUID

import pytest
from standardwebhooks import Webhook

from jobs.outcomes import Exchange, Fail, Retry, Succeeded, Throttled
from webhooks import policy, secrets
from webhooks.answers import Answer
from webhooks.exchange import REDACTED, envelope, exchange, request
from webhooks.steps import judged, retry_after

NOW = 1_800_000_000.5
SECRET, OLD, OLDER = (secrets.make() for _ in range(3))
EVENT = UUID("01900000-0000-7000-8000-00000000000a")


def kept(secret, expires_in=None):
    """A secret as an endpoint keeps it."""
    at = None if expires_in is None else datetime.fromtimestamp(NOW + expires_in, UTC).isoformat()
    return {"secret": secrets.encrypt(secret), "made_at": "2027-01-01T00:00:00Z", "expires_at": at}


def carried(**changes):
    """What a claim carries."""
    return {
        "event_id": EVENT,
        "type": "invoice.paid",
        "happened_at": datetime(2027, 1, 15, 9, 30, 0, 120, tzinfo=timezone(timedelta(hours=2))),
        "payload": '{"n": 1.10, "ü": "\\u00fc"}',
        "url": "https://hooks.example.com/in",
        "secrets": json.dumps([kept(SECRET)]),
        "custom_headers": "",
        **changes,
    }


def answered(status, **headers):
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, names, "", False, 0.1, "192.0.2.1")


def meaning(answer):
    return judged(answer, Exchange({}), now=NOW)


# ---- The schedule ----


def test_its_schedule_is_that_of_standard_webhooks():
    ours = policy.scheduled(None)
    assert ours.attempts == 10
    minutes = [ours.delay(nth, random=lambda: 0.5) / 60 for nth in range(1, 10)]
    assert minutes == pytest.approx([1 / 12, 5, 30, 120, 300, 600, 840, 1200, 1440])


def test_each_delay_varies_by_a_fifth_in_both_directions():
    ours = policy.policy_of({"schedule": None})
    assert ours.delay(2, random=lambda: 0.0) == pytest.approx(240)
    assert ours.delay(2, random=lambda: 1.0) == pytest.approx(360)


def test_an_endpoint_may_have_a_schedule_of_its_own():
    own = policy.policy_of({"schedule": [1, 10]})
    assert own.attempts == 3
    assert own.delay(2, random=lambda: 0.5) == 10
    assert not own.allows(3, age=0)


def test_what_was_held_for_a_week_still_has_all_of_its_tries():
    assert policy.scheduled(None).allows(1, age=7 * 86400)


# ---- The request ----


def test_the_body_has_the_type_the_time_of_the_event_and_its_data_as_it_was_published():
    body = envelope(carried())
    assert body == (
        b'{"type":"invoice.paid","timestamp":"2027-01-15T07:30:00.000120Z",'
        b'"data":{"n": 1.10, "\xc3\xbc": "\\u00fc"}}'
    )
    assert json.loads(body)["data"] == {"n": 1.1, "ü": "ü"}


def test_the_body_and_the_id_are_the_same_on_every_try_and_timestamp_and_signature_are_the_trys():
    first, again = (request(carried(), now=NOW + seconds) for seconds in (0, 300))
    assert first.body == again.body
    assert first.headers["webhook-id"] == again.headers["webhook-id"] == f"evt_{EVENT}"
    assert first.headers["webhook-timestamp"] == "1800000000"
    assert again.headers["webhook-timestamp"] == "1800000300"
    assert first.headers["webhook-signature"] != again.headers["webhook-signature"]


def test_it_is_signed_with_every_secret_that_has_not_expired_newest_first():
    rotated = [kept(SECRET), kept(OLD, expires_in=60), kept(OLDER, expires_in=-1)]
    sent = request(carried(secrets=json.dumps(rotated)), now=NOW)
    assert sent.headers["webhook-signature"].split(" ") == [signature(SECRET), signature(OLD)]


def signature(secret):
    """By the reference implementation."""
    at = datetime.fromtimestamp(int(NOW), UTC)
    return Webhook(secret).sign(f"evt_{EVENT}", at, envelope(carried()).decode())


def test_its_own_headers_go_with_it_and_take_the_place_of_no_signature():
    own = secrets.encrypt(json.dumps({"X-Team": "blue", "Webhook-Signature": "v1,forged"}))
    sent = request(carried(custom_headers=own), now=NOW)
    assert sent.headers["x-team"] == "blue"
    assert sent.headers["webhook-signature"] == signature(SECRET)
    assert sent.headers["content-type"] == "application/json"
    assert sent.headers["user-agent"].startswith("Slipway/")


def test_the_attempt_keeps_the_bodys_digest_and_no_secret():
    own = secrets.encrypt(json.dumps({"Authorization": "Bearer hush"}))
    sent = request(carried(custom_headers=own), now=NOW)
    told = exchange(sent, answered(200, set_cookie="a=hush", server="nginx"))
    assert told.request["body_sha256"] == sha256(sent.body).hexdigest()
    assert told.request["body_bytes"] == len(sent.body)
    assert told.request["headers"]["authorization"] == REDACTED
    assert told.request["headers"]["webhook-signature"] == REDACTED
    assert told.response["headers"] == {"set-cookie": REDACTED, "server": "nginx"}
    assert "hush" not in repr(told)
    assert sent.headers["webhook-signature"] not in repr(told)


# ---- What an answer means ----


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_2xx_is_success(status):
    assert isinstance(meaning(answered(status)), Succeeded)


@pytest.mark.parametrize("status", [100, 300, 302, 304, 307, 400, 401, 403, 404, 413, 422])
def test_nothing_else_is_and_it_is_tried_again(status):
    assert isinstance(meaning(answered(status, retry_after="7")), Retry)
    assert meaning(answered(status, retry_after="7")).after is None


@pytest.mark.parametrize("status", [408, 500, 502, 503, 504, 599])
def test_a_server_in_trouble_may_say_when_to_come_again(status):
    assert meaning(answered(status, retry_after="120")).after == 120
    assert meaning(answered(status)).after is None


def test_410_is_the_end_and_somebody_is_told():
    gone = meaning(answered(410))
    assert isinstance(gone, Fail)
    assert gone.notice == "gone"


@pytest.mark.parametrize(
    ("said", "seconds"), [({}, 60), ({"retry_after": "5"}, 5), ({"retry_after": "0"}, 1)]
)
def test_429_waits_as_told_a_minute_when_not_told_and_never_for_no_time(said, seconds):
    throttled = meaning(answered(429, **said))
    assert isinstance(throttled, Throttled)
    assert throttled.after == seconds


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("0", 0),
        (" 17 ", 17),
        ("99999999999999999999", 86400),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("", None),
        ("٣", None),
        ("Fri, 99 Foo 2027 00:00:00 GMT", None),
        (format_datetime(datetime.fromtimestamp(NOW + 90.5, UTC), usegmt=True), 90),
        (format_datetime(datetime.fromtimestamp(NOW - 90, UTC), usegmt=True), 0),
        (format_datetime(datetime.fromtimestamp(NOW + 10**8, UTC), usegmt=True), 86400),
    ],
)
def test_a_retry_after_is_read_in_both_forms_and_clamped(said, seconds):
    found = retry_after(said, now=NOW)
    assert found == (None if seconds is None else pytest.approx(seconds, abs=1))
