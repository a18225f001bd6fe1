"""Imports: a file is taken at once, read in the background, and each row counted once."""

import csv
import io
import json
import uuid

import pytest
from django.db import connection
from django.test import RequestFactory
from django.test.utils import CaptureQueriesContext

from config.wsgi import application
from customers import importing
from customers.models import Customer, Import
from customers.upserting import prepared, write
from jobs.errors import LeaseLost
from jobs.outcomes import Snooze
from tenants import files
from tenants.context import tenant_context
from tests.customers.desk import CSV, JSONL, Desk
from tests.people import bearer, tenant_key

HEADER = "external_id,name,phone,email,lifetime_value,last_purchase_at,consent,attributes.city\n"
ADA = "crm-1,Ada,+49 30 901820,Ada@Example.org,12.5,2026-01-02T03:04:05Z,given,Berlin\n"
BOB = 'crm-2,"Bob, the ""builder""",,,,,,\n'


def counts(shown):
    return {name: shown[name] for name in ("read", "created", "updated", "unchanged", "rejected")}


def counted(**named):
    return dict.fromkeys(("read", "created", "updated", "unchanged", "rejected"), 0) | named


def stored(desk):
    """The files of the tenant's imports that are in the storage."""
    try:
        return files.storage().listdir(f"{files.prefix_of(desk.tenant.pk)}/imports")[1]
    except FileNotFoundError:
        return []


def rejected(desk, shown):
    answer = desk.get(f"/imports/{shown['id']}/rejected")
    assert answer.status_code == 200
    assert answer["Content-Type"].startswith("text/csv")
    text = b"".join(answer.streaming_content).decode()
    return {row["line"]: row["reason"] for row in csv.DictReader(io.StringIO(text))}


def test_it_takes_in_a_csv_file_in_both_homes(desks):
    shown = desks.bring(HEADER + ADA + BOB)
    assert shown["status"] == "finished"
    assert counts(shown) == counted(read=2, created=2)
    assert shown["done_bytes"] == shown["bytes"] == len(HEADER + ADA + BOB)
    found = desks.by_external_id()
    ada, bob = found["crm-1"], found["crm-2"]
    assert (ada["phone"], ada["email"]) == ("+4930901820", "ada@example.org")
    assert (ada["lifetime_value"], ada["consent"]) == ("12.50", "given")
    assert ada["last_purchase_at"].startswith("2026-01-02T03:04:05")
    assert ada["attributes"] == {"city": "Berlin"}
    assert (bob["name"], bob["phone"], bob["consent"]) == ('Bob, the "builder"', "", "unknown")
    assert bob["attributes"] == {}


def test_it_takes_in_lines_of_json_in_both_homes(desks):
    lines = [
        {"external_id": "a", "name": "Ada", "attributes": {"age": 36, "tags": ["x"]}},
        {"external_id": "b", "lifetime_value": 3.5, "last_purchase_at": None},
    ]
    shown = desks.bring("\n".join(map(json.dumps, lines)) + "\n\n", JSONL)
    assert counts(shown) == counted(read=2, created=2)
    found = desks.by_external_id()
    assert found["a"]["attributes"] == {"age": 36, "tags": ["x"]}
    assert found["b"]["lifetime_value"] == "3.50"


def test_the_request_only_stores_the_file_and_queues_a_job(desk):
    answer = desk.send("/imports", HEADER + ADA)
    assert answer.status_code == 202
    assert answer["Location"] == f"/v1/customers/imports/{answer.json()['id']}"
    assert answer.json()["status"] == "pending"
    assert desk.by_external_id() == {}
    assert [job.kind for job in desk.jobs()] == ["customers.import"]
    assert len(stored(desk)) == 1


def test_the_file_is_gone_when_it_was_taken_in(desk):
    assert desk.bring(HEADER + ADA)["status"] == "finished"
    assert stored(desk) == []


def test_a_second_import_finds_the_customers_again(desks):
    desks.bring(HEADER + ADA + BOB)
    before = desks.by_external_id()
    assert counts(desks.bring(HEADER + ADA + BOB)) == counted(read=2, unchanged=2)
    assert desks.by_external_id() == before
    shown = desks.bring("external_id,name\ncrm-1,Ada King\ncrm-3,Cy\n")
    assert counts(shown) == counted(read=2, created=1, updated=1)
    after = desks.by_external_id()
    assert after["crm-1"]["name"] == "Ada King"
    unchanged = before["crm-1"].keys() - {"name", "updated_at"}
    assert all(after["crm-1"][name] == before["crm-1"][name] for name in unchanged)
    assert after["crm-2"] == before["crm-2"]


def test_an_empty_cell_leaves_the_field_as_it_is(desk):
    desk.bring(HEADER + ADA)
    desk.bring("external_id,name,phone\ncrm-1,,\n")
    ada = desk.by_external_id()["crm-1"]
    assert (ada["name"], ada["phone"]) == ("Ada", "+4930901820")


def test_no_file_undoes_an_opt_out(desk):
    desk.bring("external_id,consent\na,withdrawn\n")
    shown = desk.bring("external_id,consent,name\na,given,Ada\n")
    assert counts(shown) == counted(read=1, updated=1)
    ada = desk.by_external_id()["a"]
    assert (ada["consent"], ada["name"]) == ("withdrawn", "Ada")


def test_the_same_customer_twice_in_a_file_is_one_customer(desk):
    shown = desk.bring("external_id,name,email\na,First,a@example.org\na,Second,\n")
    assert counts(shown) == counted(read=2, created=1, updated=1)
    assert desk.by_external_id()["a"]["name"] == "Second"
    assert desk.by_external_id()["a"]["email"] == "a@example.org"


ROWS = [
    ("a,x,,,,,,", None),
    (",x,,,,,,", "/external_id Required."),
    ("b,x,030 1,,,,,", "/phone It is not a phone number"),
    ("c,x,,no address,,,,", "/email This is not an e-mail address."),
    ("d,x,,,1.001,,,", "/lifetime_value At most two decimal places."),
    ("e,x,,,,yesterday,,", "/last_purchase_at Invalid"),
    ("f,x,,,,2026-01-01T00:00:00,,", "/last_purchase_at Name the time zone"),
    ("g,x,,,,,maybe,", "/consent Invalid enum value"),
    ("h,x,,", "It has 4 cells, the header 8."),
    ('i,"x"y,,,,,,', "It is not CSV"),
    ("j,A\u202eda,,,,,,", "/name It has invisible or direction characters"),
    ("k,a\0b,,,,,,", "/name It has control characters in it."),
    ("l,x,,,NaN,,,", "/lifetime_value It is out of range."),
    (f"m,x,,,,,,{'y' * 9000}", "/attributes At most 8192 bytes"),
    ("n,x,,,,,,", None),
]


def test_it_judges_each_row_as_the_api_does_and_says_which_is_wrong_and_why(desks):
    shown = desks.bring(HEADER + "\n".join(row for row, _ in ROWS))
    assert shown["status"] == "finished"
    assert counts(shown) == counted(read=len(ROWS), created=2, rejected=len(ROWS) - 2)
    assert set(desks.by_external_id()) == {"a", "n"}
    told = rejected(desks, shown)
    for line, (_, reason) in enumerate(ROWS, start=2):
        assert (str(line) in told) == (reason is not None)
        assert reason is None or told[str(line)].startswith(reason), told[str(line)]


def test_what_is_no_utf8_and_no_json_is_rejected_by_its_line(desk):
    shown = desk.bring(b"external_id,name\na,\xff\nb,B\n")
    assert rejected(desk, shown) == {"2": "It is not UTF-8."}
    body = b'{"external_id": "c"}\n{\n[]\n{"external_id":"d","nme":1}\n{"external_id":"\xff"}\n'
    shown = desk.bring(body, JSONL)
    assert set(rejected(desk, shown)) == {"2", "3", "4", "5"}
    assert rejected(desk, shown)["4"] == "/nme There is no such field."
    assert set(desk.by_external_id()) == {"b", "c"}


def test_a_row_over_several_lines_is_told_of_by_its_first(desk):
    shown = desk.bring('external_id,name,phone\na,"two\nlines",\nb,"two\nlines",123\nc,x,123\n')
    assert list(rejected(desk, shown)) == ["2", "4", "6"]  # No name has a line break in it.


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_it_reads_what_spreadsheets_write(desk, delimiter):
    text = HEADER + "crm-1,Ada,'+4930901820,,,,,'=1\r\n"
    shown = desk.bring(b"\xef\xbb\xbf" + text.replace(",", delimiter).encode())
    assert counts(shown) == counted(read=1, created=1)
    ada = desk.by_external_id()["crm-1"]
    assert (ada["phone"], ada["attributes"]) == ("+4930901820", {"city": "=1"})


def test_reasons_cannot_be_run_by_a_spreadsheet(desk):
    shown = desk.bring('{"external_id":"a","=cmd":1}\n', JSONL)
    assert rejected(desk, shown)["1"].startswith("/=cmd")
    with tenant_context(desk.tenant):
        Import.objects.get().rejected_rows.update(reason="=cmd|' /C calc'!A0")
    assert rejected(desk, shown)["1"] == "'=cmd|' /C calc'!A0"


@pytest.mark.parametrize(
    ("header", "pointers"),
    [
        ("name,phone\n", {"/external_id"}),
        ("external_id,nme\n", {"/nme"}),
        ("external_id,name,name\n", {"/name"}),
        ("external_id,attributes.\n", {"/attributes."}),
        ("external_id,tenant_id\n", {"/tenant_id"}),
        ("\n", {"/external_id"}),
        ('external_id,"name\n', set()),
        ("external_id," + ",".join(f"attributes.{n}" for n in range(100)) + "\n", {""}),
        (b"\xff\xfe\n", set()),
        ("x" * 70_000, set()),
    ],
)
def test_it_refuses_a_file_whose_first_line_names_no_columns(desk, header, pointers):
    refused = desk.send("/imports", header)
    assert (refused.status_code, refused.json()["code"]) == (400, "bad_file")
    assert {error["pointer"] for error in refused.json().get("errors", [])} == pointers
    assert not desk.jobs().exists()
    assert stored(desk) == []


def test_a_file_that_makes_no_sense_further_on_fails_and_keeps_what_was_taken(desk):
    shown = desk.bring('external_id,name\na,Ada\nb,"' + "never closed\n" * 6000)
    assert shown["status"] == "failed"
    assert "line" in shown["error"]
    assert stored(desk) == []


def test_it_refuses_what_is_too_large_before_it_reads_it(desk, settings):
    settings.SLIPWAY = settings.SLIPWAY | {
        "CUSTOMERS": settings.SLIPWAY["CUSTOMERS"] | {"import_bytes": 100}
    }
    assert desk.send("/imports", HEADER + ADA).status_code == 413
    refused = desk.client.post(
        "/v1/customers/imports", b"x" * 10, content_type=CSV, headers=desk.headers,
        CONTENT_LENGTH=str(10**12),
    )  # fmt: skip
    assert (refused.status_code, refused.json()["code"]) == (413, "body_too_large")


def test_it_refuses_half_a_file(desk):
    """As a server hands it on when the client has hung up."""
    request = RequestFactory().post(
        "/v1/customers/imports", HEADER + ADA, content_type=CSV, headers=desk.headers
    )
    statuses = []
    environ = request.environ | {"wsgi.input": io.BytesIO(b"half")}
    b"".join(application(environ, lambda status, headers, *_: statuses.append(status)))
    assert statuses == ["400 Bad Request"]
    assert not desk.jobs().exists()


def test_it_refuses_what_is_no_file(desk):
    path = "/v1/customers/imports"
    nothing = desk.client.post(path, b"", CSV, headers=desk.headers, CONTENT_TYPE=CSV)
    assert nothing.status_code == 400
    assert desk.send("/imports", b"{}", "application/json").status_code == 415
    packed = desk.send("/imports", HEADER + ADA, **{"Content-Encoding": "gzip"})
    assert packed.status_code == 415


def test_the_same_key_begins_one_import(desk):
    key = {"Idempotency-Key": f'"{uuid.uuid4()}"'}
    first = desk.send("/imports", HEADER + ADA, **key)
    again = desk.send("/imports", HEADER + ADA, **key)
    assert again.json() == first.json()
    assert (again.status_code, again["Idempotent-Replayed"]) == (202, "true")
    assert desk.jobs().count() == 1
    assert len(stored(desk)) == 1
    other = desk.send("/imports", HEADER + BOB, **key)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")


def test_no_tenant_has_more_than_so_many_waiting(desk, settings):
    settings.SLIPWAY = settings.SLIPWAY | {
        "CUSTOMERS": settings.SLIPWAY["CUSTOMERS"] | {"imports_most": 2}
    }
    for _ in range(2):
        assert desk.send("/imports", HEADER + ADA).status_code == 202
    refused = desk.send("/imports", HEADER + ADA)
    assert (refused.status_code, refused.json()["code"]) == (409, "too_many_imports")
    desk.work()
    assert desk.send("/imports", HEADER + ADA).status_code == 202


# ---- How rows are written ----


def test_rows_are_made_ready_without_the_database():
    """So that a thread does it beside the one that writes. A test with no database has none."""
    batch = prepared(
        [
            {"external_id": "1", "name": "Ada", "consent": "withdrawn"},
            {"external_id": "2", "name": "Bob", "consent": "given"},
            {"external_id": "3", "phone": "+4930100003"},
            {"external_id": "1", "consent": "given"},
        ]
    )
    assert (batch.rows, batch.customers) == (4, 3)
    named, told = [("name", "consent"), ("phone",)], {"1": "withdrawn", "2": "given"}
    assert [(group[0], group[1]) for group in batch.groups] == [(named[0], 2), (named[1], 1)]
    first = json.loads(batch.groups[0][2])
    assert {row["external_id"]: row["consent"] for row in first} == told


def test_rows_that_name_the_same_fields_are_one_statement_however_many(desk):
    batch = prepared([{"external_id": str(n), "name": "x", "consent": "given"} for n in range(50)])
    with tenant_context(desk.tenant), CaptureQueriesContext(connection) as asked:
        assert write(batch, source="test").created == 50
    assert len([query for query in asked if "customers_customer" in query["sql"]]) == 1


def test_new_customers_come_in_the_order_of_their_rows(desk):
    desk.send("/imports", "external_id,consent\nb,given\nc,given\na,given\n")
    desk.work()
    with tenant_context(desk.tenant):
        told = Customer.objects.order_by("id").values_list("external_id", flat=True)
        assert list(told) == ["b", "c", "a"]


# ---- Killed, cancelled, taken away ----


@pytest.fixture
def small_chunks(monkeypatch):
    """Five rows in a transaction."""
    monkeypatch.setattr(importing.judged, "__kwdefaults__", {"most": 5})


@pytest.mark.parametrize("kind", [CSV, JSONL])
def test_killed_anywhere_it_goes_on_behind_what_it_wrote(desks, small_chunks, monkeypatch, kind):
    rows = [
        {"external_id": f"c{n:02}", "name": "two\nlines" if n % 7 == 0 else "x"} for n in range(33)
    ]
    if kind == CSV:
        text = io.StringIO()
        writer = csv.DictWriter(text, ["external_id", "name"])
        writer.writeheader()
        writer.writerows(rows)
        body = text.getvalue()
    else:
        body = "\n".join(map(json.dumps, rows))
    answer = desks.send("/imports", body, kind)
    write = importing._write

    def killed(claim, import_id, chunk):
        write(claim, import_id, chunk)
        raise KeyboardInterrupt

    monkeypatch.setattr(importing, "_write", killed)
    seen = []
    while (shown := desks.get(f"/imports/{answer.json()['id']}").json())["status"] != "finished":
        seen.append(shown["read"])
        drainer = desks.engine.drainer()
        (claim,) = desks.engine.claim("jobs", drainer=drainer)
        with pytest.raises(KeyboardInterrupt):
            importing.run(claim)
        desks.engine.silence(drainer)
        desks.engine.rescue()
        desks.jobs().update(losses=0)
    assert seen == list(range(0, 34, 5))  # Each time behind what was written.
    assert counts(shown) == counted(read=33, created=28, rejected=5)
    assert len(desks.by_external_id()) == 28


def test_a_drainer_that_lost_its_job_writes_nothing(desk, small_chunks):
    desk.send("/imports", HEADER + ADA)
    drainer = desk.engine.drainer()
    (claim,) = desk.engine.claim("jobs", drainer=drainer)
    desk.engine.silence(drainer)
    desk.engine.rescue()
    with pytest.raises(LeaseLost):
        importing.run(claim)
    assert desk.by_external_id() == {}
    desk.work()
    assert set(desk.by_external_id()) == {"crm-1"}


def test_a_long_one_gives_others_their_turn(desk, small_chunks, monkeypatch):
    monkeypatch.setattr(importing, "STRETCH", 0.0)
    desk.send("/imports", HEADER + ADA)
    [claim] = desk.claims()
    assert isinstance(importing.run(claim), Snooze)


def test_a_cancelled_one_goes_no_further(desk, small_chunks, monkeypatch):
    body = "external_id\n" + "\n".join(f"c{n}" for n in range(20))
    begun = desk.send("/imports", body).json()
    write = importing._write

    def cancelled_meanwhile(claim, import_id, chunk):
        ended = write(claim, import_id, chunk)
        if desk.get(f"/imports/{begun['id']}").json()["status"] == "running":
            assert desk.delete(f"/imports/{begun['id']}").status_code == 204
        return ended

    monkeypatch.setattr(importing, "_write", cancelled_meanwhile)
    [claim] = desk.claims()
    desk.engine.settle((claim, importing.run(claim)))
    desk.work()
    shown = desk.get(f"/imports/{begun['id']}").json()
    assert (shown["status"], shown["created"]) == ("cancelled", 5)
    assert len(desk.by_external_id()) == 5
    assert stored(desk) == []
    assert desk.delete(f"/imports/{begun['id']}").json()["code"] == "already_finished"


def test_of_many_rejected_rows_the_first_are_kept_and_all_counted(desk, settings):
    settings.SLIPWAY = settings.SLIPWAY | {
        "CUSTOMERS": settings.SLIPWAY["CUSTOMERS"] | {"rejected_most": 3}
    }
    shown = desk.bring("external_id,phone\n" + "a,1\n" * 9)
    assert shown["rejected"] == 9
    assert list(rejected(desk, shown)) == ["2", "3", "4"]


# ---- Nobody else's ----


def test_another_tenant_sees_and_touches_no_import(desks, client, other_tenant):
    shown = desks.bring(HEADER + ADA + "x,x,1,,,,,\n")
    other = Desk(client, other_tenant)
    path = f"/imports/{shown['id']}"
    assert other.get("/imports").json()["data"] == []
    for refused in (other.get(path), other.get(f"{path}/rejected"), other.delete(path)):
        assert (refused.status_code, refused.json()["code"]) == (404, "import_not_found")
    assert [row["id"] for row in desks.get("/imports").json()["data"]] == [shown["id"]]
    assert len(rejected(desks, shown)) == 1  # The control.


def test_each_deed_needs_its_scope(desk):
    begun = desk.send("/imports", HEADER + ADA).json()
    reader = Desk(desk.client, desk.tenant)
    reader.headers = bearer(tenant_key(desk.tenant, "customers:read"))
    assert reader.get(f"/imports/{begun['id']}").status_code == 200
    assert reader.send("/imports", HEADER + ADA).json()["code"] == "missing_scope"
    assert reader.delete(f"/imports/{begun['id']}").json()["code"] == "missing_scope"


def test_one_whose_job_is_dead_is_said_to_be_stuck_and_goes_on_when_that_is_replayed(desks):
    begun = desks.send("/imports", HEADER + ADA).json()
    desks.jobs().update(state="dead_letter")
    assert desks.get(f"/imports/{begun['id']}").json()["status"] == "stuck"
    assert desks.get("/imports").json()["data"][0]["status"] == "stuck"
    desks.jobs().update(state="pending")
    desks.work()
    assert desks.get(f"/imports/{begun['id']}").json()["status"] == "finished"
