"""What providers tell of messages: taken in by signed callbacks, applied in any order."""

import hashlib
import hmac
import itertools
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connections, transaction

from campaigns import receipts
from campaigns.models import Campaign, Message, ProviderAccount
from campaigns.providers import Receipt, sealed
from config.ids import format_id
from customers.models import Consent, Customer, Suppression
from jobs.models import Job
from jobs.outcomes import Snooze, Succeeded
from jobs.states import State
from tenants.context import tenant_context

OPERATOR = "operator"
SECRET = "shh"
T = datetime(2026, 6, 25, 12, tzinfo=UTC)
PHONE = "+4930123456"


class Post:
    """An account, a campaign of it, and messages in whatever state a test needs."""

    def __init__(self, tenant, name="Shop", **fields):
        self.tenant = tenant
        credentials = {"access_token": "t", "app_secret": SECRET, "verify_token": "let me in"}
        made = {"provider": "whatsapp_cloud", "base_url": "https://graph.example.com"}
        with tenant_context(tenant):
            self.account = ProviderAccount.objects.create(
                **made
                | {"name": name, "sender": "12345", "credentials": sealed(credentials)}
                | fields
            )
            self.campaign = Campaign.objects.create(
                name=name, account=self.account, actor="system:test", state="running"
            )

    def messages(self, count=1, *, state="succeeded", **fields):
        start = Message.objects.using(OPERATOR).filter(campaign=self.campaign).count()
        made = [
            Message(
                tenant_id=self.tenant.pk,
                campaign=self.campaign,
                account_key=self.account.key,
                lane=self.campaign.lane,
                max_attempts=3,
                state=state,
                **{"phone": f"+4930{100000 + start + n}", "provider_id": f"wamid.{start + n}"}
                | fields,
            )
            for n in range(count)
        ]
        Message.objects.using(OPERATOR).bulk_create(made)
        if state == "unknown":
            rows = Campaign.objects.using(OPERATOR).filter(pk=self.campaign.pk)
            rows.update(unknown=count, total=count)
        return made

    def message(self, **fields):
        (only,) = self.messages(**fields)
        return only

    def apply(self, *told, account=None):
        with tenant_context(self.tenant):
            return receipts.apply((account or self.account).pk, told)

    def counters(self):
        row = Campaign.objects.using(OPERATOR).get(pk=self.campaign.pk)
        return row.delivered, row.read, row.undelivered

    def take(self, client, body, *, secret=SECRET, account=None, address="127.0.0.1", **headers):
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        digest = hmac.new(secret.encode(), raw, hashlib.sha256).hexdigest()
        return client.post(
            f"/v1/callbacks/{format_id('acc', (account or self.account).pk)}",
            raw,
            content_type="application/json",
            headers={"X-Hub-Signature-256": f"sha256={digest}", "Host": "slipway.localhost"}
            | headers,
            REMOTE_ADDR=address,
        )

    def jobs(self):
        return Job.objects.using(OPERATOR).filter(tenant_id=self.tenant.pk, kind=receipts.KIND)


@pytest.fixture
def post(tenant):
    return Post(tenant)


def told(what, at=0, message=None, *, name="", **fields):
    """A receipt `at` seconds after T: of a message by our id, or by the provider's name for it."""
    by_id = None if name or message is None else message.pk
    made = {"message_id": by_id, "provider_id": name, "at": T + timedelta(seconds=at)}
    return Receipt(what=what, **made | fields)


def seen(message):
    """What is known of a message; moments in seconds after T."""
    message.refresh_from_db(using=OPERATOR)
    moments = (message.delivered_at, message.read_at, message.undelivered_at)
    spans = [None if at is None else (at - T).total_seconds() for at in moments]
    return (message.state, *spans, message.undelivered_why)


def status(what, message=None, at=0, **fields):
    made = {"id": "wamid.X", "status": what, "timestamp": str(int(T.timestamp()) + at)}
    opaque = {} if message is None else {"biz_opaque_callback_data": str(message.pk)}
    return made | {"recipient_id": PHONE.removeprefix("+")} | opaque | fields


def callback(*statuses):
    change = {"field": "messages", "value": {"statuses": list(statuses)}}
    return {"entry": [{"id": "0", "changes": [change]}]}


# ---- Applied in any order, any number of times ----

SETS = {
    "all of it": (
        [told("sent", 1), told("delivered", 2), told("read", 3), told("delivered", 2)],
        ("succeeded", 2, 3, None, ""),
        (1, 1, 0),
    ),
    "read without delivered": (
        [told("read", 3), told("read", 3), told("sent", 1)],
        ("succeeded", 3, 3, None, ""),
        (1, 1, 0),
    ),
    "moments that differ": (
        [told("delivered", 4), told("delivered", 2), told("read", 3), told("read", 5)],
        ("succeeded", 2, 3, None, ""),
        (1, 1, 0),
    ),
    "failed after sent": (
        [told("sent", 1), told("failed", 2, error="1: x"), told("failed", 2, error="1: x")],
        ("succeeded", None, None, 2, "1: x"),
        (0, 0, 1),
    ),
    "failed for two reasons": (
        [told("failed", 2, error="b"), told("failed", 2, error="Ä"), told("failed", 3, error="a")],
        ("succeeded", None, None, 2, "b"),
        (0, 0, 1),
    ),
    "failed, and delivered after all": (
        [told("failed", 1, error="x"), told("delivered", 3), told("sent", 0), told("read", 4)],
        ("succeeded", 3, 4, None, ""),
        (1, 1, 0),
    ),
}  # fmt: skip


@pytest.mark.parametrize("start", ["succeeded", "unknown"])
@pytest.mark.parametrize("name", SETS)
def test_every_order_and_every_repetition_comes_to_the_same(post, name, start):
    given, expected, counted = SETS[name]
    orders = list(itertools.permutations(given))
    messages = post.messages(len(orders), state=start)
    for step in range(len(given)):
        batch = [
            replace(order[step], message_id=message.pk)
            for message, order in zip(messages, orders, strict=True)
        ]
        assert post.apply(*batch) == 0
        post.apply(*batch)  # A second time, at once.
    assert {seen(message) for message in messages} == {expected}
    assert post.counters() == tuple(each * len(orders) for each in counted)


@pytest.mark.parametrize("name", SETS)
def test_all_in_one_callback_comes_to_the_same(post, name):
    given, expected, counted = SETS[name]
    orders = list(itertools.permutations(given))
    messages = post.messages(len(orders))
    post.apply(
        *(
            replace(receipt, message_id=message.pk)
            for message, order in zip(messages, orders, strict=True)
            for receipt in order
        )
    )
    assert {seen(message) for message in messages} == {expected}
    assert post.counters() == tuple(each * len(orders) for each in counted)


def test_what_comes_at_the_same_moment_is_counted_once(post, superuser):
    message = post.message()
    waits = "select count(*) from pg_locks where not granted and pid <> pg_backend_pid()"

    def read():
        try:
            return post.apply(told("read", 2, message))
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            post.apply(told("delivered", 1, message))
            second = pool.submit(read)
            while not superuser.execute(waits).fetchone()[0]:
                assert not second.done()
        assert second.result() == 0
    assert seen(message) == ("succeeded", 1, 2, None, "")
    assert post.counters() == (1, 1, 0)


def test_an_unknown_message_is_sent_once_anything_is_told_of_it(post):
    first, second, third = post.messages(3, state="unknown", provider_id="")
    post.apply(told("sent", 1, first), told("failed", 2, second, error="131026: x"))
    assert seen(first)[0] == "succeeded"
    assert seen(second) == ("succeeded", None, None, 2, "131026: x")
    assert seen(third)[0] == "unknown"
    row = Campaign.objects.using(OPERATOR).get(pk=post.campaign.pk)
    assert (row.sent, row.unknown, row.failed, row.undelivered) == (2, 1, 0, 1)


@pytest.mark.parametrize("state", ["pending", "scheduled", "failed"])
def test_a_message_that_is_to_be_sent_again_is_not_once_anything_is_told_of_it(post, state):
    """Somebody had what was unknown tried again; then the provider tells that it has it."""
    message = post.message(state=state, provider_id="", last_error="perhaps sent: HTTP 500")
    assert post.apply(told("delivered", 2, message, provider_id="wamid.A")) == 0
    assert seen(message)[:2] == ("succeeded", 2)
    assert (message.provider_id, message.last_error) == ("wamid.A", "")
    campaign = Campaign.objects.using(OPERATOR).get(pk=post.campaign.pk)
    assert (campaign.sent, campaign.unknown, campaign.delivered) == (1, 0, 1)
    post.apply(told("delivered", 2, message))
    campaign.refresh_from_db(using=OPERATOR)
    assert (campaign.sent, campaign.delivered) == (1, 1)


def test_what_nobody_has_tried_yet_is_not_taken_for_sent(post):
    message = post.message(state="pending", last_error="its campaign is paused")
    assert post.apply(told("delivered", 2, message)) == 1
    assert seen(message)[0] == "pending"


def test_an_unknown_message_learns_its_name(post):
    message = post.message(state="unknown", provider_id="")
    post.apply(replace(told("sent", 1, message), provider_id="wamid.NEW"))
    assert seen(message)[0] == "succeeded"
    assert message.provider_id == "wamid.NEW"


def test_it_finds_a_message_by_the_providers_name_for_it(post):
    message = post.message(provider_id="wamid.known")
    assert post.apply(told("delivered", 2, name="wamid.known")) == 0
    assert seen(message)[1] == 2


@pytest.mark.parametrize("state", ["pending", "scheduled", "processing", "failed"])
def test_a_message_that_is_not_settled_is_waited_for(post, state):
    message = post.message(state=state)
    assert post.apply(told("read", 2, message)) == 1
    assert seen(message) == (state, None, None, None, "")
    Message.objects.using(OPERATOR).filter(pk=message.pk).update(state="succeeded")
    assert post.apply(told("read", 2, message)) == 0
    assert seen(message) == ("succeeded", 2, 2, None, "")


@pytest.mark.parametrize("state", ["dead_letter", "cancelled", "discarded"])
def test_what_was_not_sent_stays_so(post, state):
    message = post.message(state=state)
    assert post.apply(told("read", 2, message)) == 0
    assert seen(message) == (state, None, None, None, "")
    assert post.counters() == (0, 0, 0)


def test_a_test_is_told_of_and_not_counted(post):
    message = post.message(test=True)
    post.apply(told("read", 2, message))
    assert seen(message)[1:3] == (2, 2)
    assert post.counters() == (0, 0, 0)


def test_another_providers_account_says_nothing_of_it(post, tenant):
    sms = Post(tenant, "SMS", provider="http")
    elsewhere = Post(tenant, "Elsewhere", base_url="https://other.example.com")
    second_number = Post(tenant, "Second number", sender="67890")
    message = post.message()
    for account in (sms.account, elsewhere.account):
        post.apply(told("read", 2, message), account=account)
        assert seen(message)[1] is None
    post.apply(told("read", 2, message), account=second_number.account)
    assert seen(message)[1] == 2


def test_another_tenants_message_is_not_touched(post, other_tenant):
    theirs = Post(other_tenant).message()
    assert post.apply(told("read", 2, theirs)) == 0
    assert post.apply(told("read", 2, name=theirs.provider_id)) == 1
    assert seen(theirs)[1] is None


def test_whoever_opted_out_there_is_not_written_to_again(home):
    post = Post(home)
    message = post.message(phone=PHONE)
    with tenant_context(home):
        customer = Customer.objects.create(name="Ada", phone=PHONE, consent=Consent.GIVEN)
    for _ in range(2):
        post.apply(told("failed", 2, message, error="131050: Stopped", opted_out=True))
    with tenant_context(home):
        customer.refresh_from_db()
        assert customer.consent == Consent.WITHDRAWN
        assert Suppression.objects.filter(phone=PHONE).count() == 1
    assert seen(message) == ("succeeded", None, None, 2, "131050: Stopped")


def test_an_opt_out_that_is_looked_at_again_undoes_nothing_that_was_said_since(home):
    """Its job comes by again for another's sake; meanwhile the person has asked for more."""
    post = Post(home)
    message = post.message(phone=PHONE)
    opt_out = told("failed", 2, message, error="131050: Stopped", opted_out=True)
    with tenant_context(home):
        customer = Customer.objects.create(name="Ada", phone=PHONE, consent=Consent.GIVEN)
        post.apply(opt_out)
        Customer.objects.filter(pk=customer.pk).update(consent=Consent.GIVEN)
        Suppression.objects.all().delete()
        post.apply(opt_out)
        customer.refresh_from_db()
        assert customer.consent == Consent.GIVEN
        assert not Suppression.objects.exists()
        now = datetime.now(UTC) + timedelta(seconds=1)
        post.apply(replace(opt_out, at=now))  # Another one.
        customer.refresh_from_db()
        assert customer.consent == Consent.WITHDRAWN


# ---- The job ----


def claimed(engine):
    (claim,) = engine.claim("jobs", drainer=engine.drainer())
    return claim


def test_a_callback_becomes_one_job_which_applies_it(client, home, engine):
    post = Post(home)
    first, second = post.messages(2)
    answer = post.take(client, callback(status("delivered", first, 2), status("read", second, 3)))
    assert (answer.status_code, answer.json()) == (200, {"receipts": 2})
    assert seen(first)[1] is None
    claim = claimed(engine)
    outcome = receipts.run(claim)
    assert isinstance(outcome, Succeeded)
    engine.settle((claim, outcome))
    assert (seen(first)[1], seen(second)[2]) == (2, 3)
    assert post.counters() == (2, 1, 0)
    assert post.jobs().get().state == "succeeded"


def test_the_job_holds_nothing_personal_and_forgets_what_it_applied(client, post, engine):
    message = post.message(phone=PHONE)
    errors = [{"code": 131026, "title": f"{PHONE} is no user", "details": PHONE}]
    post.take(client, callback(status("failed", message, errors=errors)))
    assert PHONE.removeprefix("+") not in json.dumps(post.jobs().get().args)
    claim = claimed(engine)
    engine.settle((claim, receipts.run(claim)))
    done = post.jobs().get().args
    assert done == {"account": str(post.account.pk), "receipts": [], "count": 1}


def test_a_receipt_that_came_before_the_reply_waits_ever_longer(client, post, engine):
    message = post.message(state="processing", provider_id="")
    post.take(client, callback(status("sent", id="wamid.early"), status("read", message, 3)))
    claim = claimed(engine)
    fresh, older = receipts.run(claim), receipts.run(aged(claim, 600))
    assert isinstance(fresh, Snooze)
    assert 1 <= fresh.delay < 60
    assert 600 <= older.delay <= 601
    assert receipts.run(aged(claim, 80_000)).delay == receipts.LONGEST_WAIT
    Message.objects.using(OPERATOR).filter(pk=message.pk).update(
        state="succeeded", provider_id="wamid.early"
    )
    assert isinstance(receipts.run(claim), Succeeded)
    assert seen(message)[2] == 3


def test_after_a_day_it_is_given_up_with_a_word(client, post, engine, caplog):
    post.take(client, callback(status("sent", id="wamid.nobodys")))
    claim = claimed(engine)
    assert isinstance(receipts.run(claim), Snooze)
    assert isinstance(receipts.run(aged(claim, 86_401)), Succeeded)
    assert "receipts_given_up" in caplog.text


def aged(claim, seconds):
    return replace(claim, created_at=claim.started_at - timedelta(seconds=seconds))


def test_an_id_of_ours_that_is_not_there_is_not_waited_for(client, post, engine, other_tenant):
    stranger = Post(other_tenant).message()
    post.take(client, callback(status("read", stranger)))
    assert isinstance(receipts.run(claimed(engine)), Succeeded)


# ---- The callback ----


@pytest.mark.parametrize("forged", ["secret", "body", "none"])
def test_a_bad_signature_is_refused_and_nothing_written(client, post, forged):
    body = callback(status("read", post.message()))
    headers = {"X-Hub-Signature-256": ""} if forged == "none" else {}
    secret = "other" if forged == "secret" else SECRET
    if forged == "body":
        raw = json.dumps(body).encode()
        digest = hmac.new(SECRET.encode(), raw, hashlib.sha256).hexdigest()
        headers, body = {"X-Hub-Signature-256": f"sha256={digest}"}, raw + b" "
    answer = post.take(client, body, secret=secret, **headers)
    assert (answer.status_code, answer.json()["code"]) == (401, "bad_signature")
    assert not post.jobs().exists()


def test_the_signature_of_one_account_is_no_good_for_another(client, post, other_tenant):
    theirs = Post(
        other_tenant, credentials=sealed({"access_token": "t", "app_secret": "their own"})
    )
    answer = post.take(client, callback(status("read")), account=theirs.account)
    assert answer.status_code == 401


def test_forgers_are_counted_and_genuine_callbacks_are_not(client, post, settings):
    settings.SLIPWAY = settings.SLIPWAY | {
        "LIMITS": settings.SLIPWAY["LIMITS"] | {"callback-refused": (2, 60)}
    }
    address = "198.51.100.7"
    forged = [post.take(client, callback(), secret="x", address=address) for _ in range(3)]
    assert [answer.status_code for answer in forged] == [401, 401, 429]
    assert post.take(client, callback(), address=address).status_code == 200


def test_strangers_find_no_account(client, post, tenant):
    gone = Post(tenant, "Gone", deleted_at=T)
    assert post.take(client, callback(), account=gone.account).status_code == 404
    missing = f"/v1/callbacks/{format_id('acc', tenant.uuid)}"
    headers = {"Host": "slipway.localhost"}
    assert client.post(missing, "{}", "application/json", headers=headers).status_code == 404
    assert client.get("/v1/callbacks/acc_x", headers=headers).status_code == 404


@pytest.mark.parametrize(("status_", "code"), [("suspended", 200), ("closing", 404)])
def test_a_suspended_tenant_still_learns_and_a_closed_one_does_not(
    client, make_tenant, status_, code
):
    post = Post(make_tenant(status=status_))
    assert post.take(client, callback(status("read"))).status_code == code


def test_its_body_is_bounded_and_json(client, post):
    assert post.take(client, b'{"entry": "%s"}' % (b"x" * 256 * 1024)).status_code == 413
    assert post.take(client, b"{}").status_code == 400
    assert post.take(client, b'{"entry": [] ').status_code == 400
    assert post.take(client, callback()).status_code == 200  # Nothing in it for us.
    assert not post.jobs().exists()


def test_odd_characters_do_not_stop_the_others(client, post, engine):
    message = post.message()
    errors = [{"code": 1, "title": "a\0b\u202e"}]
    statuses = [status("read", id="a\0b"), status("failed", message, 1, errors=errors)]
    assert post.take(client, callback(*statuses)).status_code == 200
    assert isinstance(receipts.run(claimed(engine)), Succeeded)
    assert seen(message)[4] == "1: ab"


def test_meta_is_shown_that_the_address_is_ours(client, post):
    path = f"/v1/callbacks/{format_id('acc', post.account.pk)}"
    query = {"hub.mode": "subscribe", "hub.verify_token": "let me in", "hub.challenge": "1158"}
    headers = {"Host": "slipway.localhost"}
    answer = client.get(path, query, headers=headers)
    assert (answer.status_code, answer.content) == (200, b"1158")
    assert answer.headers["Content-Type"].startswith("text/plain")
    wrong = client.get(path, query | {"hub.verify_token": "x"}, headers=headers)
    assert wrong.status_code == 401


def test_a_big_callback_is_one_statement_a_table(post, django_assert_max_num_queries):
    messages = post.messages(200)
    batch = [told("read", 1, message) for message in messages]
    with django_assert_max_num_queries(8):
        post.apply(*batch)
    assert post.counters() == (200, 200, 0)


def test_states_are_those_that_the_engine_knows():
    settled = {State.SUCCEEDED, State.UNKNOWN, State.DEAD_LETTER, State.CANCELLED}
    settled |= {State.DISCARDING, State.DISCARDED}
    assert set(State) - settled == receipts.UNSETTLED
