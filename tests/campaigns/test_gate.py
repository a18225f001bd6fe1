"""The gate: what was said after a message was made counts before it is sent, in either home."""

import asyncio
import threading
from uuid import uuid4

import psycopg
import pytest

from campaigns import gate
from campaigns.models import ProviderAccount
from customers.models import Customer, Suppression
from jobs.engine.threads import Threads
from tenants.context import tenant_context
from tests import settings as run
from tests.campaigns.posting import attempts_of, fresh, send, sending
from tests.chaos.conftest import until


def test_who_opted_out_since_is_not_written_to(posts):
    mailing = posts.mailing(2)
    change(posts, mailing.customers[0], consent="withdrawn")
    send(mailing, lambda: mailing.all_are("cancelled", "succeeded"))
    out, well = mailing.messages
    assert (out.state, out.last_error) == ("cancelled", "its customer opted out")
    assert well.state == "succeeded"
    assert posts.ledger(mailing.account)["by_phone"] == {well.phone: 1}
    assert (out.attempts, attempts_of(out)) == (0, [])  # It was no try.
    assert mailing.counters == {"sent": 1, "cancelled": 1}


def test_a_number_that_was_suppressed_since_is_not_written_to(posts):
    mailing = posts.mailing(2)
    with tenant_context(posts.tenant):
        Suppression.objects.create(phone=mailing.customers[0].phone, actor="system:test")
    send(mailing, lambda: mailing.all_are("cancelled", "succeeded"))
    out, well = mailing.messages
    assert (out.state, well.state) == ("cancelled", "succeeded")
    assert "not written to" in out.last_error
    assert posts.ledger(mailing.account)["by_phone"] == {well.phone: 1}


def test_whose_number_is_another_now_is_not_written_to_at_the_old_one(posts):
    mailing = posts.mailing()
    change(posts, mailing.customers[0], phone="+4930999999")
    send(mailing, lambda: mailing.all_are("cancelled"))
    assert mailing.message.last_error == "its customer has another number now"
    assert posts.ledger(mailing.account)["requests"] == 0


def test_who_is_not_there_any_more_is_not_written_to(posts):
    mailing = posts.mailing()
    with tenant_context(posts.tenant):
        mailing.customers[0].delete()
    send(mailing, lambda: mailing.all_are("cancelled"))
    assert mailing.message.last_error == "its customer was erased"
    assert posts.ledger(mailing.account)["requests"] == 0


def test_who_opted_out_under_another_row_of_the_same_number_is_not_written_to(posts):
    mailing = posts.mailing()
    with tenant_context(posts.tenant):
        phone = mailing.customers[0].phone
        Customer.objects.create(name="Ada", phone=phone, consent="withdrawn")
    send(mailing, lambda: mailing.all_are("cancelled", "succeeded"))
    assert mailing.message.last_error == "somebody with this number opted out"
    assert posts.ledger(mailing.account)["requests"] == 0


@pytest.mark.parametrize(
    ("columns", "state", "why"),
    [
        ({"state": "paused"}, "scheduled", "its campaign is paused"),
        ({"quiet_from": "2020-01-01T00:00Z"}, "scheduled", "its campaign is paused"),
        ({"state": "cancelled"}, "cancelled", "its campaign was cancelled"),
        ({"send_until": "2020-01-01T00:00Z"}, "cancelled", "send_until has passed"),
    ],
)
def test_what_becomes_of_its_campaign_after_the_claim_counts_before_the_request(
    posts, monkeypatch, columns, state, why
):
    mailing = posts.mailing()
    before_asking(monkeypatch, lambda: mailing.update(**columns))
    send(mailing, lambda: mailing.all_are("scheduled", "cancelled", "succeeded"))
    message = mailing.message
    assert (message.state, message.last_error) == (state, why)
    assert posts.ledger(mailing.account)["requests"] == 0
    assert message.attempts == 0


@pytest.mark.parametrize(
    ("columns", "state", "why"),
    [
        ({"status": "paused"}, "scheduled", "its account is paused"),
        ({"deleted_at": "2020-01-01T00:00Z"}, "dead_letter", "its account is gone"),
    ],
)
def test_what_becomes_of_its_account_after_the_claim_counts_before_the_request(
    post, monkeypatch, columns, state, why
):
    mailing = post.mailing()
    rows = ProviderAccount.objects.using("operator").filter(pk=mailing.account.pk)
    before_asking(monkeypatch, lambda: rows.update(**columns))
    send(mailing, lambda: mailing.all_are("scheduled", "dead_letter", "succeeded"))
    assert (mailing.message.state, mailing.message.last_error) == (state, why)
    assert post.ledger(mailing.account)["requests"] == 0


def test_a_test_heeds_its_account_and_not_its_campaign(post, monkeypatch):
    mailing = post.mailing(0, state="draft")
    message = post.test_message(mailing, "+4930555006")
    rows = ProviderAccount.objects.using("operator").filter(pk=mailing.account.pk)
    before_asking(monkeypatch, lambda: rows.update(status="paused"))
    with sending():
        until(lambda: fresh(message).state == "scheduled", 5)
    assert message.last_error == "its account is paused"


def before_asking(monkeypatch, act):
    """Have it happen between a message's claim and the gate's query."""
    ask = gate._ask

    def act_and_ask(*words):
        act()
        return ask(*words)

    monkeypatch.setattr(gate, "_ask", act_and_ask)


def test_a_test_asks_for_no_consent_but_heeds_the_list(posts):
    mailing = posts.mailing(0, state="draft")
    with tenant_context(posts.tenant):
        Suppression.objects.create(phone="+4930555002", actor="system:test")
    listed = posts.test_message(mailing, "+4930555002")
    free = posts.test_message(mailing, "+4930555003")
    with sending():
        until(lambda: (fresh(listed).state, fresh(free).state) == ("cancelled", "succeeded"), 5)
    assert posts.ledger(mailing.account)["by_phone"] == {"+4930555003": 1}


def test_a_tenants_customers_are_asked_for_in_its_own_context_alone(post, make_tenant):
    """The same number and customer id of another tenant say nothing."""
    with tenant_context(post.tenant):
        customer = Customer.objects.create(name="Ada", phone="+4930555004", consent="given")
    stranger = make_tenant()
    with tenant_context(stranger):
        Suppression.objects.create(phone="+4930555004", actor="system:test")
    asked = [(post.tenant, customer), (stranger, customer)]
    assert objections(*asked) == ["", "the number is on the list of those that are not written to"]


def test_all_that_ask_in_one_moment_are_answered_by_one_query(post, monkeypatch):
    asked = []
    ask = gate._ask
    monkeypatch.setattr(gate, "_ask", lambda *words: asked.append(len(words[1])) or ask(*words))
    with tenant_context(post.tenant):
        customers = Customer.objects.bulk_create(
            Customer(name="Ada", phone=f"+4930556{n:03}", consent="given") for n in range(300)
        )
    assert objections(*((post.tenant, one) for one in customers)) == [""] * 300
    assert asked == [300]


def test_nothing_is_sent_while_nobody_can_tell_and_nothing_is_lost(post, monkeypatch):
    monkeypatch.setattr(gate, "PATIENCE", 0.2)
    mailing = post.mailing(3)
    owner = psycopg.connect(run.postgres.conninfo(run.DATABASE_NAME, "slipway_owner"))
    try:
        owner.execute("lock table pool.customers_customer in access exclusive mode")
        with sending():
            until(lambda: mailing.all_are("scheduled"), 5)
            assert mailing.messages[0].last_error.startswith("nobody can tell")
            assert post.ledger(mailing.account)["requests"] == 0
            owner.rollback()
            until(lambda: mailing.hasten() or mailing.all_are("succeeded"), 8)
    finally:
        owner.close()
    assert {message.attempts for message in mailing.messages} == {1}


def test_a_query_that_fails_leaves_the_gate_usable(post):
    """Its thread's connection broke: the next to ask is answered."""
    with tenant_context(post.tenant):
        customer = Customer.objects.create(name="Ada", phone="+4930555005", consent="given")

    async def ask():
        Threads().use()
        with pytest.raises(gate.GateShut):
            await gate.objection(
                tenant=post.tenant.ref, campaign_id=uuid4(), customer_id="no-uuid", phone="+49"
            )
        return await gate.objection(
            tenant=post.tenant.ref,
            campaign_id=uuid4(),
            customer_id=customer.pk,
            phone=customer.phone,
        )

    assert asyncio.run(ask()) == ""


def test_tenants_do_not_wait_for_each_other_where_there_is_room(post, make_tenant, monkeypatch):
    """As many tenants as may ask at once do ask at once."""
    together = threading.Barrier(gate.AT_ONCE, timeout=5)
    ask = gate._ask

    def meet(*words):
        together.wait()
        return ask(*words)

    monkeypatch.setattr(gate, "_ask", meet)
    nobody = Customer(id=uuid4(), phone="+49")
    tenants = [make_tenant() for _ in range(gate.AT_ONCE)]
    found = objections(*((tenant, nobody) for tenant in tenants))
    assert found == ["its customer was erased"] * gate.AT_ONCE


def objections(*asked) -> list[str]:
    """What the gate answers when all of these are asked in one moment."""

    async def ask():
        Threads().use()
        return await asyncio.gather(
            *(
                gate.objection(
                    tenant=tenant.ref, campaign_id=uuid4(), customer_id=one.pk, phone=one.phone
                )
                for tenant, one in asked
            )
        )

    return asyncio.run(ask())


def change(post, customer, **columns):
    with tenant_context(post.tenant):
        assert Customer.objects.filter(pk=customer.pk).update(**columns) == 1
