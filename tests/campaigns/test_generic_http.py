"""The provider of any HTTP API: the mapping that an account's options are, and what it may say."""

import base64
import copy
import hashlib
import hmac
import json
from datetime import UTC, datetime
from uuid import UUID

import pytest

from campaigns.providers import (
    Accepted,
    Account,
    AccountRefused,
    Ambiguous,
    BadCallback,
    Later,
    Outgoing,
    Refused,
    Slower,
)
from campaigns.providers.http import PROVIDER
from campaigns.providers.reading import at_pointer, moment_or_now
from webhooks.answers import Answer

ID = UUID("01890000-0000-7000-8000-000000000001")
OPTIONS = {
    "path": "/v1/{sender}/messages?async=1",
    "headers": {"Authorization": "Bearer {credentials.api_key}", "X-From": "{sender}"},
    "body": {
        "to": ["{phone}"],
        "text": "{text}",
        "reference": "ref-{message_id}",
        "template": {"name": "{template}", "lang": "{language}", "values": "{params}"},
        "list": "{param_list}",
        "digits": "{digits}",
        "priority": 1,
        "literal": "{not this} {}",
    },
    "id": "/messages/0/id",
    "idempotency_header": "Idempotency-Key",
    "statuses": {"409": "accepted", "418": "opted_out", "503": "later"},
    "verify": {"path": "/v1/balance"},
    "receipts": {
        "signature": {"header": "X-Signature", "secret": "callback", "prefix": "v1="},
        "items": "/statuses",
        "id": "/id",
        "message_id": "/reference",
        "status": "/state",
        "values": {"DELIVRD": "delivered", "STOP": "opted_out", "UNDELIV": "failed"},
        "at": "/when",
        "error": "/why",
    },
}


def options(**changes):
    """OPTIONS with these in place; None takes one away."""
    made = copy.deepcopy(OPTIONS) | changes
    return {name: value for name, value in made.items() if value is not None}


def account(**fields):
    made = {
        "base_url": "https://api.example.com",
        "sender": "a/b",
        "credentials": {"api_key": "k3y", "callback": "shh"},
        "options": OPTIONS,
    }
    return Account(id=ID, provider="http", **(made | fields))


def outgoing(**fields):
    made = {
        "phone": "+4930123456",
        "text": "Hi {sender}",
        "params": {"name": "Ada", "city": "{api_key}"},
    }
    made |= {"variables": ("city", "name"), "external_name": "autumn", "language": "de"}
    return Outgoing(message_id=ID, **(made | fields))


def answer(status=200, body="", **headers):
    text = body if isinstance(body, str) else json.dumps(body)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, named, text, False, 0.1, "127.0.0.1")


def judged(given, **changes):
    return PROVIDER.judge(account(options=options(**changes)), given)


def flaws(**fields):
    return {flaw.pointer: flaw.code for flaw in PROVIDER.flaws(account(**fields))}


def test_it_sends_what_the_mapping_says():
    request = PROVIDER.request(account(), outgoing())
    assert request.url == "https://api.example.com/v1/a%2Fb/messages?async=1"
    assert request.headers == {
        "authorization": "Bearer k3y",
        "x-from": "a/b",
        "content-type": "application/json",
        "idempotency-key": str(ID),
    }
    assert json.loads(request.body) == {
        "to": ["+4930123456"],
        "text": "Hi {sender}",  # What a message says is no template.
        "reference": f"ref-{ID}",
        "template": {"name": "autumn", "lang": "de", "values": dict(outgoing().params)},
        "list": ["{api_key}", "Ada"],
        "digits": "4930123456",
        "priority": 1,
        "literal": "{not this} {}",
    }


def test_an_attempt_keeps_nothing_personal_and_no_credentials():
    kept = json.dumps(PROVIDER.request(account(), outgoing()).shown)
    assert not any(secret in kept for secret in ("k3y", "4930123456", "Ada"))
    assert '"idempotency-key": "01890000' in kept


def test_it_is_idempotent_where_a_header_says_so():
    assert PROVIDER.idempotent(account())
    bare = account(options=options(idempotency_header=None))
    assert not PROVIDER.idempotent(bare)
    assert "idempotency-key" not in PROVIDER.request(bare, outgoing()).headers


def test_it_is_accepted_by_the_id_that_the_pointer_leads_to():
    assert judged(answer(200, {"messages": [{"id": "m-1"}]})) == Accepted("m-1")
    assert judged(answer(202, {"messages": [{"id": 77}]})) == Accepted("77")
    assert judged(answer(409, {"messages": [{"id": "m-1"}]})) == Accepted("m-1")
    assert judged(answer(204), id=None) == Accepted("")


@pytest.mark.parametrize("body", ["", "<html>", {}, {"messages": []}, {"messages": [{"id": True}]}])
def test_a_2xx_without_an_id_leaves_it_open(body):
    assert isinstance(judged(answer(200, body)), Ambiguous)


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (400, Refused), (422, Refused), (404, AccountRefused), (301, AccountRefused),
        (401, AccountRefused), (402, AccountRefused), (403, AccountRefused), (405, AccountRefused),
        (408, Ambiguous), (500, Ambiguous), (502, Ambiguous), (504, Ambiguous), (429, Slower),
        (503, Later), (418, Refused),
    ],
)  # fmt: skip
def test_a_status_means_what_it_usually_does_unless_the_mapping_says_else(status, verdict):
    assert isinstance(judged(answer(status)), verdict)


def test_opted_out_and_retry_after_are_told():
    assert judged(answer(418)).opted_out
    assert judged(answer(429, retry_after="9")) == Slower(9.0, "HTTP 429")
    assert judged(answer(503, retry_after="9")) == Later("HTTP 503", 9.0)


def signed(body, **signature):
    mapping = OPTIONS["receipts"] | {"signature": OPTIONS["receipts"]["signature"] | signature}
    return account(options=options(receipts=mapping))


def test_callbacks_are_signed_over_their_bytes():
    body = b'{"statuses":[]}'
    digest = hmac.new(b"shh", body, hashlib.sha256).digest()
    in_hex = {"x-signature": f"v1={digest.hex()}"}
    in_base64 = {"x-signature": base64.b64encode(digest).decode()}
    assert PROVIDER.genuine(signed(body), in_hex, body)
    assert PROVIDER.genuine(signed(body, encoding="base64", prefix=""), in_base64, body)
    assert not PROVIDER.genuine(signed(body), in_hex, body + b" ")
    assert not PROVIDER.genuine(signed(body), {"x-signature": digest.hex()}, body)
    assert not PROVIDER.genuine(signed(body), {}, body)


def test_an_account_without_a_mapping_of_receipts_takes_none():
    empty = hmac.new(b"", b"{}", hashlib.sha256).hexdigest()
    bare = account(options=options(receipts=None))
    assert not PROVIDER.genuine(bare, {"": empty, "x-signature": empty}, b"{}")
    assert PROVIDER.handshake(account(), {"hub.mode": "subscribe"}) is None


def test_receipts_are_read_by_the_mapping():
    items = [
        {"id": "m-1", "reference": str(ID), "state": "DELIVRD", "when": 1_750_857_384},
        {"id": 2, "state": "UNDELIV", "why": {"of": "+4930123456"}, "when": "2025-06-25T13:16:24Z"},
        {"id": "m-3", "state": "STOP", "when": 1_750_857_384_000},
        {"id": "m-4", "state": "read"},
        {"id": "m-5", "state": "QUEUED"},
        {"state": "DELIVRD"},
        "DELIVRD",
    ]
    body = json.dumps({"statuses": items}).encode()
    delivered, failed, stopped, read = PROVIDER.receipts(account(), {}, body)
    at = datetime.fromtimestamp(1_750_857_384, UTC)
    assert (delivered.what, delivered.message_id, delivered.at) == ("delivered", ID, at)
    assert (failed.what, failed.provider_id, failed.at) == ("failed", "2", at)
    assert failed.error == "{'of': '[phone]'}"
    assert (stopped.what, stopped.opted_out, stopped.at) == ("failed", True, at)
    assert (read.what, read.error) == ("read", "")


@pytest.mark.parametrize("body", [b"", b"{}", b"no", b'{"statuses": 5}'])
def test_a_callback_that_is_not_as_mapped_is_refused(body):
    with pytest.raises(BadCallback):
        PROVIDER.receipts(account(), {}, body)


def test_the_whole_body_may_be_the_one_receipt():
    mapping = {k: v for k, v in OPTIONS["receipts"].items() if k != "items"}
    body = json.dumps({"id": "m-1", "state": "DELIVRD"}).encode()
    (receipt,) = PROVIDER.receipts(account(options=options(receipts=mapping)), {}, body)
    assert receipt.what == "delivered"


def test_nothing_is_wrong_with_the_example():
    assert flaws() == {}
    assert flaws(sender="Bäcker") == {"/sender": "invalid_sender"}


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        ({"path": None}, {"/options/path": "required"}),
        ({"path": "https://evil.example/x"}, {"/options/path": "invalid_path"}),
        ({"path": "//evil.example/x"}, {"/options/path": "invalid_path"}),
        ({"path": "/a/../b"}, {"/options/path": "invalid_path"}),
        ({"path": "/a#b"}, {"/options/path": "invalid_path"}),
        ({"path": "/to/{phone}"}, {"/options/path": "unknown_placeholder"}),
        ({"path": "/{credentials.api_key}"}, {"/options/path": "unknown_placeholder"}),
        ({"headers": {"X": "{phone}"}}, {"/options/headers/X": "unknown_placeholder"}),
        ({"headers": {"Host": "x"}}, {"/options/headers/Host": "reserved_name"}),
        ({"headers": {"X": "a\r\nb"}}, {"/options/headers/X": "invalid_value"}),
        ({"headers": []}, {"/options/headers": "wrong_type"}),
        ({"body": None}, {"/options/body": "required"}),
        ({"body": {"to": "all"}}, {"/options/body": "no_phone"}),
        (
            {"body": {"to": "{phone}", "k": [{"a": "{credentials.nope}"}]}},
            {"/options/body/k/0/a": "unknown_placeholder"},
        ),
        ({"id": "messages.id"}, {"/options/id": "invalid_pointer"}),
        ({"idempotency_header": "a b"}, {"/options/idempotency_header": "invalid_name"}),
        (
            {"idempotency_header": "Content-Length"},
            {"/options/idempotency_header": "reserved_name"},
        ),
        ({"statuses": {"4xx": "later"}}, {"/options/statuses/4xx": "invalid_name"}),
        ({"statuses": {"400": "perhaps"}}, {"/options/statuses/400": "unknown_value"}),
        ({"verify": None}, {"/options/verify": "required"}),
        (
            {"verify": {"path": "/", "method": "DELETE"}},
            {"/options/verify/method": "unknown_value"},
        ),
        ({"verify": False}, {"/options/verify": "required"}),
        ({"receipts": {}}, {
            "/options/receipts/signature": "required",
            "/options/receipts/status": "required",
            "/options/receipts/message_id": "required",
        }),
        (
            {"receipts": OPTIONS["receipts"] | {"signature": {"header": "x", "secret": "nope"}}},
            {"/options/receipts/signature/secret": "unknown_value"},
        ),
        (
            {"receipts": OPTIONS["receipts"] | {"values": {"A": "gone"}}},
            {"/options/receipts/values": "unknown_value"},
        ),
        ({"surprise": 1}, {"/options/surprise": "unknown_field"}),
    ],
)  # fmt: skip
def test_each_flaw_of_a_mapping_has_its_place(change, wrong):
    assert flaws(options=options(**change)) == wrong


def test_a_pointer_leads_where_rfc_6901_says():
    value = {"a/b": [{"~": 1}], "": 2, "n": None}
    assert at_pointer(value, "/a~1b/0/~0") == 1
    assert at_pointer(value, "/") == 2
    assert at_pointer(value, "") is value
    for nowhere in ("/a~1b/1", "/a~1b/-1", "/a~1b/x", "/c", "/n/x", "/a~1b/0/~0/deeper"):
        assert at_pointer(value, nowhere) is None


def test_a_moment_has_no_zone_but_ours():
    assert moment_or_now("2025-06-25T15:16:24+02:00") == datetime(
        2025, 6, 25, 13, 16, 24, tzinfo=UTC
    )
    assert moment_or_now("2025-06-25T13:16:24").tzinfo is UTC
