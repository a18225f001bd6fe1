"""Deliveries from end to end: a drainer, and a real receiver that takes them as it likes."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from tests.chaos.conftest import until
from tests.webhooks.hooks import attempts_of, came_to, draining, kept, letter_of
from webhooks import secrets
from webhooks.exchange import REDACTED
from webhooks.models import Event, Payload


def tried(hook, times=1):
    """Whether each delivery was tried so often, and is at rest."""
    return hook.deliveries and all(
        len(attempts_of(one)) >= times and one.state != "processing" for one in hook.deliveries
    )


def waits(delivery) -> float:
    """Seconds until it is due."""
    return (delivery.due_at - datetime.now(UTC)).total_seconds()


def test_it_arrives_signed_and_its_attempt_tells_all_of_it(hooks):
    hook = hooks.endpoint()
    event = hooks.publish(n=1, name="Zoë")
    with draining():
        until(lambda: hook.states == ["succeeded"], 10)
    (request,) = hook.seen
    assert request["method"] == "POST"
    assert request["headers"]["webhook-id"] == f"evt_{event.pk}"
    assert request["headers"]["content-type"] == "application/json"
    assert request["headers"]["user-agent"].startswith("Slipway/")
    assert hook.verified(request)["type"] == "invoice.paid"
    assert hook.verified(request)["data"] == {"n": 1, "name": "Zoë"}
    (attempt,) = attempts_of(hook.delivery)
    assert attempt.outcome == "succeeded"
    assert attempt.request["url"] == hook.inbox.url
    assert attempt.request["body_bytes"] == len(request["body"].encode())
    assert attempt.request["headers"]["webhook-signature"] == REDACTED
    assert attempt.response["status"] == 200
    assert attempt.response["body"] == "ok"
    assert attempt.response["address"] == "127.0.0.1"


def test_2xx_is_success_and_nothing_else(hooks):
    kind = [hooks.endpoint("status", code) for code in (200, 201, 204, 299)]
    other = [hooks.endpoint("status", code) for code in (300, 304, 400, 401, 404, 500, 503)]
    hooks.publish()
    with draining():
        until(lambda: all(tried(hook) for hook in kind + other), 10)
    assert [hook.states for hook in kind] == [["succeeded"]] * len(kind)
    assert [hook.states for hook in other] == [["failed"]] * len(other)


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_a_redirect_is_a_failure_and_is_not_followed(hooks, code):
    elsewhere = hooks.receiver.new()
    hook = hooks.endpoint("redirect", code, elsewhere.url)
    hooks.publish()
    with draining():
        until(lambda: hook.states == ["failed"], 10)
    assert elsewhere.seen == []
    assert hook.delivery.last_error == f"HTTP {code}: redirects are not followed"


def test_410_is_dead_at_once(hooks):
    hook = hooks.endpoint("status", 410)
    hooks.publish()
    with draining():
        until(lambda: hook.states == ["dead_letter"], 10)
    assert len(hook.seen) == 1
    assert letter_of(hook.delivery).reason == "failed"
    assert letter_of(hook.delivery).response["status"] == 410


def test_429_holds_the_lane_and_spends_no_attempt(hooks):
    hook = hooks.scripted("retry-after/429/2", "ok", max_in_flight=1)
    for n in range(3):
        hooks.publish(n=n)
    with draining(lane_window=1):
        until(lambda: hook.states == ["succeeded"] * 3, 10)
    first, second, *_ = hook.seen
    assert second["at"] - first["at"] >= 1.9
    assert len(hook.seen) == 4
    assert [one.attempts for one in hook.deliveries] == [1, 1, 1]
    told = sorted(came_to(one) for one in hook.deliveries)
    assert told == [["succeeded"], ["succeeded"], ["throttled", "succeeded"]]


def test_a_retry_after_delays_the_next_try_and_is_clamped_to_a_day(hooks):
    hook = hooks.endpoint("retry-after", 503, 10**9)
    soon = hooks.endpoint("retry-after", 503, 3600)
    past = hooks.endpoint("retry-after", 503, "Thu, 01 Jan 1970 00:00:00 GMT")
    hooks.publish()
    with draining():
        until(lambda: all(one.states == ["failed"] for one in (hook, soon, past)), 10)
    assert waits(hook.delivery) == pytest.approx(86_400, abs=10)
    assert waits(soon.delivery) == pytest.approx(3600, abs=10)
    assert waits(past.delivery) == pytest.approx(5, abs=3)


@pytest.mark.parametrize(("drawn", "seconds"), [(0.0, 240), (0.5, 300), (1.0, 360)])
def test_it_waits_as_the_schedule_says_a_fifth_more_or_less(hooks, monkeypatch, drawn, seconds):
    monkeypatch.setattr("jobs.engine.drainer.random.random", lambda: drawn)
    hook = hooks.endpoint("status", 500)
    hooks.publish()
    with draining():
        until(lambda: tried(hook), 10)
        hook.hasten()
        until(lambda: tried(hook, 2), 10)
    assert waits(hook.delivery) == pytest.approx(seconds, abs=10)


def test_ten_tries_and_it_is_dead_with_the_log_of_all_of_them(hooks):
    hook = hooks.endpoint("status", 500)
    hooks.publish()
    with draining():
        for nth in range(1, 10):
            until(lambda nth=nth: tried(hook, nth), 10)
            assert hook.states == ["failed"]
            hook.hasten()
        until(lambda: hook.states == ["dead_letter"], 10)
    assert letter_of(hook.delivery).reason == "exhausted"
    attempts = attempts_of(hook.delivery)
    assert [one.number for one in attempts] == list(range(1, 11))
    assert {one.response["body"] for one in attempts} == {"said 500"}


def test_each_try_has_the_same_id_and_body_and_a_timestamp_and_signature_of_its_own(
    hooks, monkeypatch
):
    monkeypatch.setattr("jobs.engine.drainer.random.random", lambda: 1.0)
    hook = hooks.scripted("status/500", "close", "ok", schedule=[1, 1])
    hooks.publish(text="ü € 🎉", deep={"b": 1, "a": [1.0, None]})
    with draining():
        until(lambda: hook.states == ["succeeded"], 15)
    for request in hook.seen:
        hook.verified(request)
    assert len(hook.seen) == 3
    assert len({request["body"] for request in hook.seen}) == 1
    assert len({request["headers"]["webhook-id"] for request in hook.seen}) == 1
    assert len({request["headers"]["webhook-timestamp"] for request in hook.seen}) == 3
    assert len({request["headers"]["webhook-signature"] for request in hook.seen}) == 3


@pytest.mark.parametrize("behaviour", ["hang", "drip-headers", "drip-body"])
def test_one_deadline_covers_headers_and_body(hooks, behaviour):
    hook = hooks.endpoint(behaviour, timeout=0.5)
    hooks.publish()
    with draining():
        until(lambda: hook.states == ["failed"], 5)
    (attempt,) = attempts_of(hook.delivery)
    assert 500 <= attempt.duration_ms < 4000  # It drips for hours.
    assert "did not answer in full within 0.5 s" in attempt.error
    assert (attempt.response or {}).get("status") == (200 if behaviour == "drip-body" else None)


@pytest.mark.parametrize("behaviour", ["body/300000", "gzip-bomb/64", "endless"])
def test_of_an_answer_64_kib_are_read_and_kept(hooks, behaviour):
    hook = hooks.endpoint(*behaviour.split("/"))
    hooks.publish()
    with draining():
        until(lambda: hook.states == ["succeeded"], 10)
    (attempt,) = attempts_of(hook.delivery)
    assert attempt.response["truncated"]
    # Zeros of the bomb are not what a text column takes.
    assert len(attempt.response["body"]) in {0, 64 * 1024}


@pytest.mark.parametrize(
    ("behaviour", "kind"), [("reset", "reset"), ("close", "closed"), ("garbage", "protocol")]
)
def test_a_connection_that_breaks_is_a_try_that_failed(hooks, behaviour, kind):
    hook = hooks.endpoint(behaviour)
    hooks.publish()
    with draining():
        until(lambda: hook.states == ["failed"], 10)
    assert hook.delivery.last_error.startswith(f"{kind}: ")
    assert len(hook.seen) == 1


def test_an_address_that_is_not_public_is_a_try_that_failed_and_nothing_is_sent(
    hooks, free_port, settings
):
    hook = hooks.endpoint()
    settings.WEBHOOK_OPEN_DESTINATIONS = []
    hooks.publish()
    with draining():
        until(lambda: hook.states == ["failed"], 10)
    assert hook.seen == []
    assert attempts_of(hook.delivery)[0].response is None


def test_its_own_headers_are_sent_and_no_attempt_shows_them(hooks):
    own = secrets.encrypt(json.dumps({"Authorization": "Bearer hush-hush"}))
    hook = hooks.endpoint("cookie", custom_headers=own)
    hooks.publish()
    with draining():
        until(lambda: hook.states == ["succeeded"], 10)
    assert hook.seen[0]["headers"]["authorization"] == "Bearer hush-hush"
    (attempt,) = attempts_of(hook.delivery)
    assert attempt.request["headers"]["authorization"] == REDACTED
    assert attempt.response["headers"]["set-cookie"] == REDACTED


def test_a_secret_rotated_between_two_tries_signs_the_next_and_so_does_the_old_one(hooks):
    hook = hooks.scripted("status/500", "ok")
    hooks.publish()
    with draining():
        until(lambda: tried(hook), 10)
        fresh = secrets.make()
        later = (datetime.now(UTC) + timedelta(hours=24)).isoformat()
        hook.update(secrets=[kept(fresh), kept(hook.secret, expires_at=later)])
        hook.hasten()
        until(lambda: hook.states == ["succeeded"], 10)
    _, second = hook.seen
    hook.verified(second)
    hook.secret = fresh
    hook.verified(second)


def test_an_endpoint_moved_between_two_tries_is_told_at_its_new_url(hooks):
    hook = hooks.endpoint("status", 500)
    hooks.publish()
    with draining():
        until(lambda: tried(hook), 10)
        hook.update(url=hook.inbox.at("ok"))
        hook.hasten()
        until(lambda: hook.states == ["succeeded"], 10)
    assert [request["path"].rpartition("/")[2] for request in hook.seen] == ["500", "ok"]


def test_a_first_try_goes_before_a_retry(hooks):
    hook = hooks.scripted("status/500", "ok")
    hooks.publish(n=1)
    with draining():
        until(lambda: tried(hook), 10)
    hook.hasten()
    hooks.publish(n=2)
    with draining(lane_window=1):
        until(lambda: hook.states == ["succeeded"] * 2, 10)
    assert hook.numbers == [1, 2, 1]


@pytest.mark.parametrize("column", ["disabled_at", "deleted_at"])
def test_nothing_is_sent_to_an_endpoint_that_was_shut_and_nothing_is_lost(hooks, column):
    hook = hooks.endpoint()
    hooks.publish()
    hook.update(**{column: datetime.now(UTC)})
    with draining():
        until(lambda: hook.states == ["scheduled"], 10)
    assert hook.seen == []
    assert hook.delivery.attempts == 0
    assert hook.delivery.last_error == "the endpoint is disabled"


def test_an_event_whose_payload_is_gone_is_dead_and_says_so(hooks):
    hook = hooks.endpoint()
    event = hooks.publish()
    Payload.objects.using("owner").filter(event_id=event.pk).delete()
    with draining():
        until(lambda: hook.states == ["dead_letter"], 10)
    assert hook.seen == []
    assert letter_of(hook.delivery).error == "its event's payload is no longer kept"


def test_a_payload_that_was_kept_beyond_its_day_is_delivered(hooks):
    hook = hooks.endpoint()
    event = hooks.publish(n=1)
    Payload.objects.using("owner").filter(event_id=event.pk).delete()
    Event.objects.using("operator").filter(pk=event.pk).update(kept_payload='{"n": 2}')
    with draining():
        until(lambda: hook.states == ["succeeded"], 10)
    assert hook.numbers == [2]


def test_a_secret_whose_key_is_lost_is_tried_again(hooks, settings):
    hook = hooks.endpoint()
    hooks.publish()
    settings.STORED_SECRET_KEYS = ["b3RoZXIta2V5LW90aGVyLWtleS1vdGhlci1rZXktISE="]
    with draining():
        until(lambda: hook.states == ["failed"], 10)
    assert hook.seen == []
    assert hook.delivery.last_error.startswith("it cannot be signed")
