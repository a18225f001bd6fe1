"""results.csv: what became of each customer, in a file that a spreadsheet opens safely."""

import csv
import io

import pytest
from django.utils import timezone

from campaigns import results
from config.spreadsheets import plain
from jobs.states import State
from tests.campaigns import brought
from tests.campaigns.desk import Desk

S = State


def rows(desk, one):
    """The file's rows, as a spreadsheet has them."""
    answer = desk.get(f"/campaigns/cmp_{one.pk}/results.csv")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert answer.headers["Cache-Control"] == "no-store"
    assert f'filename="results-{one.pk}.csv"' in answer.headers["Content-Disposition"]
    text = b"".join(answer.streaming_content).decode()
    return list(csv.DictReader(io.StringIO(text)))


def test_it_has_a_row_for_each_customer_sent_to_or_skipped_and_none_for_tests(desks):
    one = brought.campaign(desks.tenant, total=3, skipped=1)
    ada, bob, cyd = desks.add(
        {"external_id": "ada", "phone": "+4930100001"},
        {"phone": "+4930100002"},
        {"external_id": "cyd"},
    )
    now = timezone.now()
    brought.message(
        one, 1, state=S.SUCCEEDED, customer_id=ada.pk, attempts=2, last_error="HTTP 503",
        delivered_at=now, read_at=now,
    )  # fmt: skip
    brought.message(
        one, 2, state=S.DEAD_LETTER, customer_id=bob.pk, attempts=3, last_error="no such number"
    )
    brought.message(
        one, 3, state=S.SUCCEEDED, phone="", undelivered_at=now, undelivered_why="switched off"
    )
    brought.message(one, 9, test=True)
    brought.skip(one, "no_phone", customer_id=cyd.pk)
    brought.skip(one, "missing_variable", detail="city")
    first, second, erased, skipped, lacking = rows(desks, one)
    assert plain(first["phone"]) == "+4930100001"
    assert (first["customer_id"], first["external_id"]) == (f"cus_{ada.pk}", "ada")
    assert (first["status"], first["error"], first["attempts"]) == ("sent", "", "2")
    assert first["sent_at"]
    assert first["read_at"] == first["delivered_at"] == now.isoformat(timespec="milliseconds")
    assert (second["external_id"], second["status"]) == ("", "failed")
    assert (second["error"], second["sent_at"]) == ("no such number", "")
    assert (erased["phone"], erased["customer_id"]) == ("", "")
    assert (erased["status"], erased["error"]) == ("sent", "switched off")
    assert erased["undelivered_at"]
    assert (skipped["phone"], skipped["external_id"]) == ("", "cyd")
    assert (skipped["status"], skipped["error"]) == ("skipped", "no_phone")
    assert lacking["error"] == "missing_variable: city"
    assert list(first) == list(results.COLUMNS)


@pytest.mark.parametrize("formula", ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "'=1"])
def test_no_cell_is_a_formula(desk, formula):
    one = brought.campaign(desk.tenant, total=1)
    [ada] = desk.add({"external_id": formula})
    brought.message(one, 1, state=S.DEAD_LETTER, customer_id=ada.pk, last_error=formula)
    [row] = rows(desk, one)
    for name in ("phone", "external_id", "error"):
        assert row[name][0] == "'", name
    assert (plain(row["external_id"]), plain(row["error"])) == (formula, formula)


def test_it_is_read_in_pages_and_none_is_lost_between_them(desk, monkeypatch):
    monkeypatch.setattr(results, "_AT_ONCE", 2)
    one = brought.campaign(desk.tenant, total=5)
    for n in range(5):
        brought.message(one, n, test=n == 1)
    for _ in range(4):
        brought.skip(one, "no_consent")
    found = rows(desk, one)
    assert [plain(row["phone"]) for row in found[:4]] == [
        f"+4930{100000 + n}" for n in (0, 2, 3, 4)
    ]
    assert [row["status"] for row in found[4:]] == ["skipped"] * 4


def test_it_is_written_while_it_is_read(desk):
    """A page at a time, not the whole file before the first byte."""
    one = brought.campaign(desk.tenant, total=1)
    answer = desk.get(f"/campaigns/cmp_{one.pk}/results.csv")
    chunks = iter(answer.streaming_content)
    assert next(chunks).decode().startswith("phone,customer_id,external_id,status")
    brought.message(one, 1)
    assert plain(next(chunks).decode().split(",")[0]) == "+4930100001"


def test_nothing_of_another_campaign_is_in_it(desk, other_desk):
    one, other = brought.campaign(desk.tenant), brought.campaign(desk.tenant)
    brought.message(other, 1)
    brought.message(brought.campaign(other_desk.tenant), 2)
    assert rows(desk, one) == []


# ---- Without customers:read ----


@pytest.fixture
def reader(client, desk):
    """Somebody who may read campaigns, and no customers."""
    return Desk(client, desk.tenant, "campaigns:read")


def test_who_may_read_no_customers_sees_no_numbers_in_the_file(desk, reader):
    one = brought.campaign(desk.tenant, total=2)
    brought.message(one, 1)
    brought.message(one, 2, phone="")
    first, erased = rows(reader, one)
    assert (first["phone"], erased["phone"]) == ("••••••••01", "")
    assert plain(rows(desk, one)[0]["phone"]) == "+4930100001"


def test_who_may_read_no_customers_sees_no_numbers_in_the_list(desk, reader):
    one = brought.campaign(desk.tenant, total=1)
    brought.message(one, 1, params={"name": "Ada"}, provider_id="wamid.HBgNNDkzMDEwMDAwMQ")
    path = f"/campaigns/cmp_{one.pk}/messages"
    (shown,) = reader.get(path).json()["data"]
    assert (shown["phone"], shown["params"]) == ("••••••••01", {"name": "••••••••"})
    assert shown["provider_id"] == "••••••••"
    (whole,) = desk.get(path).json()["data"]
    assert (whole["phone"], whole["params"]) == ("+4930100001", {"name": "Ada"})


def test_who_may_read_no_customers_asks_for_no_number(desk, reader):
    one = brought.campaign(desk.tenant, total=1)
    brought.message(one, 1)
    refused = reader.get(f"/campaigns/cmp_{one.pk}/messages?phone=%2B4930100001")
    assert (refused.status_code, refused.json()["scope"]) == (403, "customers:read")
