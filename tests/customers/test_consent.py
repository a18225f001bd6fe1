"""Consent: each change of it is in the log, and only the customer's own word undoes an opt-out."""

import pytest

from customers import consent
from customers.models import ConsentChange, Customer, Suppression
from tenants.context import tenant_context
from tests.customers.desk import Desk
from tests.people import bearer, tenant_key

NUMBER = "+4930901820"
CALLBACK = "provider:acc_1"


@pytest.fixture
def counter(client, home):
    """The API of a tenant of each home, where no job is to be done."""
    return Desk(client, home)


def log(desk, id):
    """What the API shows of a customer's consent, oldest first."""
    answer = desk.get(f"/{id}/consent")
    assert answer.status_code == 200
    rows = answer.json()["data"]
    return [(row["before"], row["after"], row["source"], row["reason"]) for row in rows[::-1]]


def test_it_logs_each_change_through_the_api_and_nothing_else(counter):
    made = counter.post("", {"consent": "given"}).json()
    counter.patch(f"/{made['id']}", name="Ada")
    counter.patch(f"/{made['id']}", consent="given")
    counter.patch(f"/{made['id']}", consent="withdrawn")
    key = counter.headers["Authorization"].split("_")[1]
    assert log(counter, made["id"]) == [
        ("unknown", "given", f"api_key:{key}", ""),
        ("given", "withdrawn", f"api_key:{key}", ""),
    ]
    assert log(counter, counter.post("", {"name": "Bob"}).json()["id"]) == []


def test_an_opt_out_is_undone_by_the_api_alone_and_with_a_reason(counter):
    made = counter.post("", {"consent": "withdrawn"}).json()
    for refused in (
        counter.patch(f"/{made['id']}", consent="given"),
        counter.patch(f"/{made['id']}", consent="unknown", consent_reason=" a "),
    ):
        assert refused.status_code == 400
        assert [error["pointer"] for error in refused.json()["errors"]] == ["/consent_reason"]
    assert counter.get(f"/{made['id']}").json()["consent"] == "withdrawn"
    assert len(log(counter, made["id"])) == 1
    done = counter.patch(f"/{made['id']}", consent="given", consent_reason="Said so by phone.")
    assert done.json()["consent"] == "given"
    *_, (before, after, _, reason) = log(counter, made["id"])
    assert (before, after, reason) == ("withdrawn", "given", "Said so by phone.")


def test_the_log_is_of_one_customer_in_pages(counter):
    made = counter.post("", {"consent": "given"}).json()
    counter.post("", {"consent": "given"})
    for number in range(3):
        counter.patch(f"/{made['id']}", consent="withdrawn")
        counter.patch(f"/{made['id']}", consent="given", consent_reason=f"Again {number}.")
    first = counter.get(f"/{made['id']}/consent?limit=4").json()
    second = counter.get(f"/{made['id']}/consent?limit=4&cursor={first['next_cursor']}").json()
    seen = [row["after"] for row in first["data"] + second["data"]]
    assert seen == ["given", "withdrawn"] * 3 + ["given"]
    assert counter.get("/cus_0e1f4a52-7a3e-4a53-9a64-5d0b3c1a9e11/consent").status_code == 404


def test_a_file_logs_each_change_by_the_import(desks):
    first = desks.bring("external_id,consent\na,given\nb,\nc,withdrawn\nd,unknown\n")
    second = desks.bring("external_id,consent\na,withdrawn\nb,given\nc,given\nd,unknown\n")
    told = [f"import:{shown['id'].removeprefix('imp_')}" for shown in (first, second)]
    found = {name: log(desks, row["id"]) for name, row in desks.by_external_id().items()}
    assert found == {
        "a": [("unknown", "given", told[0], ""), ("given", "withdrawn", told[1], "")],
        "b": [("unknown", "given", told[1], "")],
        "c": [("unknown", "withdrawn", told[0], "")],
        "d": [],
    }


def test_of_two_rows_in_a_file_the_opt_out_stands(desk):
    desk.bring("external_id,consent\na,withdrawn\na,given\nb,given\nb,withdrawn\n")
    assert {row["consent"] for row in desk.by_external_id().values()} == {"withdrawn"}


def test_a_file_that_says_what_is_known_logs_nothing(desks):
    for _ in range(2):
        desks.bring("external_id,consent,name\na,given,Ada\n")
    assert len(log(desks, desks.by_external_id()["a"]["id"])) == 1


def test_the_word_of_a_provider_withdraws_all_who_have_the_number(home):
    with tenant_context(home.ref):
        have = [
            Customer.objects.create(phone=NUMBER, consent=said) for said in ("given", "unknown")
        ]
        other = Customer.objects.create(phone="+4930901821", consent="given")
        assert consent.withdraw(phone=NUMBER, source=CALLBACK) == 2
        assert consent.withdraw(phone=NUMBER, source=CALLBACK) == 0  # Told again.
        assert {row.consent for row in Customer.objects.filter(phone=NUMBER)} == {"withdrawn"}
        other.refresh_from_db()
        assert other.consent == "given"
        entries = ConsentChange.objects.values_list("customer_id", "before", "after", "source")
        assert set(entries) == {
            (row.pk, row.consent, "withdrawn", CALLBACK) for row in have
        }  # fmt: skip
        found = Suppression.objects.get()
        assert (found.phone, found.reason, found.actor) == (NUMBER, "opted_out", CALLBACK)


def test_the_word_of_a_provider_suppresses_a_number_that_nobody_has(home):
    with tenant_context(home.ref):
        assert consent.withdraw(phone=NUMBER, source=CALLBACK) == 0
        assert Suppression.objects.get().phone == NUMBER


def test_another_tenant_is_not_withdrawn(home, other_tenant):
    with tenant_context(other_tenant.ref):
        theirs = Customer.objects.create(phone=NUMBER, consent="given")
    with tenant_context(home.ref):
        consent.withdraw(phone=NUMBER, source=CALLBACK)
    with tenant_context(other_tenant.ref):
        theirs.refresh_from_db()
        assert theirs.consent == "given"
        assert not Suppression.objects.exists()


# ---- Numbers that nobody writes to ----


def test_it_puts_numbers_on_the_list_once_and_in_one_spelling(counter, operator):
    body = {"phones": ["+49 30 901820", "004930901820", "+442079460000"]}
    assert counter.post("/suppressions", body).json() == {"added": 2, "known": 0}
    assert counter.post("/suppressions", body).json() == {"added": 0, "known": 2}
    shown = counter.get("/suppressions").json()["data"]
    assert {(row["phone"], row["reason"]) for row in shown} == {
        (NUMBER, "requested"), ("+442079460000", "requested"),
    }  # fmt: skip
    assert counter.get(f"/suppressions/{NUMBER}").json()["phone"] == NUMBER
    assert [
        row["phone"] for row in counter.get("/suppressions?phone=%2B49 30 901820").json()["data"]
    ]
    assert counter.get("/suppressions?reason=erased").json()["data"] == []
    entries = operator.execute(
        "select after from tenants_auditentry where tenant_id = %s and action = %s",
        [counter.tenant.pk, "suppressions.added"],
    ).fetchall()
    assert entries == [({"count": 2},)]


def test_it_takes_a_number_off_the_list_with_a_reason(counter, operator):
    counter.post("/suppressions", {"phones": [NUMBER]})
    for refused in ("", "?reason=", "?reason=x"):
        assert counter.delete(f"/suppressions/{NUMBER}{refused}").status_code == 400
    assert counter.delete("/suppressions/+442079460000?reason=mistake").status_code == 404
    assert counter.delete("/suppressions/nobody?reason=mistake").status_code == 404
    assert counter.delete(f"/suppressions/{NUMBER}?reason=mistake").status_code == 204
    assert counter.get(f"/suppressions/{NUMBER}").status_code == 404
    (entry,) = operator.execute(
        "select row_to_json(e)::text from tenants_auditentry e"
        " where tenant_id = %s and action = 'suppression.lifted'",
        [counter.tenant.pk],
    ).fetchall()
    assert "mistake" in entry[0]
    assert NUMBER not in entry[0]


def test_it_lists_numbers_newest_first_in_pages(counter):
    for number in range(3):
        counter.post("/suppressions", {"phones": [f"+493090182{number}"]})
    first = counter.get("/suppressions?limit=2").json()
    second = counter.get(f"/suppressions?limit=2&cursor={first['next_cursor']}").json()
    seen = [row["phone"][-1] for row in first["data"] + second["data"]]
    assert seen == ["2", "1", "0"]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/phones"),
        ({"phones": []}, "/phones"),
        ({"phones": ["+4930901820", "030 1", 7]}, "/phones/2"),
        ({"phones": ["+4930901820", "030 1"]}, "/phones/1"),
        ({"phones": [NUMBER] * 1001}, "/phones"),
        ({"phones": [NUMBER], "reason": "erased"}, "/reason"),
    ],
)
def test_it_refuses_bad_numbers_and_puts_none_on_the_list(client, tenant, body, pointer):
    counter = Desk(client, tenant)
    refused = counter.post("/suppressions", body)
    assert refused.status_code == 400
    assert pointer in [error["pointer"] for error in refused.json()["errors"]]
    assert counter.get("/suppressions").json()["data"] == []


def test_another_tenants_list_is_its_own(counter, client, other_tenant):
    other = Desk(client, other_tenant)
    counter.post("/suppressions", {"phones": [NUMBER]})
    customer = counter.post("", {"consent": "given"}).json()
    assert other.get("/suppressions").json()["data"] == []
    assert other.delete(f"/suppressions/{NUMBER}?reason=mistake").status_code == 404
    assert other.get(f"/{customer['id']}/consent").status_code == 404
    assert other.post("/suppressions", {"phones": [NUMBER]}).json()["added"] == 1
    assert len(counter.get("/suppressions").json()["data"]) == 1  # The control.


def test_each_deed_needs_its_scope(client, tenant):
    reader = Desk(client, tenant)
    reader.headers = bearer(tenant_key(tenant, "customers:read"))
    assert reader.get("/suppressions").status_code == 200
    for refused in (
        reader.post("/suppressions", {"phones": [NUMBER]}),
        reader.delete(f"/suppressions/{NUMBER}?reason=mistake"),
    ):
        assert refused.json()["code"] == "missing_scope"
