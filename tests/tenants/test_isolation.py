"""What the app role can do to another tenant's rows: nothing.

Each attack runs as slipway_app in the context of `mine` against rows of `theirs`, and each has its
positive control: the same statement on one's own row works, or the operator sees the row untouched.
test_isolation_proof.py runs this file with the policies dropped, and expects it to fail.
"""

import contextlib
import threading
import time
import uuid

import psycopg
import pytest
from django.conf import settings
from django.db import connection, transaction

from tenants.context import TenantRef, current_tenant, no_tenant, tenant_context
from tenants.errors import NoTenant
from tenants.postgres import token
from tests.notes.models import Note, Notebook

SECRET = "the canary sings"


def signed(
    tenant, raw: psycopg.Connection, *, key: bytes | None = None, seconds: int = 60, pid=None
):
    """A context for `tenant`, as the backend signs it."""
    (now,) = raw.execute("select extract(epoch from clock_timestamp())").fetchone()
    return token.sign(
        key or settings.CONTEXT_KEY,
        tenant_id=tenant.pk,
        expires_at=int(now) + seconds,
        pid=raw.info.backend_pid if pid is None else pid,
    )


def enter(raw: psycopg.Connection, tenant, path: str = "pool, public") -> None:
    raw.execute("select slipway.enter_tenant(%s, %s)", [path, signed(tenant, raw)])


def write_note(tenant, text: str) -> Note:
    with tenant_context(tenant):
        notebook = Notebook.objects.create(title="diary")
        return Note.objects.create(notebook=notebook, text=text)


@pytest.fixture
def mine(tenant):
    write_note(tenant, "my own")
    return tenant


@pytest.fixture
def theirs(other_tenant):
    return other_tenant


@pytest.fixture
def canary(theirs, operator) -> Note:
    """A row of another tenant, which is really there."""
    note = write_note(theirs, SECRET)
    assert operator.execute("select text from notes_note where id = %s", [note.pk]).fetchone() == (
        SECRET,
    )
    return note


@pytest.fixture
def intact(canary, theirs, operator):
    """After the attack the canary is what it was."""
    yield
    rows = operator.execute(
        "select text, tenant_id from notes_note where id = %s", [canary.pk]
    ).fetchall()
    assert rows == [(SECRET, theirs.pk)]


@pytest.fixture
def attacker(mine, app_connection) -> psycopg.Connection:
    """A raw connection as the app role, in the context of `mine`, which sees its own row."""
    enter(app_connection, mine)
    assert ("my own",) in app_connection.execute("select text from notes_note").fetchall()
    return app_connection


# ---- The context itself ----


def test_it_shows_nothing_without_a_context(canary, app_connection):
    assert app_connection.execute("select count(*) from notes_note").fetchone() == (0,)


def test_it_shows_nothing_with_an_empty_context(canary, app_connection):
    app_connection.execute("select slipway.enter_tenant('public', '')")
    assert app_connection.execute("select count(*) from notes_note").fetchone() == (0,)


@pytest.mark.parametrize("garbage", ["1", "garbage", "....", "1.2.3.4.5", "-1.0.0.x.y", "'", "1.2"])
def test_it_refuses_a_garbage_context(canary, app_connection, garbage):
    app_connection.execute("select slipway.enter_tenant('public', %s)", [garbage])
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="forged"):
        app_connection.execute("select count(*) from notes_note")


def test_it_refuses_a_context_signed_with_another_key(canary, theirs, app_connection):
    forged = signed(theirs, app_connection, key=b"x" * 32)
    app_connection.execute("select slipway.enter_tenant('public', %s)", [forged])
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="forged"):
        app_connection.execute("select text from notes_note")


def test_it_refuses_a_context_whose_tenant_was_changed(mine, theirs, canary, app_connection):
    own = signed(mine, app_connection)
    forged = own.replace(str(mine.pk), str(theirs.pk), 1)
    app_connection.execute("select slipway.enter_tenant('public', %s)", [forged])
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="forged"):
        app_connection.execute("select text from notes_note")


def test_it_refuses_an_expired_context(theirs, canary, app_connection):
    late = signed(theirs, app_connection, seconds=-1)
    app_connection.execute("select slipway.enter_tenant('public', %s)", [late])
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="expired"):
        app_connection.execute("select text from notes_note")


def test_it_refuses_a_context_of_another_connection(theirs, canary, app_connection):
    stolen = signed(theirs, app_connection, pid=1)
    app_connection.execute("select slipway.enter_tenant('public', %s)", [stolen])
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="another connection"):
        app_connection.execute("select text from notes_note")


@pytest.mark.other_guard
def test_it_keeps_the_key_from_the_app_role(app_connection):
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        app_connection.execute("select * from slipway.context_key")


# ---- Reading ----


def test_it_hides_the_row_by_its_key(canary, attacker):
    found = attacker.execute("select text from notes_note where id = %s", [canary.pk]).fetchall()
    assert found == []


def test_it_counts_only_ones_own(canary, attacker):
    assert attacker.execute("select count(*) from notes_note").fetchone() == (1,)


def test_it_aggregates_only_ones_own(canary, attacker):
    row = attacker.execute("select max(text), count(distinct tenant_id) from notes_note").fetchone()
    assert row == ("my own", 1)


def test_it_joins_only_ones_own(canary, attacker):
    joined = attacker.execute(
        "select n.text from notes_notebook b join notes_note n on n.notebook_id = b.id"
        " or n.tenant_id <> b.tenant_id"
    ).fetchall()
    assert joined == [("my own",)]


def test_it_hides_tenants_users_and_memberships(theirs, canary, attacker, mine):
    assert attacker.execute("select id from tenants_tenant").fetchall() == [(mine.pk,)]
    assert attacker.execute("select count(*) from tenants_domain").fetchone() == (1,)
    assert attacker.execute("select count(*) from tenants_user").fetchone() == (0,)


def test_it_refuses_row_security_off(canary, attacker):
    attacker.execute("set row_security = off")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        attacker.execute("select text from notes_note")


def test_it_does_not_leak_through_a_raw_django_cursor(mine, canary):
    with tenant_context(mine), connection.cursor() as cursor:
        cursor.execute("select text from notes_note")
        assert cursor.fetchall() == [("my own",)]


# ---- Writing ----


def test_it_refuses_to_insert_for_another_tenant(mine, theirs, canary, attacker, intact):
    insert = "insert into notes_notebook (id, tenant_id, title) values (%s, %s, 'x')"
    attacker.execute(insert, [uuid.uuid4(), mine.pk])
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security"):
        attacker.execute(insert, [uuid.uuid4(), theirs.pk])


def test_it_refuses_to_move_a_row_to_another_tenant(theirs, canary, attacker, intact, operator):
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security"):
        attacker.execute("update notes_note set tenant_id = %s", [theirs.pk])


def test_it_updates_none_of_anothers_rows(theirs, canary, attacker, intact):
    assert attacker.execute("update notes_note set text = 'mine now'").rowcount == 1
    by_key = attacker.execute("update notes_note set text = 'x' where id = %s", [canary.pk])
    assert by_key.rowcount == 0


def test_it_deletes_none_of_anothers_rows(canary, attacker, intact):
    assert attacker.execute("delete from notes_note where id = %s", [canary.pk]).rowcount == 0
    assert attacker.execute("delete from notes_note").rowcount == 1


def test_it_takes_over_no_row_by_on_conflict(mine, canary, attacker, intact):
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security"):
        attacker.execute(
            "insert into notes_note (id, tenant_id, notebook_id, text)"
            " select %s, %s, id, 'mine' from notes_notebook"
            " on conflict (id) do update set text = 'mine', tenant_id = excluded.tenant_id",
            [canary.pk, mine.pk],
        )


@pytest.mark.other_guard
def test_it_tells_nothing_by_a_unique_key(theirs, canary, attacker, mine):
    with_same_title = "insert into notes_notebook (id, tenant_id, title) values (%s, %s, %s)"
    attacker.execute(with_same_title, [uuid.uuid4(), mine.pk, "their title"])
    with pytest.raises(psycopg.errors.UniqueViolation):  # The control: one's own title is taken.
        attacker.execute(with_same_title, [uuid.uuid4(), mine.pk, "diary"])
    with tenant_context(theirs):
        Notebook.objects.create(title="their title")


@pytest.mark.other_guard
def test_it_tells_nothing_by_a_foreign_key(mine, theirs, canary, attacker):
    """Another tenant's notebook and one that does not exist: the very same answer."""

    def point_at(notebook: uuid.UUID) -> str:
        with pytest.raises(psycopg.errors.ForeignKeyViolation) as refused:
            attacker.execute(
                "insert into notes_note (id, tenant_id, notebook_id, text) values (%s, %s, %s, '')",
                [uuid.uuid4(), mine.pk, notebook],
            )
        return str(refused.value).replace(str(notebook), "…")

    assert point_at(canary.notebook_id) == point_at(uuid.uuid4())


@pytest.mark.other_guard
def test_it_cascades_into_no_other_tenant(mine, canary, attacker, intact, operator):
    """Not even the operator can make a child that another tenant's delete would take."""
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        operator.execute(
            "update notes_note set notebook_id ="
            " (select id from notes_notebook where tenant_id = %s limit 1) where id = %s",
            [mine.pk, canary.pk],
        )


# ---- Ways round ----


@pytest.mark.other_guard
@pytest.mark.parametrize(
    "statement",
    [
        "select set_config('slipway.tenant', '2', false)",
        "select 'x' union all select set_config('slipway.tenant', '2', false)",
        "update pg_settings set setting = '2' where name = 'search_path'",
        "set role slipway_owner",
        "set session authorization slipway_operator",
        "alter table notes_note disable row level security",
        "alter table notes_note no force row level security",
        "drop policy tenant_isolation on notes_note",
        "create policy open on notes_note using (true)",
        "truncate notes_note",
        "create temp table t as select 1",
        "create table pool.t (id int)",
        "create table public.t (id int)",
        "create function public.f() returns int language sql as 'select 1'",
        "select lo_create(0)",
        "select * from pg_stat_activity",
        "select * from pg_authid",
        "copy notes_note from program 'true'",
        "select nextval('django_migrations_id_seq')",
        "select * from jobs_drainer",
        "select * from tenants_platformkey",
    ],
)
def test_it_refuses(canary, attacker, intact, statement):
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        attacker.execute(statement)


def test_it_gains_nothing_by_setting_the_parameter_itself(theirs, canary, attacker):
    attacker.execute(f"set slipway.tenant = '{theirs.pk}'")
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="forged"):
        attacker.execute("select text from notes_note")


@pytest.mark.other_guard
def test_it_runs_no_stacked_statement(mine, theirs, canary):
    with tenant_context(mine), connection.cursor() as cursor:
        with pytest.raises(Exception, match="multiple commands"):
            cursor.execute("select %s; set slipway.tenant = '1'", [1])
        with pytest.raises(Exception, match="permission denied"):
            cursor.execute("select set_config('slipway.tenant', %s, false)", [str(theirs.pk)])


def test_it_copies_out_only_ones_own(canary, attacker):
    with attacker.cursor().copy("copy (select text from notes_note) to stdout") as copy:
        assert [row[0] for row in copy.rows()] == ["my own"]


# ---- Our own code's switches ----


def read_texts() -> list[str]:
    return list(Note.objects.values_list("text", flat=True))


def test_it_follows_the_context_back_and_forth(mine, theirs, canary):
    for _ in range(3):
        with tenant_context(mine):
            assert read_texts() == ["my own"]
            with tenant_context(theirs):
                assert read_texts() == [SECRET]
            assert read_texts() == ["my own"]


def test_it_is_right_after_a_rollback(mine, theirs, canary):
    with tenant_context(mine):
        with contextlib.suppress(ZeroDivisionError), transaction.atomic():
            with tenant_context(theirs):
                assert read_texts() == [SECRET]
            raise ZeroDivisionError
        assert read_texts() == ["my own"]


def test_it_is_right_after_a_rollback_to_a_savepoint(mine, theirs, canary):
    with tenant_context(mine), transaction.atomic():
        assert read_texts() == ["my own"]
        with contextlib.suppress(ZeroDivisionError), transaction.atomic():
            with tenant_context(theirs):
                assert read_texts() == [SECRET]
            raise ZeroDivisionError
        assert read_texts() == ["my own"]


def test_it_is_right_after_a_commit_that_the_server_turned_into_a_rollback(mine, theirs, canary):
    with tenant_context(mine):
        assert read_texts() == ["my own"]
    connection.set_autocommit(False)
    try:
        with tenant_context(theirs):
            assert read_texts() == [SECRET]
            with connection.cursor() as cursor, pytest.raises(Exception, match="division"):
                cursor.execute("select 1 / 0")
            connection.commit()
            assert read_texts() == [SECRET]
    finally:
        connection.rollback()
        connection.set_autocommit(True)


def test_it_gives_a_new_thread_no_tenant(mine, canary):
    seen: list[object] = []

    def look() -> None:
        seen.append(current_tenant())
        try:
            read_texts()
        except NoTenant as refused:
            seen.append(refused)
        connection.close()

    with tenant_context(mine):
        assert read_texts() == ["my own"]
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
    assert seen[0] is None
    assert isinstance(seen[1], NoTenant)


def test_it_leaves_no_tenant_on_a_pooled_connection(mine, canary):
    with tenant_context(mine):
        assert read_texts() == ["my own"]
        used = connection.connection.info.backend_pid
    connection.close()
    free = [connection.pool.getconn() for _ in range(connection.pool.get_stats()["pool_available"])]
    try:
        assert used in {raw.info.backend_pid for raw in free}
        for raw in free:
            setting = raw.execute("select current_setting('slipway.tenant', true)").fetchone()
            assert setting in {("",), (None,)}
            assert raw.execute("select count(*) from notes_note").fetchone() == (0,)
    finally:
        for raw in free:
            connection.pool.putconn(raw)


def test_it_leaks_nothing_when_threads_share_few_connections(mine, theirs, canary):
    """Eight threads, now and then without a tenant; every row read is of the tenant that asked."""
    wrong: list[object] = []

    def work(number: int) -> None:
        for turn in range(50):
            tenant, expected = ((mine, "my own"), (theirs, SECRET))[(number + turn) % 2]
            if turn % 10 == 9:
                with contextlib.suppress(NoTenant):
                    wrong.append(read_texts())
            else:
                with tenant_context(tenant):
                    texts = read_texts()
                if texts != [expected]:
                    wrong.append(texts)
            connection.close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.other_guard
def test_it_refuses_a_forgotten_tenant_before_the_database_hides_the_rows(canary):
    with no_tenant():
        with pytest.raises(NoTenant, match="notes_note"):
            Note.objects.count()
        with pytest.raises(NoTenant, match="notes_note"):
            Note.objects.filter(pk=canary.pk).delete()
        with pytest.raises(NoTenant, match="notes_note"):
            Notebook.objects.filter(pk__in=Note.objects.values("notebook")).exists()


def test_it_renews_the_context_before_it_expires(mine, canary, monkeypatch):
    from tenants.postgres import base

    with tenant_context(mine):
        assert read_texts() == ["my own"]
        applied = connection.connection.slipway_applied
        later = time.monotonic() + base.RENEW_SECONDS
        monkeypatch.setattr(base.time, "monotonic", lambda: later)
        assert read_texts() == ["my own"]
        assert connection.connection.slipway_applied.until > applied.until


@pytest.mark.other_guard
def test_it_takes_one_round_trip_to_switch_and_none_to_stay(
    mine, theirs, django_assert_num_queries
):
    with tenant_context(mine):
        read_texts()
        with django_assert_num_queries(1):
            read_texts()
    with tenant_context(theirs), django_assert_num_queries(2):
        read_texts()


@pytest.mark.other_guard
def test_it_shows_nothing_by_a_search_path_set_by_force(attacker, dedicated_tenant, operator):
    """A dedicated tenant's tables have the same policies: finding them is not reading them."""
    from customers.models import Customer

    with tenant_context(dedicated_tenant):
        Customer.objects.create(external_id="c-1", name=SECRET)
        assert Customer.objects.count() == 1
    schema = dedicated_tenant.schema_name
    count = f"select count(*) from {schema}.customers_customer"
    assert operator.execute(count).fetchone() == (1,)
    attacker.execute(f"set search_path = {schema}, public")
    assert attacker.execute("select count(*) from customers_customer").fetchone() == (0,)
    assert attacker.execute(count).fetchone() == (0,)


def test_it_hides_pooled_customers(mine, theirs, attacker, operator):
    from customers.models import Customer

    with tenant_context(theirs):
        Customer.objects.create(external_id="c-1", name=SECRET)
    with tenant_context(mine):
        Customer.objects.create(external_id="c-1", name="my own")
        assert [customer.name for customer in Customer.objects.all()] == ["my own"]
    names = operator.execute(
        "select name from pool.customers_customer where tenant_id = %s", [theirs.pk]
    ).fetchall()
    assert names == [(SECRET,)]
    assert attacker.execute("select name from pool.customers_customer").fetchall() == [("my own",)]


@pytest.mark.other_guard
def test_it_errs_where_a_dedicated_schema_lacks_a_table(dedicated_tenant, theirs, superuser):
    """It must not fall through to the pool, where everybody's rows are."""
    from django.db import ProgrammingError

    from customers.models import Customer

    with tenant_context(theirs):
        Customer.objects.create(external_id="c-1", name=SECRET)
    superuser.execute(f"drop table {dedicated_tenant.schema_name}.customers_customer cascade")
    with tenant_context(dedicated_tenant), pytest.raises(ProgrammingError, match="does not exist"):
        Customer.objects.count()


@pytest.mark.other_guard
def test_it_errs_for_a_schema_that_is_not_there(tenant):
    from django.db import ProgrammingError

    from customers.models import Customer
    from tenants.models import Tenant

    rows = Tenant.objects.using("operator").filter(pk=tenant.pk)
    rows.update(home="dedicated")  # And nobody made its schema.
    nowhere = TenantRef(tenant.pk, tenant.schema_name)
    with tenant_context(nowhere), pytest.raises(ProgrammingError, match="does not exist"):
        Customer.objects.count()
    rows.update(home="pooled")


@pytest.mark.other_guard
def test_a_schema_that_is_not_the_tenants_leads_home(theirs, dedicated_tenant):
    """What a cache or a claim remembers is no way into another's schema."""
    from customers.models import Customer

    with tenant_context(theirs):
        before = Customer.objects.count()
    with tenant_context(TenantRef(theirs.pk, dedicated_tenant.schema_name)):
        Customer.objects.create(name="at home")
    with tenant_context(theirs):
        assert Customer.objects.count() == before + 1


# ---- Taking another tenant over by its people, addresses and names ----


@pytest.fixture
def victim(theirs):
    """The owner of another tenant, who has a password."""
    from tests.people import make_user

    return make_user(theirs, role="owner")


@pytest.mark.other_guard
def test_it_gives_another_tenants_owner_no_new_password(mine, theirs, victim, attacker, operator):
    """The whole way: find the person by address, make them a member here, set a password."""
    found = attacker.execute("select slipway.user_by_email(%s)", [victim.email]).fetchone()
    assert found == (victim.pk,)  # The address was known.
    for statement, values in [
        (
            "insert into tenants_membership (id, tenant_id, user_id, role, created_at)"
            " values (%s, %s, %s, 'owner', now())",
            [uuid.uuid4(), mine.pk, victim.pk],
        ),
        ("update tenants_user set password = 'x' where id = %s", [victim.pk]),
        ("update tenants_user set is_active = false where id = %s", [victim.pk]),
        ("update tenants_membership set role = 'owner'", None),
    ]:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            attacker.execute(statement, values)
    added = attacker.execute("select slipway.add_owner(%s, %s)", [uuid.uuid4(), victim.pk])
    assert added.fetchone() == (False,)  # Only a tenant that is being made gets an owner.
    activated = attacker.execute("select slipway.activate_user(%s, 'x')", [victim.pk])
    assert activated.fetchone() == (False,)
    assert attacker.execute("select count(*) from tenants_user").fetchone() == (0,)
    hashed = operator.execute("select password from tenants_user where id = %s", [victim.pk])
    assert hashed.fetchone() == (victim.password,)


@pytest.mark.other_guard
def test_it_changes_no_password_of_somebody_who_joins(make_tenant, victim, app_connection):
    """A stranger signs the victim up as an owner: their password stays theirs."""
    trap = make_tenant(status="provisioning")
    enter(app_connection, trap)
    added = app_connection.execute("select slipway.add_owner(%s, %s)", [uuid.uuid4(), victim.pk])
    assert added.fetchone() == (True,)
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="has a password already"):
        app_connection.execute("select slipway.activate_user(%s, 'x')", [victim.pk])


@pytest.mark.other_guard
@pytest.mark.parametrize(
    "statement",
    [
        "insert into tenants_domain (domain, is_primary, tenant_id)"
        " select 'future-brand.slipway.localhost', true, id from tenants_tenant",
        "insert into tenants_domain (domain, is_primary, tenant_id)"
        " select slug || '.slipway.localhost.evil', true, id from tenants_tenant",
        "update tenants_tenant set slug = 'future-brand'",
        "update tenants_tenant set plan = 'pro'",
        "update tenants_tenant set schema_name = 't_1', home = 'dedicated'",
        "insert into tenants_auditentry"
        " (id, at, tenant_id, actor, action, target, reason, request_id)"
        " select gen_random_uuid(), now(), id, 'operator:1', 'x', 'x', '', '' from tenants_tenant",
        "insert into tenants_auditentry"
        " (id, at, tenant_id, actor, action, target, reason, request_id)"
        " select gen_random_uuid(), now(), null, 'anonymous', 'x', 'x', '', '' from tenants_tenant",
        "update tenants_apikey set scopes = '[]'",
        "insert into tenants_user (id, password, email, name, is_staff, is_superuser, is_active,"
        " created_at) values (gen_random_uuid(), '', 'a@b.c', '', true, false, true, now())",
    ],
)
def test_it_refuses_to_reach_beyond_its_rows(attacker, statement):
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        attacker.execute(statement)


@pytest.mark.other_guard
@pytest.mark.parametrize(
    ("table", "own", "more"),
    [
        ("lifecycle_export", "", "file, finished_at) values ({}, 't_1/x', now() - interval '9 d')"),
        ("lifecycle_export", "", "digest) values ({}, 'x')"),
        ("lifecycle_export", "", "erased_at) values ({}, now())"),
        ("lifecycle_closure", "closes_at, ", "begun_at) values ({}, now(), now())"),
        ("lifecycle_closure", "closes_at, ", "finished_at) values ({}, now(), now())"),
    ],
)
def test_it_says_for_no_job_what_that_came_to(mine, attacker, table, own, more):
    """Which file an archive is, least of all: it would be served, and deleted when it is old."""
    said = f"gen_random_uuid(), {mine.pk}, 'x', 'x'"
    into = f"insert into {table} (id, tenant_id, actor, reason"
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="permission denied"):
        attacker.execute(f"{into}, {own}{more.format(said)}")
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="permission denied"):
        attacker.execute(f"update {table} set actor = 'another'")
    begun = f"{into}, closes_at) values ({said}, now())" if own else f"{into}) values ({said})"
    with attacker.transaction(force_rollback=True):
        attacker.execute(begun)
