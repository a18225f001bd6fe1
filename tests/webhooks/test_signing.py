"""Signatures, against the specification's own vector and the references of two languages."""

import json
import os
import shutil
import subprocess
import time
from base64 import b64encode
from datetime import UTC, datetime
from pathlib import Path

import pytest
from standardwebhooks import Webhook
from standardwebhooks.webhooks import WebhookVerificationError

from webhooks import secrets
from webhooks.signing import BadSecret, BadSignature, sign, verify

JAVASCRIPT = Path(__file__).parent / "javascript"
# The specification's example.
ID, STAMP, BODY = "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}'
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="

TEXT = '{"type":"invoice.paid","data":{"für":"Ørsted \u2028 😀"}}'.encode()


def signed(*keys, message_id="evt_1", timestamp=None, body=TEXT):
    stamp = int(time.time()) if timestamp is None else timestamp
    return sign(keys, message_id=message_id, timestamp=stamp, body=body)


def test_it_signs_the_specifications_example_as_the_specification_does():
    headers = sign([SECRET], message_id=ID, timestamp=STAMP, body=BODY)
    assert headers == {
        "webhook-id": ID,
        "webhook-timestamp": str(STAMP),
        "webhook-signature": SIGNATURE,
    }
    assert verify([SECRET], headers=headers, body=BODY, now=STAMP) == ID


def test_bytes_sign_as_their_text_does():
    secret = secrets.make()
    raw = b"k" * 32
    assert signed("whsec_" + b64encode(raw).decode(), timestamp=1) == signed(raw, timestamp=1)
    assert signed(secret, timestamp=1) == signed(secret.removeprefix("whsec_"), timestamp=1)


def test_a_rotation_signs_with_every_secret_that_is_still_good():
    new, old = secrets.make(), secrets.make()
    headers = signed(new, old)
    assert len(headers["webhook-signature"].split(" ")) == 2
    for secret in (new, old):
        assert verify([secret], headers=headers, body=TEXT, now=time.time()) == "evt_1"
        Webhook(secret).verify(TEXT, headers)


# ---- Cases that every verifier has to judge alike ----


def cases():
    """(name, secret, headers, body, whether it is good)."""
    right, old, wrong = secrets.make(), secrets.make(), secrets.make()
    now = int(time.time())
    good = signed(right)
    return [
        ("as sent", right, good, TEXT, True),
        ("empty object", right, signed(right, body=b"{}"), b"{}", True),
        ("rotated, new", right, signed(right, old), TEXT, True),
        ("rotated, old", old, signed(right, old), TEXT, True),
        ("another version first", right, with_signature(good, "v2,abc " + value(good)), TEXT, True),
        ("nearly too old", right, signed(right, timestamp=now - 280), TEXT, True),
        ("wrong secret", wrong, good, TEXT, False),
        ("dropped from the rotation", wrong, signed(right, old), TEXT, False),
        ("tampered body", right, good, TEXT.replace(b"paid", b"void"), False),
        ("added space", right, good, TEXT + b" ", False),
        ("other id", right, good | {"webhook-id": "evt_2"}, TEXT, False),
        ("other timestamp", right, good | {"webhook-timestamp": str(now + 1)}, TEXT, False),
        ("too old", right, signed(right, timestamp=now - 400), TEXT, False),
        ("too new", right, signed(right, timestamp=now + 400), TEXT, False),
        ("timestamp no number", right, good | {"webhook-timestamp": "soon"}, TEXT, False),
        ("version alone", right, with_signature(good, "v1,"), TEXT, False),
        ("other version", right, with_signature(good, "v2" + value(good)[2:]), TEXT, False),
        ("no signature", right, without(good, "webhook-signature"), TEXT, False),
        ("no id", right, without(good, "webhook-id"), TEXT, False),
        ("no timestamp", right, without(good, "webhook-timestamp"), TEXT, False),
    ]


def value(headers):
    return headers["webhook-signature"]


def with_signature(headers, text):
    return headers | {"webhook-signature": text}


def without(headers, name):
    return {key: text for key, text in headers.items() if key != name}


def test_we_judge_every_case_right():
    for name, secret, headers, body, good in cases():
        try:
            verify([secret], headers=headers, body=body, now=time.time())
        except BadSignature:
            assert not good, name
        else:
            assert good, name


def test_the_python_reference_judges_as_we_do():
    for name, secret, headers, body, good in cases():
        try:
            Webhook(secret).verify(body, headers)
        except (WebhookVerificationError, ValueError):
            assert not good, name
        else:
            assert good, name


def test_what_the_python_reference_signs_we_verify():
    secret, now = secrets.make(), datetime.now(UTC)
    headers = {
        "Webhook-Id": "evt_9",
        "Webhook-Timestamp": str(int(now.timestamp())),
        "Webhook-Signature": Webhook(secret).sign("evt_9", now, TEXT.decode()),
    }
    assert verify([secret], headers=headers, body=TEXT, now=now.timestamp()) == "evt_9"
    assert headers["Webhook-Signature"] == value(
        signed(secret, message_id="evt_9", timestamp=int(now.timestamp()))
    )


@pytest.fixture(scope="session")
def node() -> str:
    """Node with the reference package; on a machine without it the test is skipped, in CI not."""
    missing = ""
    path = shutil.which("node")
    if path is None:
        missing = "node is not installed"
    elif not (JAVASCRIPT / "node_modules").is_dir():
        missing = "the package is not installed: npm ci --prefix tests/webhooks/javascript"
    if missing and os.environ.get("SLIPWAY_TEST_JAVASCRIPT") == "required":
        pytest.fail(missing)
    if missing:
        pytest.skip(missing)
    return path


def test_the_javascript_reference_judges_as_we_do(node):
    judged = cases()
    told = subprocess.run(
        [node, str(JAVASCRIPT / "verify.js")],
        input=json.dumps(
            [
                {"secret": secret, "headers": headers, "body": body.decode()}
                for _, secret, headers, body, _ in judged
            ]
        ),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    verdicts = json.loads(told.stdout)
    assert {
        name: verdict is None for (name, *_), verdict in zip(judged, verdicts, strict=True)
    } == {name: good for name, _, _, _, good in judged}


# ---- What is never signed ----


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "whsec_",
        "whsec_not base64!",
        "whsec_" + b64encode(b"short").decode(),
        "whsec_" + b64encode(b"l" * 65).decode(),
        "whpk_" + b64encode(b"k" * 32).decode(),
    ],
)
def test_a_secret_that_is_none_is_refused(secret):
    with pytest.raises(BadSecret):
        signed(secret)


def test_nothing_is_signed_with_no_secret():
    with pytest.raises(BadSecret):
        signed()


@pytest.mark.parametrize("message_id", ["", "evt.1", "."])
def test_an_id_that_could_be_read_as_two_parts_is_refused(message_id):
    with pytest.raises(ValueError):
        signed(secrets.make(), message_id=message_id)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"webhook-timestamp": "1"}, "webhook-timestamp is more than 300 seconds off."),
        ({"webhook-timestamp": "\u0661"}, "webhook-timestamp is not a number of seconds."),
        ({"webhook-signature": "v1,xx"}, "None of the signatures is by a secret of yours."),
        ({"webhook-signature": "v1,é"}, "None of the signatures is by a secret of yours."),
    ],
)
def test_a_refusal_says_which_part_is_wrong(change, sentence):
    secret = secrets.make()
    with pytest.raises(BadSignature, match=sentence):
        verify([secret], headers=signed(secret) | change, body=TEXT, now=time.time())
