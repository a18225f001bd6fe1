"""Exports: what is there, in a file that an import takes in again."""

import pytest

from tests.customers.desk import CSV, JSONL, Desk
from tests.customers.test_imports import ADA, BOB, HEADER

FORMULA = "crm-3,=1+1,,,,,withdrawn,-5\n"


def exported(desk, format):
    begun = desk.post("/exports", {"format": format})
    assert begun.status_code == 202, begun.json()
    assert begun.json()["file_url"] is None
    desk.work()
    shown = desk.get(f"/exports/{begun.json()['id']}").json()
    file = desk.client.get(shown["file_url"], headers=desk.headers)
    body = b"".join(file.streaming_content)
    assert (file.status_code, len(body)) == (200, shown["bytes"])
    return shown, body


def told(desk):
    hidden = {"id", "created_at", "updated_at"}
    return {
        name: {field: value for field, value in row.items() if field not in hidden}
        for name, row in desk.by_external_id().items()
    }


@pytest.mark.parametrize(("format", "kind"), [("csv", CSV), ("jsonl", JSONL)])
def test_what_was_exported_can_be_imported(desks, make_tenant, engine, format, kind):
    desks.bring(HEADER + ADA + BOB + FORMULA)
    shown, body = exported(desks, format)
    assert (shown["status"], shown["rows"]) == ("finished", 3)
    other = Desk(desks.client, make_tenant(), engine)
    assert other.bring(body, kind)["rejected"] == 0
    assert told(other) == told(desks)


def test_no_cell_of_an_export_is_a_formula(desk):
    desk.bring(HEADER + ADA + FORMULA)
    _, body = exported(desk, "csv")
    assert b"'=1+1" in body
    assert b",=1+1" not in body
    assert b"'+4930901820" in body


def test_an_export_is_its_tenants(desk, client, other_tenant):
    shown, _ = exported(desk, "csv")
    other = Desk(client, other_tenant)
    assert other.get("/exports").json()["data"] == []
    assert other.get(f"/exports/{shown['id']}").status_code == 404
    assert other.get(f"/exports/{shown['id']}/file").status_code == 404


def test_a_file_is_given_out_when_it_is_finished(desk):
    begun = desk.post("/exports").json()
    refused = desk.get(f"/exports/{begun['id']}/file")
    assert (refused.status_code, refused.json()["code"]) == (409, "export_not_ready")


def test_old_exports_go_with_their_files(desk, settings):
    first, _ = exported(desk, "csv")
    settings.SLIPWAY = settings.SLIPWAY | {
        "RETENTION": settings.SLIPWAY["RETENTION"] | {"exports": 0}
    }
    exported(desk, "csv")
    assert desk.get(f"/exports/{first['id']}").status_code == 404
