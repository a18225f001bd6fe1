"""Erasure of one customer: what customers keep of it. Messages: tests/campaigns/test_erasing.py."""

import pytest

from customers import erasing
from customers.models import ConsentChange, Erasure, Suppression
from jobs.errors import LeaseLost
from jobs.outcomes import Snooze
from tenants import files
from tenants.context import tenant_context
from tests.customers.desk import Desk
from tests.people import bearer, tenant_key

NUMBER = "+4930901820"
ADA = {"external_id": "a", "name": "Ada", "phone": NUMBER, "email": "ada@example.org"}
WHY = {"reason": "asked for it"}


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    """Nothing is being written that must be waited for."""
    monkeypatch.setattr(erasing, "SETTLING", 0.0)


def begin(desk, customer, **wish):
    answer = desk.post(f"/{customer['id']}/erase", WHY | wish)
    assert answer.status_code == 202, answer.json()
    return answer["Location"].removeprefix("/v1/customers")


def test_it_erases_one_customer_and_its_log_and_no_other(desks):
    ada = desks.post("", ADA | {"consent": "given"}).json()
    bob = desks.post("", {"name": "Bob", "consent": "given"}).json()
    path = begin(desks, ada)
    assert desks.get(path).json()["status"] == "pending"
    desks.work()
    shown = desks.get(path).json()
    assert (shown["status"], shown["records"], shown["customer_id"]) == ("finished", 2, ada["id"])
    assert desks.get(f"/{ada['id']}").status_code == 404
    assert desks.get(f"/{bob['id']}").json() == bob
    with tenant_context(desks.tenant):
        assert ConsentChange.objects.count() == 1
        assert not Suppression.objects.exists()
        found = Erasure.objects.get()
        assert (found.phone, found.email) == ("", "")


def test_a_number_stays_on_the_list_alone_where_that_is_asked_for(desks):
    begin(desks, desks.post("", ADA).json(), suppress=True)
    desks.work()
    (row,) = desks.get("/suppressions").json()["data"]
    assert (row["phone"], row["reason"]) == (NUMBER, "erased")


def test_the_trail_keeps_who_and_why_and_nobodys_name(desk, operator):
    ada = desk.post("", ADA).json()
    begin(desk, ada)
    desk.work()
    entries = operator.execute(
        "select action, reason, target, row_to_json(e)::text from tenants_auditentry e"
        " where tenant_id = %s and target like 'customer:%%' order by at",
        [desk.tenant.pk],
    ).fetchall()
    assert [entry[0] for entry in entries] == ["customer.erasure_begun", "customer.erased"]
    for _, reason, target, text in entries:
        assert (reason, target) == (WHY["reason"], f"customer:{ada['id'].removeprefix('cus_')}")
        assert not any(told in text for told in (NUMBER, "Ada", "ada@example.org"))


def test_asked_twice_it_is_one_erasure(desk):
    ada = desk.post("", ADA).json()
    assert begin(desk, ada) == begin(desk, ada)
    assert desk.jobs().count() == 1
    desk.work()
    assert desk.post(f"/{ada['id']}/erase", WHY).status_code == 404


def test_a_file_that_was_exported_before_goes_too(desks):
    ada = desks.post("", ADA).json()
    old = desks.post("/exports").json()
    desks.work()
    with tenant_context(desks.tenant):
        folder = f"{files.prefix_of(desks.tenant.pk)}/exports"
    assert len(files.storage().listdir(folder)[1]) == 1  # The control.
    begin(desks, ada)
    desks.work()
    assert files.storage().listdir(folder)[1] == []
    assert desks.get(f"/exports/{old['id']}").status_code == 404


def test_an_export_that_is_being_written_is_waited_for(desk):
    ada = desk.post("", ADA).json()
    desk.post("/exports")
    path = begin(desk, ada)
    claims = {claim.data["kind"]: claim for claim in desk.claims()}
    assert isinstance(erasing.run(claims["customers.erase"]), Snooze)
    assert desk.get(path).json()["status"] == "running"
    assert desk.get(f"/{ada['id']}").status_code == 404  # It is gone all the same.


def test_what_was_being_written_just_then_is_waited_for(desk, monkeypatch):
    monkeypatch.setattr(erasing, "SETTLING", 10.0)
    path = begin(desk, desk.post("", ADA).json())
    (claim,) = desk.claims()
    outcome = erasing.run(claim)
    assert isinstance(outcome, Snooze)
    assert 9 < outcome.delay <= 10
    assert desk.get(path).json()["status"] == "running"


seen = []


def first(erased):
    seen.append(("first", erased.phone, erased.email))
    return 2


def second(erased):
    seen.append(("second", erased.phone, erased.email))
    if len(seen) < 3:
        raise KeyboardInterrupt
    return 3


def test_killed_between_erasers_it_goes_on_with_the_one_it_was_at(desks, settings):
    seen.clear()
    here = "tests.customers.test_erasing"
    settings.SLIPWAY = settings.SLIPWAY | {"ERASERS": [f"{here}.first", f"{here}.second"]}
    path = begin(desks, desks.post("", ADA).json())
    drainer = desks.engine.drainer()
    (claim,) = desks.engine.claim("jobs", drainer=drainer)
    with pytest.raises(KeyboardInterrupt):
        erasing.run(claim)
    desks.engine.silence(drainer)
    desks.engine.rescue()
    with pytest.raises(LeaseLost):  # It thaws, and does nothing.
        erasing.run(claim)
    desks.work()
    known = (NUMBER, "ada@example.org")  # Though the customer's row is gone.
    assert seen == [("first", *known), ("second", *known), ("second", *known)]
    assert desks.get(path).json()["records"] == 6


def test_one_whose_job_is_dead_is_said_to_be_stuck(desk):
    path = begin(desk, desk.post("", ADA).json())
    desk.jobs().update(state="dead_letter")
    assert desk.get(path).json()["status"] == "stuck"


def test_it_needs_a_reason_a_customer_and_the_scope(desk, client, other_tenant):
    ada = desk.post("", ADA).json()
    assert desk.post(f"/{ada['id']}/erase", {}).status_code == 400
    assert desk.post("/cus_x/erase", WHY).status_code == 404
    other = Desk(client, other_tenant)
    assert other.post(f"/{ada['id']}/erase", WHY).json()["code"] == "customer_not_found"
    reader = Desk(client, desk.tenant)
    reader.headers = bearer(tenant_key(desk.tenant, "customers:read"))
    assert reader.post(f"/{ada['id']}/erase", WHY).json()["code"] == "missing_scope"
    path = begin(desk, ada)
    assert other.get(path).json()["code"] == "erasure_not_found"
