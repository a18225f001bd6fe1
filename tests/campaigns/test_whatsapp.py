"""WhatsApp's Cloud API: what is sent, what an answer means, what a callback tells."""

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
    PairLimit,
    Refused,
    Slower,
    masked,
)
from campaigns.providers.whatsapp_cloud import PROVIDER
from webhooks.answers import Answer

ID = UUID("01890000-0000-7000-8000-000000000001")
SECRET = "shh"
AT = 1_750_857_384


def account(**fields):
    credentials = {"access_token": "EAAG", "app_secret": SECRET, "verify_token": "let me in"}
    base = "https://graph.facebook.com"
    made = {"base_url": base, "sender": "123456789", "credentials": credentials, "options": {}}
    return Account(id=ID, provider="whatsapp_cloud", **(made | fields))


def outgoing(**fields):
    made = {
        "message_id": ID,
        "phone": "+4930123456",
        "text": "Hi Ada, 10 % off",
        "params": {"discount": "10 %", "name": "Ada\n\n  Lovelace"},
        "variables": ("name", "discount"),
        "external_name": "autumn",
        "language": "de_DE",
    }
    return Outgoing(**(made | fields))


def answer(status=200, body=None, *, truncated=False, **headers):
    text = body if isinstance(body, str) else json.dumps({} if body is None else body)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, named, text, truncated, 0.1, "127.0.0.1")


def refused(code, status=400, message="(#1) No", **more):
    return answer(status, {"error": {"message": message, "code": code, **more}})


def judged(given):
    return PROVIDER.judge(account(), given)


def status(what="delivered", **fields):
    made = {"id": "wamid.X", "status": what, "timestamp": str(AT), "recipient_id": "4930123456"}
    return made | {"biz_opaque_callback_data": str(ID)} | fields


def callback(*statuses, field="messages"):
    value = {"metadata": {"phone_number_id": "123456789"}, "statuses": list(statuses)}
    change = {"field": field, "value": value}
    return {"object": "whatsapp_business_account", "entry": [{"id": "0", "changes": [change]}]}


def told(body):
    return PROVIDER.receipts(account(), {}, json.dumps(body).encode())


def signed(body: bytes, secret=SECRET):
    digest = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return {"x-hub-signature-256": f"sha256={digest}"}


def test_it_sends_the_template_with_parameters_in_the_order_of_its_variables():
    request = PROVIDER.request(account(), outgoing())
    assert request.url == "https://graph.facebook.com/v23.0/123456789/messages"
    assert request.headers["authorization"] == "Bearer EAAG"
    assert json.loads(request.body) == {
        "messaging_product": "whatsapp",
        "recipient_type": "individual",
        "to": "+4930123456",
        "type": "template",
        "template": {
            "name": "autumn",
            "language": {"policy": "deterministic", "code": "de_DE"},
            "components": [
                {
                    "type": "body",
                    "parameters": [
                        {"type": "text", "text": "Ada Lovelace"},  # Line breaks are refused there.
                        {"type": "text", "text": "10 %"},
                    ],
                }
            ],
        },
        "biz_opaque_callback_data": str(ID),
    }


def test_it_names_the_parameters_of_templates_that_were_made_so():
    named = account(options={"parameters": "named", "version": "v25.0"})
    request = PROVIDER.request(named, outgoing())
    assert "/v25.0/" in request.url
    (body,) = json.loads(request.body)["template"]["components"]
    assert [each["parameter_name"] for each in body["parameters"]] == ["name", "discount"]


def test_a_template_without_variables_has_no_components_and_no_template_is_a_text():
    plain = json.loads(PROVIDER.request(account(), outgoing(variables=())).body)
    assert "components" not in plain["template"]
    text = json.loads(PROVIDER.request(account(), outgoing(external_name="")).body)
    assert (text["type"], text["text"]["body"]) == ("text", "Hi Ada, 10 % off")


def test_an_attempt_keeps_nothing_personal_and_no_token():
    request = PROVIDER.request(account(), outgoing())
    kept = json.dumps(request.shown)
    assert not any(secret in kept for secret in ("EAAG", "4930123456", "Ada", "10 %"))
    assert (request.shown["template"], request.shown["body_bytes"]) == (
        "autumn",
        len(request.body),
    )
    assert "EAAG" not in repr(request) + repr(account())
    assert "4930123456" not in repr(request) + repr(outgoing())


def test_it_is_accepted_by_the_id_alone():
    assert judged(answer(200, {"messages": [{"id": "wamid.X"}]})) == Accepted("wamid.X")
    assert not PROVIDER.idempotent(account())


@pytest.mark.parametrize(
    "given",
    [
        answer(200, "<html>"),
        answer(200, '{"messages": [{"id": "wam'),
        answer(200, {"messages": []}),
        answer(200, {"messages": [{"id": 5.5}]}),
        answer(200, {"messages": [{"id": "w" * 201}]}),
        answer(200, {"messages": [{"id": "a\0b"}]}),
        answer(200, {"messages": [{"id": "wamid.X"}]}, truncated=True),
        answer(204, ""),
        answer(500, "oops"),
        answer(502, "<html>"),
        answer(503, ""),
        answer(504, {"error": "gateway"}),
        answer(408, ""),
    ],
)
def test_a_malformed_2xx_and_a_bare_5xx_leave_it_open_whether_it_was_sent(given):
    assert isinstance(judged(given), Ambiguous)


@pytest.mark.parametrize(
    ("code", "after"), [(130429, 1.0), (80007, 60.0), (4, 60.0), (131057, 60.0)]
)
def test_a_rate_code_holds_the_account_and_not_the_message(code, after):
    verdict = judged(refused(code))
    assert isinstance(verdict, Slower)
    assert verdict.after == after


def test_a_retry_after_says_how_long():
    assert judged(answer(429, "slow down", retry_after="7")) == Slower(7.0, "HTTP 429")
    told = answer(400, {"error": {"code": 130429}}, retry_after="3")
    assert judged(told) == Slower(3.0, "130429")


def test_too_much_to_one_recipient_is_that_messages_wait():
    verdict = judged(refused(131056))
    assert isinstance(verdict, PairLimit)
    assert [verdict.after**n for n in (1, 2, 3)] == [4, 16, 64]


@pytest.mark.parametrize(
    "code",
    [0, 3, 10, 33, 190, 200, 299, 368, 131005, 131031, 131042, 131045, 131048, 133010],
)
@pytest.mark.parametrize("status", [400, 401, 500])
def test_codes_of_the_account_are_the_accounts_whatever_the_status(code, status):
    verdict = judged(refused(code, status))
    assert isinstance(verdict, AccountRefused)
    assert not verdict.template


@pytest.mark.parametrize("code", [132000, 132001, 132007, 132015, 132016])
def test_codes_of_the_template_concern_its_campaigns_alone(code):
    verdict = judged(refused(code))
    assert isinstance(verdict, AccountRefused)
    assert verdict.template


@pytest.mark.parametrize("code", [131026, 131047, 131049, 130472, 131051, 131009, 132012])
def test_codes_of_the_recipient_are_for_good(code):
    assert isinstance(judged(refused(code)), Refused)
    assert not judged(refused(code)).opted_out


def test_whoever_said_no_to_marketing_has_opted_out():
    assert judged(refused(131050)).opted_out


@pytest.mark.parametrize("code", [1, 2, 131000, 131016])
@pytest.mark.parametrize("status", [400, 500])
def test_what_is_transient_is_tried_again(code, status):
    assert isinstance(judged(refused(code, status)), Later)


def test_a_code_that_nobody_knows_tells_as_much_as_its_status():
    assert isinstance(judged(refused(999999, 400)), Later)
    assert isinstance(judged(refused(999999, 500)), Ambiguous)
    assert isinstance(judged(refused(999999, 503)), Ambiguous)


def test_a_number_that_is_gone_is_the_accounts():
    assert isinstance(judged(refused(100, error_subcode=33)), AccountRefused)
    assert isinstance(judged(refused(100)), Refused)


@pytest.mark.parametrize("status", [301, 307, 401, 403, 404, 405])
def test_what_the_graph_api_never_answers_is_the_accounts_address(status):
    assert isinstance(judged(answer(status, "")), AccountRefused)


@pytest.mark.parametrize(
    "number",
    ["+4930123456", "4930123456", "%2B4930123456", "to=%2b4930123456", "+49 30 123456",
     "+49%2030%20123456", "+49 (30) 123-456", "0049 30 123456", "030 123 456", "(030) 123456"],
)  # fmt: skip
def test_a_number_is_masked_however_it_is_written(number):
    kept = masked(f"132000: {number} is no user, says {number}.")
    assert "123" not in kept.removeprefix("132000")
    assert "456" not in kept
    assert kept.count("[phone]") == 2


@pytest.mark.parametrize(
    "text", ["HTTP 503", "131026: no user", "132000: 3 of 4 parameters", "at 00:12:34", "+1 of 20"]
)
def test_what_is_no_number_is_kept(text):
    assert masked(text) == text


def test_an_error_says_the_code_and_no_number():
    verdict = judged(
        refused(131026, message="no", error_data={"details": "+4930123456 has no WhatsApp"})
    )
    assert verdict.error == "131026: [phone] has no WhatsApp"


def test_a_callback_brings_several_statuses_of_several_numbers():
    body = callback(status("sent"), status("delivered", biz_opaque_callback_data=None))
    body["entry"].append(callback(status("read", surprise={"a": 1}))["entry"][0])
    body["entry"][0]["changes"].append({"field": "account_update", "value": {"statuses": [{}]}})
    body["entry"][0]["changes"].append({"field": "messages", "value": {"messages": [{"id": "x"}]}})
    sent, delivered, read = told(body)
    assert (sent.what, sent.message_id, sent.provider_id) == ("sent", ID, "wamid.X")
    assert sent.at == datetime.fromtimestamp(AT, UTC)
    assert (delivered.what, delivered.message_id) == ("delivered", None)
    assert read.what == "read"


def test_a_failure_has_its_code_and_says_who_opted_out():
    errors = [{"code": 131050, "title": "User 4930123456 stopped", "href": "https://…"}]
    (failed,) = told(callback(status("failed", errors=errors)))
    assert (failed.error, failed.opted_out) == ("131050: User [phone] stopped", True)
    (bare,) = told(callback(status("failed")))
    assert (bare.error, bare.opted_out) == ("", False)
    (odd,) = told(callback(status("failed", errors=["no", {"title": 5}])))
    assert odd.error == ""


@pytest.mark.parametrize(
    "strange",
    [
        status("played"),
        status("deleted"),
        status(None),
        {**status(), "id": None},
        {**status(), "id": ["x"]},
        {**status(), "id": "w" * 201},
        "status",
    ],
)
def test_what_it_does_not_know_is_passed_over(strange):
    assert told(callback(strange)) == []


@pytest.mark.parametrize("stamp", [None, "soon", "9" * 30, str(2**34), "nan", -1, []])
def test_a_moment_that_is_none_or_ahead_is_now(stamp):
    (receipt,) = told(callback(status(timestamp=stamp)))
    assert abs((receipt.at - datetime.now(UTC)).total_seconds()) < 5


@pytest.mark.parametrize("body", [b"", b"[]", b"\xff", b'{"entry": 5}', b"{"])
def test_a_callback_that_cannot_be_read_is_refused(body):
    with pytest.raises(BadCallback):
        PROVIDER.receipts(account(), {}, body)


def test_only_the_app_secret_signs_and_only_these_very_bytes():
    body = b'{"entry": []}'
    assert PROVIDER.genuine(account(), signed(body), body)
    assert not PROVIDER.genuine(account(), signed(body), body + b" ")
    assert not PROVIDER.genuine(account(), signed(body, "other"), body)
    assert not PROVIDER.genuine(account(), {}, body)
    assert not PROVIDER.genuine(account(), {"x-hub-signature-256": "sha256=\xff"}, body)


def test_an_account_without_a_secret_takes_no_callback():
    bare = account(credentials={"access_token": "EAAG"})
    assert not PROVIDER.genuine(bare, signed(b"{}", ""), b"{}")
    assert PROVIDER.handshake(bare, {"hub.mode": "subscribe", "hub.verify_token": ""}) is None


def test_the_challenge_is_given_back_to_whoever_knows_the_token():
    query = {"hub.mode": "subscribe", "hub.verify_token": "let me in", "hub.challenge": "1158201"}
    assert PROVIDER.handshake(account(), query) == "1158201"
    assert PROVIDER.handshake(account(), query | {"hub.verify_token": "open"}) is None
    assert PROVIDER.handshake(account(), query | {"hub.mode": "unsubscribe"}) is None
    assert PROVIDER.handshake(account(), query | {"hub.challenge": "<script>"}) is None


def flaws(**fields):
    return {flaw.pointer for flaw in PROVIDER.flaws(account(**fields))}


def test_it_says_what_is_wrong_with_an_account():
    assert flaws() == set()
    assert flaws(sender="+49 30") == {"/sender"}
    assert flaws(credentials={"token": "x"}) == {
        "/credentials/access_token",
        "/credentials/token",
    }
    assert flaws(options={"version": "23", "parameters": "odd", "a/b": 1}) == {
        "/options/version",
        "/options/parameters",
        "/options/a~1b",
    }
