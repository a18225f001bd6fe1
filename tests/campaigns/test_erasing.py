"""Erasure of one customer: afterwards no table of the database knows them."""

import pytest
from psycopg import sql

from campaigns.models import Message, Skip
from customers import erasing
from customers.models import ConsentChange, Customer
from jobs.outcomes import Snooze
from tenants.context import tenant_context
from tests.campaigns.workshop import Workshop

NAME, PHONE, EMAIL = "Adalbert Loveletter", "+4915112345678", "adalbert.l@example.org"
TABLES = """
select n.nspname, c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace
where c.relkind = 'r' and n.nspname !~ '^(pg_|information_schema)'
"""
OPERATOR = "operator"


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    """Nothing is being written that must be waited for."""
    monkeypatch.setattr(erasing, "SETTLING", 0.0)


def knowing(superuser) -> set[str]:
    """The tables in which the name, the number or the address stands, in whatever column."""
    found = set()
    for schema, table in superuser.execute(TABLES).fetchall():
        name = sql.Identifier(schema, table)
        statement = sql.SQL("select exists (select from {} t where t::text ~ %s)").format(name)
        pattern = "|".join((NAME, PHONE[1:], EMAIL.replace(".", r"\.")))
        if superuser.execute(statement, [pattern]).fetchone()[0]:
            found.add(table)
    return found


def mail(workshop, campaign, customer, state, **fields):
    """A message with a try and a letter, as the engine leaves them."""
    with tenant_context(workshop.tenant):
        return Message.objects.create(
            campaign=campaign, lane=campaign.lane, account_key=workshop.account.key, state=state,
            customer_id=customer and customer.pk, max_attempts=3,
            **{"phone": PHONE, "params": {"name": NAME}} | fields,
        )  # fmt: skip


def log(superuser, message):
    """What a try and its letter may hold."""
    told = f'{{"body": "{PHONE} {NAME}"}}'
    superuser.execute(
        "insert into jobs_attempt (id, tenant_id, queue, work_id, number, started_at, outcome,"
        " error, request, response, drainer) values (gen_random_uuid(), %s, 'messages', %s, 1,"
        " now(), 'failed', %s, %s, %s, 1)",
        [message.tenant_id, message.pk, f"no such number: {PHONE}", told, told],
    )
    superuser.execute(
        "insert into jobs_deadletter (id, tenant_id, queue, work_id, reason, error, request,"
        " response, attempts, created_at) values (gen_random_uuid(), %s, 'messages', %s, 'failed',"
        " %s, %s, %s, %s, now())",
        [message.tenant_id, message.pk, f"no such number: {PHONE}", told, told, f"[{told}]"],
    )


@pytest.fixture
def ada(workshops):
    """Somebody who has left traces everywhere, and whom no campaign writes to."""
    (made,) = workshops.add(
        {
            "name": NAME,
            "phone": PHONE,
            "email": EMAIL,
            "attributes": {"called": NAME},
        }
    )
    with tenant_context(workshops.tenant):
        ConsentChange.objects.create(
            customer_id=made.pk, before="unknown", after="given", source="x", reason=f"{NAME} said"
        )
    return made


def erase(workshop, customer, **wish):
    with tenant_context(workshop.tenant):
        return erasing.begin(
            customer_id=customer.pk, actor="api_key:test", reason="asked for it",
            **{"suppress": False} | wish,
        )  # fmt: skip


def test_afterwards_no_table_knows_the_name_the_number_or_the_address(workshops, ada, superuser):
    campaign = workshops.running(0)
    other = workshops.running(0)
    sent = mail(workshops, campaign, ada, "succeeded", provider_id=f"wamid.{PHONE}")
    dead = mail(workshops, other, ada, "dead_letter", last_error=f"no such number: {PHONE}")
    trial = mail(workshops, other, None, "succeeded", test=True)
    for message in (sent, dead, trial):
        log(superuser, message)
    with tenant_context(workshops.tenant):
        skips = Skip.objects.filter(customer_id=ada.pk).count()
    assert skips == 2
    assert knowing(superuser) >= {  # The control.
        "customers_customer", "customers_consentchange", "campaigns_message", "jobs_deadletter",
    }  # fmt: skip
    erasure = erase(workshops, ada)
    assert "customers_erasure" in knowing(superuser)
    workshops.work()
    assert knowing(superuser) == set()
    with tenant_context(workshops.tenant):
        erasure.refresh_from_db()
        assert erasure.status == "finished"
        assert erasure.erased["campaigns.erasing.erase"] == 3 + skips
        assert set(Skip.objects.values_list("customer_id", flat=True)) == {None}
        rows = Message.objects.order_by("id").values_list("id", "state", "phone", "customer_id")
        assert list(rows) == [
            (sent.pk, "succeeded", "", None),
            (dead.pk, "cancelled", "", None),  # Nobody sends it again.
            (trial.pk, "succeeded", "", None),
        ]


@pytest.mark.parametrize("state", ["pending", "scheduled", "failed", "unknown", "dead_letter"])
def test_what_waits_is_cancelled_and_counted(workshop, engine, state):
    campaign = workshop.running(2)
    own, others = workshop.messages(campaign)
    workshop.messages(campaign, pk=own.pk).update(state=state)
    with tenant_context(workshop.tenant):
        customer = Customer.objects.get(pk=own.customer_id)
    before = workshop.counters(campaign)["cancelled"]
    erase(workshop, customer)
    workshop.work()
    assert workshop.messages(campaign, pk=own.pk).get().state == "cancelled"
    assert workshop.messages(campaign, pk=others.pk).get() == others
    assert workshop.counters(campaign)["cancelled"] == before + 1


def test_a_message_that_is_being_sent_is_waited_for(workshop):
    campaign = workshop.running(1)
    own = workshop.messages(campaign).get()
    with tenant_context(workshop.tenant):
        customer = Customer.objects.get(pk=own.customer_id)
    workshop.messages(campaign).update(state="processing", lease=1)
    erase(workshop, customer)
    claim = workshop.claim("customers.erase")
    outcome = erasing.run(claim)
    assert outcome == Snooze(2.0, "one of the messages is being sent")
    assert workshop.messages(campaign).get().phone == own.phone
    workshop.messages(campaign).update(state="succeeded", lease=None)
    erasing.run(claim)
    assert workshop.messages(campaign).get().phone == ""


def test_whoever_else_has_the_number_keeps_their_messages(workshops, ada):
    campaign = workshops.running(0)
    (bob,) = workshops.add({"name": "Bob", "phone": PHONE})
    theirs = mail(workshops, campaign, bob, "succeeded")
    erase(workshops, ada)
    workshops.work()
    with tenant_context(workshops.tenant):
        kept = Message.objects.get(pk=theirs.pk)
        assert (kept.phone, kept.customer_id) == (PHONE, bob.pk)


def test_messages_to_somebody_who_was_deleted_before_are_found_by_the_number(workshops, ada):
    campaign = workshops.running(0)
    (former,) = workshops.add({"name": NAME, "phone": PHONE})
    old = mail(workshops, campaign, former, "succeeded")
    with tenant_context(workshops.tenant):
        former.delete()
    erase(workshops, ada)
    workshops.work()
    with tenant_context(workshops.tenant):
        assert Message.objects.get(pk=old.pk).phone == ""


def test_another_tenants_messages_to_the_number_are_theirs(workshop, other_tenant, engine):
    others = Workshop(other_tenant, engine)
    theirs = mail(others, others.running(0), None, "succeeded", test=True)
    (ada,) = workshop.add({"name": NAME, "phone": PHONE, "email": EMAIL})
    erase(workshop, ada)
    workshop.work()
    with tenant_context(other_tenant):
        assert Message.objects.get(pk=theirs.pk).phone == PHONE
