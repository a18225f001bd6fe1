"""A connection that its thread keeps from request to request (DATABASE_POOL_SIZE=0)."""

import time

import pytest
from django.conf import settings
from django.db.utils import ConnectionHandler

from tenants.context import tenant_context


@pytest.fixture
def kept():
    """The app role's connection as the `web` process has it."""
    entry = settings.DATABASES["default"]
    options = {name: value for name, value in entry["OPTIONS"].items() if name != "pool"}
    handler = ConnectionHandler({"default": entry | {"OPTIONS": options, "CONN_MAX_AGE": None}})
    yield handler["default"]
    handler.close_all()


def pid(connection) -> int:
    return connection.connection.info.backend_pid


def ask(connection, statement: str):
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchone()


def test_it_is_kept_and_carries_no_tenant_to_the_next_request(kept, tenant):
    with tenant_context(tenant):
        assert ask(kept, "select slipway.current_tenant_id()") == (tenant.pk,)
    before = pid(kept)
    kept.close_if_unusable_or_obsolete()
    raw = kept.connection.execute(
        "select current_setting('slipway.tenant'), current_schemas(false)"
    )
    assert raw.fetchone() == ("", ["public"])
    assert pid(kept) == before


def test_a_transaction_that_was_left_open_is_not_the_next_requests(kept, tenant):
    kept.ensure_connection()
    kept.connection.execute("begin")
    kept.connection.execute("select 1")
    kept.close_if_unusable_or_obsolete()
    assert ask(kept, "select pg_current_xact_id_if_assigned() is null") == (True,)
    assert kept.connection.info.transaction_status == 0


def test_one_that_the_server_closed_is_opened_anew(kept, superuser, tenant):
    ask(kept, "select 1")
    gone = pid(kept)
    superuser.execute("select pg_terminate_backend(%s)", [gone])
    deadline = time.monotonic() + 5
    while superuser.execute("select from pg_stat_activity where pid = %s", [gone]).fetchone():
        assert time.monotonic() < deadline
    kept.close_if_unusable_or_obsolete()
    with tenant_context(tenant):
        assert ask(kept, "select slipway.current_tenant_id()") == (tenant.pk,)
    assert pid(kept) != gone
