"""manage.py customers, as an operator calls it."""

import io
import json

import pytest
from django.core.management import CommandError, call_command

from tests.customers.desk import Desk
from tests.customers.test_imports import ADA, BOB, HEADER


@pytest.fixture
def desk(client, home):
    """The API of a tenant of each home; a command needs no engine."""
    return Desk(client, home)


def command(*words):
    out = io.StringIO()
    try:
        call_command("customers", *map(str, words), stdout=out)
    except CommandError as error:
        return out.getvalue(), error
    return out.getvalue(), None


def test_it_imports_in_both_homes_as_often_as_it_is_called(desk, tmp_path, operator):
    file = tmp_path / "customers.csv"
    file.write_text(HEADER + ADA + BOB)
    told, error = command("import", file, "--tenant", desk.tenant.slug, "--json")
    assert error is None
    assert json.loads(told) == {
        "read": 2, "created": 2, "updated": 0, "unchanged": 0, "rejected": 0, "reasons": [],
        "dry_run": False,
    }  # fmt: skip
    assert desk.by_external_id()["crm-1"]["phone"] == "+4930901820"
    told, _ = command("import", file, "--tenant", desk.tenant.slug)
    assert told == "2 rows: 0 created, 0 updated, 2 unchanged, 0 rejected\n"
    entries = operator.execute(
        "select count(*) from tenants_auditentry"
        " where tenant_id = %s and action = 'customers.imported'",
        [desk.tenant.pk],
    ).fetchone()
    assert entries == (2,)


def test_a_dry_run_judges_each_row_and_writes_none(desk, tmp_path):
    file = tmp_path / "customers.jsonl"
    file.write_text('{"external_id":"a"}\n{"external_id":"b","a\\u202eb":1}\n')
    told, error = command("import", file, "--tenant", desk.tenant.slug, "--dry-run")
    assert "line 2: /a\N{REPLACEMENT CHARACTER}b There is no such field." in told
    assert "1 of 2 rows are fine; none was written." in told
    assert str(error) == "1 of 2 rows were rejected."
    assert desk.by_external_id() == {}


def test_it_says_why_it_cannot_begin(tenant, tmp_path):
    file = tmp_path / "customers.csv"
    file.write_text("name\n")
    words = ["import", file, "--tenant"]
    assert "no tenant 'nobody'" in str(command(*words, "nobody")[1])
    assert "There is no column external_id" in str(command(*words, tenant.slug)[1])
    assert "cannot be read" in str(
        command("import", tmp_path / "a.csv", "--tenant", tenant.slug)[1]
    )
    assert "ends in" in str(command("import", tmp_path / "a.txt", "--tenant", tenant.slug)[1])


def test_it_exports_what_it_imports(desk, tmp_path):
    first, second = tmp_path / "first.csv", tmp_path / "second.jsonl"
    first.write_text(HEADER + ADA + BOB)
    command("import", first, "--tenant", desk.tenant.slug)
    told, error = command("export", second, "--tenant", desk.tenant.slug)
    assert (told, error) == ("2 customers\n", None)
    told, _ = command("import", second, "--tenant", desk.tenant.slug)
    assert "2 unchanged" in told
    assert "cannot be written" in str(command("export", second, "--tenant", desk.tenant.slug)[1])
