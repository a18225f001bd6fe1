"""Whoever writes STOP to a WhatsApp number is written to no more: heard in its signed callbacks."""

import hashlib
import hmac
import json
import threading
from datetime import UTC, datetime, timedelta
from wsgiref.simple_server import WSGIRequestHandler, make_server

import pytest
import requests
from django.core.wsgi import get_wsgi_application

from config.ids import format_id
from customers.models import Consent, ConsentChange, Customer, Suppression
from jobs.models import Job
from tenants.context import tenant_context
from tests.campaigns.test_receipts import PHONE, SECRET, Post, callback, status
from tests.campaigns.test_whatsapp import PROVIDER, account, flaws

SENDER = "12345"  # Of the account that Post makes.


@pytest.fixture
def post(tenant):
    return Post(tenant)


class Quiet(WSGIRequestHandler):
    def log_message(self, *words):
        pass


@pytest.fixture(scope="module")
def server():
    """The address of a web server of ours, on a port of loopback."""
    with make_server("127.0.0.1", 0, get_wsgi_application(), handler_class=Quiet) as served:
        thread = threading.Thread(target=served.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{served.server_port}"
        served.shutdown()
        thread.join()


def inbound(*messages, sender=SENDER, field="messages"):
    """A callback of Meta's with what people wrote."""
    value = {"metadata": {"phone_number_id": sender}, field: list(messages)}
    return {"entry": [{"id": "0", "changes": [{"field": field, "value": value}]}]}


def wrote(text, at=None, phone=PHONE, **fields):
    at = at or datetime.now(UTC)
    made = {"from": phone.removeprefix("+"), "id": "wamid.IN", "type": "text"}
    return made | {"timestamp": str(int(at.timestamp())), "text": {"body": text}} | fields


def customer(post, phone=PHONE, consent=Consent.GIVEN):
    with tenant_context(post.tenant):
        return Customer.objects.create(name="Ada", phone=phone, consent=consent)


def seen(post, customer):
    """The consent of a customer, and whether the number is on the list."""
    with tenant_context(post.tenant):
        customer.refresh_from_db()
        return customer.consent, Suppression.objects.filter(phone=customer.phone).exists()


OUT, IN = (Consent.WITHDRAWN, True), (Consent.GIVEN, False)


def test_a_stop_over_http_opts_its_customer_out_and_says_how(server, post):
    ada = customer(post)
    body = json.dumps(inbound(wrote("STOP"))).encode()
    signature = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    url = f"{server}/v1/callbacks/{format_id('acc', post.account.pk)}"
    headers = {"X-Hub-Signature-256": f"sha256={signature}", "Content-Type": "application/json"}
    answer = requests.post(url, body, headers=headers | {"Host": "slipway.localhost"}, timeout=5)
    assert (answer.status_code, answer.json()) == (200, {"receipts": 0})
    assert seen(post, ada) == OUT
    with tenant_context(post.tenant):
        entry = ConsentChange.objects.get(customer_id=ada.pk)
    assert entry.source == f"provider:acc_{post.account.pk}"
    assert entry.reason == "wrote stop"


def test_a_stop_that_nobody_signed_opts_nobody_out(client, post):
    ada = customer(post)
    answer = post.take(client, inbound(wrote("STOP")), secret="guessed")
    assert answer.status_code == 401
    assert seen(post, ada) == IN


def test_it_is_heard_in_dedicated_homes_too(client, home):
    post = Post(home)
    ada = customer(post)
    post.take(client, inbound(wrote("Stop.")))
    assert seen(post, ada) == OUT


@pytest.mark.parametrize(
    "message",
    [
        wrote("  stop! "),
        wrote("Opt-out"),
        wrote("ABMELDEN"),
        wrote("", type="button", button={"payload": "STOP", "text": "No more"}),
        wrote("", type="button", button={"payload": "b-7", "text": "Stop"}),
        wrote("", interactive={"button_reply": {"id": "x", "title": "Stop"}}),
    ],
)
def test_a_word_or_a_button_that_says_so_is_enough(client, post, message):
    ada = customer(post)
    post.take(client, inbound(message))
    assert seen(post, ada) == OUT


@pytest.mark.parametrize(
    "message",
    [
        wrote("Please don't stop!"),
        wrote("When do you stop serving?"),
        wrote(""),
        wrote(None),
        wrote(["STOP"]),
        wrote("STOP", **{"from": "a stranger"}),
        wrote("STOP", **{"from": None}),
        "STOP",
    ],
)
def test_whatever_else_people_write_is_passed_over(client, post, message):
    ada = customer(post)
    assert post.take(client, inbound(message)).status_code == 200
    assert seen(post, ada) == IN


def test_who_stops_marketing_in_whatsapps_own_settings_is_heard(client, post):
    ada, bob = customer(post), customer(post, "+4930654321")
    said = {"category": "marketing_messages", "timestamp": 1731705721}
    stopped = said | {"wa_id": "4930123456", "value": "stop"}
    resumed = said | {"wa_id": "4930654321", "value": "resume"}
    post.take(client, inbound(stopped, resumed, field="user_preferences"))
    assert (seen(post, ada), seen(post, bob)) == (OUT, IN)


def test_told_again_it_is_done_once_and_undoes_nothing_that_was_said_since(client, post):
    ada, body = customer(post), inbound(wrote("STOP", datetime.now(UTC) - timedelta(minutes=1)))
    post.take(client, body)
    post.take(client, body)
    with tenant_context(post.tenant):
        assert ConsentChange.objects.count() == 1
        Customer.objects.filter(pk=ada.pk).update(consent=Consent.GIVEN)
        Suppression.objects.all().delete()
    post.take(client, body)  # Days late, as Meta may.
    assert seen(post, ada) == IN


def test_what_is_said_to_another_business_is_not_this_tenants(client, post):
    """An app of Meta's has one address for all of its numbers."""
    ada = customer(post)
    post.take(client, inbound(wrote("STOP"), sender="99999"))
    assert seen(post, ada) == IN


def test_an_answer_opts_out_the_number_that_was_written_to(client, post):
    """WhatsApp spells some numbers in a way of its own: a Mexican's with a 1."""
    ada = customer(post, "+525512345678")
    message = post.message(phone=ada.phone, provider_id="wamid.OUT")
    said = wrote("stop", phone="+5215512345678", context={"id": "wamid.OUT", "from": "1"})
    post.take(client, inbound(said))
    assert seen(post, ada) == OUT
    assert message.phone == ada.phone


def test_one_callback_may_bring_both_and_keeps_no_number(client, post):
    ada, message = customer(post), post.message()
    body = callback(status("read", message))
    body["entry"] += inbound(wrote("STOP"))["entry"]
    assert post.take(client, body).json() == {"receipts": 1}
    assert seen(post, ada) == OUT
    args = Job.objects.using("operator").filter(tenant_id=post.tenant.pk).values_list("args")
    assert PHONE.removeprefix("+") not in str(list(args))


def test_an_account_may_have_words_of_its_own(client, tenant):
    post = Post(tenant, options={"opt_out_words": ["No más"]})
    ada = customer(post)
    post.take(client, inbound(wrote("stop")))
    assert seen(post, ada) == IN
    post.take(client, inbound(wrote("NO MÁS!")))
    assert seen(post, ada) == OUT


@pytest.mark.parametrize("words", [[], "stop", ["stop", ""], ["x" * 51], [5], ["!"]])
def test_words_that_are_none_are_refused(words):
    (pointer, *_) = sorted(flaws(options={"opt_out_words": words}))
    assert pointer.startswith("/options/opt_out_words")


def test_a_body_without_entries_is_refused():
    from campaigns.providers import BadCallback

    with pytest.raises(BadCallback):
        PROVIDER.opt_outs(account(), {}, b"{}")
