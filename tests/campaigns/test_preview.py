"""The preview: how many messages, to whom, who gets none and why."""

from contextlib import contextmanager

import pytest
from django.db import connections

from campaigns import preview, variables
from campaigns.models import ProviderAccount
from customers.models import Suppression
from jobs.models import Lane
from tenants.context import tenant_context
from tests.campaigns.desk import Desk, pointers

EVERYBODY = {"all": []}
HELLO = "Hello {{ name }}!"
NAME = {"name": {"field": "name"}}


@pytest.fixture
def mixed(desks):
    """Somebody for each reason, and three who get a message."""
    desks.add_many(3)
    desks.add(
        {"name": "No phone", "consent": "given"},
        {"name": "Never asked", "phone": "+4930200001"},
        {"name": "Opted out", "phone": "+4930200002", "consent": "withdrawn"},
        {"name": "On the list", "phone": "+4930200003", "consent": "given"},
        {"name": "The same number", "phone": "+4930100001", "consent": "given"},
        {"name": " \u3000", "phone": "+4930200004", "consent": "given"},
    )
    with tenant_context(desks.tenant):
        Suppression.objects.create(phone="+4930200003", actor="test")
    return desks


def test_it_counts_messages_and_says_why_others_get_none(mixed):
    template = mixed.made("/templates", {"name": "Hello", "text": HELLO})
    wish = {"filter": EVERYBODY, "template_id": template["id"], "variables": NAME}
    answer = mixed.post("/segments/preview", wish)
    assert answer.status_code == 200, answer.json()
    shown = answer.json()
    assert (shown["count"], shown["messages"]) == (9, 3)
    assert shown["skips"] == {
        "no_phone": 1, "no_consent": 1, "opted_out": 1, "suppressed": 1, "duplicate_phone": 1,
        "missing_variable": 1,
    }  # fmt: skip
    assert shown["estimated_seconds"] is None
    texts = {each["text"] for each in shown["sample"]}
    assert {f"Hello Customer {n}!" for n in (0, 2)} <= texts
    assert "Hello  \u3000!" not in texts
    assert all(each["customer_id"].startswith("cus_") for each in shown["sample"])


def test_it_looks_at_the_customers_of_a_segment(desks):
    desks.add_many(15, lifetime_value=5)
    desks.add_many(15, lifetime_value=50_000)
    filter = {"field": "lifetime_value", "op": ">", "value": 10_000}
    segment = desks.made("/segments", {"name": "Rich", "filter": filter})
    shown = desks.post("/segments/preview", {"segment_id": segment["id"]}).json()
    assert (shown["count"], shown["messages"], shown["skips"]) == (15, 15, {})
    assert len(shown["sample"]) == 10
    assert shown["sample"][0]["text"] is None


def test_of_one_number_somebody_who_may_be_written_to_gets_the_message(desk):
    """A customer who is skipped for another reason takes nobody's place."""
    desk.add(
        {"name": "", "phone": "+4930300001", "consent": "given"},
        {"name": "Ada", "phone": "+4930300001", "consent": "given"},
    )
    template = desk.made("/templates", {"name": "Hello", "text": HELLO})
    wish = {"filter": EVERYBODY, "template_id": template["id"], "variables": NAME}
    shown = desk.post("/segments/preview", wish).json()
    assert (shown["messages"], shown["skips"]) == (1, {"missing_variable": 1})


def test_a_number_whose_owner_opted_out_under_another_row_gets_nothing(desks):
    """Nobody can tell two rows of one number apart at the other end."""
    desks.add(
        {"name": "Ada", "phone": "+4930300002", "consent": "given"},
        {"name": "Ada L.", "phone": "+4930300002", "consent": "withdrawn"},
        {"name": "", "phone": "", "consent": "withdrawn"},
        {"name": "Bob", "phone": "+4930300003", "consent": "given"},
    )
    shown = desks.post("/segments/preview", {"filter": EVERYBODY}).json()
    assert shown["messages"] == 1
    assert shown["skips"] == {"opted_out": 2, "no_phone": 1}


def account(tenant, **fields):
    with tenant_context(tenant):
        return ProviderAccount.objects.create(
            tenant_id=tenant.pk, name="A", provider="http", base_url="https://example.com/",
            sender="1", credentials="", **fields,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("declared", "learnt", "operator", "seconds"),
    [(2, None, None, 4), (2, 1, None, 4), (None, 0.5, None, 14), (None, None, None, None),
     (10, None, 1, 7), (None, None, 1, 7)],
)  # fmt: skip
def test_it_estimates_by_what_the_account_declares_or_drainers_learnt(
    desk, declared, learnt, operator, seconds
):
    desk.add_many(7)
    made = account(desk.tenant, rate=declared)
    Lane.objects.using("operator").create(
        tenant_id=desk.tenant.pk, key=made.key, learnt_rate=learnt, operator_rate=operator
    )
    wish = {"filter": EVERYBODY, "account_id": f"acc_{made.pk}"}
    assert desk.post("/segments/preview", wish).json()["estimated_seconds"] == seconds


def test_it_refuses_what_cannot_be_with_the_place(desk, other_desk):
    def refused(**wish):
        return pointers(desk.post("/segments/preview", wish))

    assert refused() == ["/filter"]
    assert refused(filter=EVERYBODY, segment_id="seg_1") == ["/filter"]
    assert refused(filter={"all": [{"field": "x"}]}) == ["/filter/all/0/field"]
    template = desk.made("/templates", {"name": "Hello", "text": HELLO})
    assert refused(filter=EVERYBODY, template_id=template["id"]) == ["/variables/name"]
    bad = {"name": {"field": "nme"}}
    assert refused(filter=EVERYBODY, variables=bad) == ["/variables/name/field"]
    theirs = other_desk.made("/segments", {"name": "S", "filter": EVERYBODY})["id"]
    for wish in (
        {"segment_id": theirs},
        {"filter": EVERYBODY, "template_id": "tpl_1"},
        {"filter": EVERYBODY, "account_id": f"acc_{account(other_desk.tenant).pk}"},
    ):
        assert desk.post("/segments/preview", wish).status_code == 404


def test_it_shows_customers_only_to_who_may_read_them(client, desk):
    desk.add_many(2)
    wish = {"filter": EVERYBODY}
    shown = Desk(client, desk.tenant, "campaigns:read").post("/segments/preview", wish).json()
    assert (shown["messages"], shown["sample"]) == (2, None)
    assert (
        Desk(client, desk.tenant, "customers:read").post("/segments/preview", wish).status_code
        == 403
    )


def test_it_sees_nobody_elses_customers_or_lists(mixed, other_desk):
    other_desk.add_many(2)
    with tenant_context(mixed.tenant):
        Suppression.objects.create(phone="+4930100000", actor="test")
    shown = other_desk.post("/segments/preview", {"filter": EVERYBODY}).json()
    assert (shown["count"], shown["messages"], shown["skips"]) == (2, 2, {})


@contextmanager
def hurried(superuser, time):
    """The app role has no more time for a statement than this."""
    role = "alter role slipway_app in database " + superuser.info.dbname
    superuser.execute(f"{role} set statement_timeout = '{time}'")
    try:
        connections.close_all()
        connections["default"].close_pool()
        yield
    finally:
        superuser.execute(f"{role} reset statement_timeout")
        connections["default"].close_pool()


def slow():
    """A filter that is true of all, and takes the database a while."""
    search = {"field": "attributes.letter", "op": "contains", "ignore_case": True}
    misses = [search | {"value": f"no such word {n}"} for n in range(40)]
    return {"any": [*misses, {"field": "external_id", "op": "is_not_set"}]}


@pytest.mark.thorough
def test_it_estimates_what_there_is_no_time_to_count(desk, superuser):
    letter = {"letter": "Wörter " * 1000}
    desk.add_many(300, attributes=letter)
    desk.add(*({"phone": f"+4930{200_000 + n}", "attributes": letter} for n in range(300)))
    with hurried(superuser, "250ms"):
        answer = desk.post("/segments/preview", {"filter": slow()})
    assert answer.status_code == 200, answer.json()
    shown = answer.json()
    assert shown["approximate"] is True
    assert 200 < shown["count"] < 1500  # It is 600.
    assert shown["messages"] == shown["count"] - shown["skips"]["no_consent"]
    assert all(each["phone"] < "+4930200000" for each in shown["sample"])


def test_an_estimate_counts_each_number_once(desk):
    """Customers with one number are looked at together, or not at all."""
    desk.add_many(2000)
    desk.add_many(2000)
    with tenant_context(desk.tenant):
        said = variables.expression({})
        values = {"tenant": desk.tenant.pk}
        count, skips = preview._counted(f"{preview._SOME} and true", said, values)
    assert skips == {"duplicate_phone": count / 2}
    assert 20 < count < 110  # Of 4,000 / 64.


def test_what_was_counted_says_so(desk):
    desk.add_many(2)
    assert desk.post("/segments/preview", {"filter": EVERYBODY}).json()["approximate"] is False


def test_it_says_so_when_the_database_stopped_it(desk, superuser):
    """The customers are locked, so that any count waits for longer than it may."""
    with hurried(superuser, "200ms"), superuser.transaction():
        superuser.execute("lock table pool.customers_customer in access exclusive mode")
        refused = desk.post("/segments/preview", {"filter": EVERYBODY})
    assert (refused.status_code, refused.json()["code"]) == (503, "preview_took_too_long")
    assert "piece by piece" in refused.json()["detail"]
