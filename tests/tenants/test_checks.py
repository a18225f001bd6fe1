"""What stops a build or a start that would not keep tenants apart."""

import subprocess
import sys

import psycopg
import pytest
from django.core.management import call_command

from tenants import catalogue
from tenants.errors import UnsafeRole
from tenants.postgres.base import refuse_unsafe_role
from tests import settings as run
from tests.conftest import ROOT, child_environment


def test_it_finds_nothing_wrong_with_what_is_shipped():
    call_command("check", "--tag", "tenancy")
    assert catalogue.findings(using="operator") == []


def test_a_new_tenant_model_without_rls_fails_a_check():
    checked = subprocess.run(
        [sys.executable, "manage.py", "check"],
        cwd=ROOT,
        env=child_environment() | {"DJANGO_SETTINGS_MODULE": "tests.unsafe.settings"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 1
    assert "unsafe.Diary holds tenants' rows, and no migration isolates them" in checked.stderr
    assert "unsafe.Bookmark.notebook points into a tenant table by a plain key" in checked.stderr


@pytest.mark.parametrize(
    ("sabotage", "mend", "finding"),
    [
        (
            "alter table notes_note no force row level security",
            "alter table notes_note force row level security",
            "public.notes_note does not force row-level security",
        ),
        (
            "alter policy tenant_isolation on notes_note using (true)",
            "alter policy tenant_isolation on notes_note"
            " using (tenant_id = (select slipway.current_tenant_id()))"
            " with check (tenant_id = (select slipway.current_tenant_id()))",
            "public.notes_note has no policy tenant_isolation as IsolateTenant makes it",
        ),
        (
            "alter policy tenant_isolation on notes_note with check (true)",
            "alter policy tenant_isolation on notes_note"
            " using (tenant_id = (select slipway.current_tenant_id()))"
            " with check (tenant_id = (select slipway.current_tenant_id()))",
            "public.notes_note has no policy tenant_isolation as IsolateTenant makes it",
        ),
        (
            "alter policy tenant_isolation on notes_note using ("
            "tenant_id = (select slipway.current_tenant_id()) or tenant_id > 0)",
            "alter policy tenant_isolation on notes_note"
            " using (tenant_id = (select slipway.current_tenant_id()))"
            " with check (tenant_id = (select slipway.current_tenant_id()))",
            "public.notes_note has no policy tenant_isolation as IsolateTenant makes it",
        ),
        (
            "create policy second on notes_note using (tenant_id > 0)",
            "drop policy second on notes_note",
            "notes_note has the policy second, which no migration of ours makes",
        ),
        (
            "alter table notes_note drop constraint notes_note_notebook_same_tenant",
            "alter table notes_note add constraint notes_note_notebook_same_tenant"
            " foreign key (tenant_id, notebook_id) references notes_notebook (tenant_id, id)"
            " on delete cascade deferrable initially deferred",
            "public.notes_note lacks the composite foreign key notes_note_notebook_same_tenant",
        ),
        (
            "alter table notes_note drop constraint notes_note_tenant_key",
            "alter table notes_note add constraint notes_note_tenant_key unique (tenant_id, id)",
            "public.notes_note lacks the unique key (tenant_id, id) that others point to",
        ),
        (
            # Of no row: other tests leave two of the same text.
            "create unique index note_text on notes_note (text) where text is null",
            "drop index note_text",
            "public.notes_note has the unique index note_text without tenant_id",
        ),
        (
            "grant select on tenants_platformkey to slipway_app",
            "revoke select on tenants_platformkey from slipway_app",
            "the app role may use tenants_platformkey, which no migration grants",
        ),
        (
            "create function all_notes() returns setof notes_note language sql"
            " security definer set search_path = public as 'select * from notes_note'",
            "drop function all_notes()",
            "all_notes() is SECURITY DEFINER, and everybody may call it",
        ),
        (
            "grant truncate on notes_note to slipway_app",
            "revoke truncate on notes_note from slipway_app",
            "the app role may truncate public.notes_note",
        ),
        (
            "create view all_notes as select * from notes_note",
            "drop view all_notes",
            "public.all_notes is a view that runs as its owner",
        ),
        (
            "grant execute on function set_config(text, text, boolean) to slipway_app",
            "revoke execute on function set_config(text, text, boolean) from slipway_app",
            "the app role may call set_config()",
        ),
        (
            "grant create on schema pool to slipway_app",
            "revoke create on schema pool from slipway_app",
            "the app role may create in schema pool",
        ),
    ],
)
def test_the_audit_of_the_catalogue_names_the_fault(superuser, sabotage, mend, finding):
    superuser.execute(sabotage)
    try:
        assert finding in catalogue.findings(using="operator")
    finally:
        superuser.execute(mend)
    assert catalogue.findings(using="operator") == []


@pytest.mark.parametrize(
    ("role", "what"),
    [
        ("postgres", "a superuser"),
        ("slipway_operator", "free of RLS"),
        ("slipway_owner", "free of RLS"),
    ],
)
def test_it_refuses_to_start_with_a_role_that_rls_does_not_bind(role, what):
    connection = psycopg.connect(run.postgres.conninfo(run.DATABASE_NAME, role))
    with connection, pytest.raises(UnsafeRole, match=what):
        refuse_unsafe_role(connection)


def test_it_starts_with_the_app_role(app_connection):
    refuse_unsafe_role(app_connection)
    assert not app_connection.closed
