"""What a session remembers of the context it entered cannot be made up, carried on or outlived."""

import time

import psycopg
import pytest

from tenants.context import tenant_context
from tests.notes.models import Notebook
from tests.tenants.test_isolation import enter, signed

DENIED = psycopg.errors.InsufficientPrivilege


@pytest.fixture
def mine(tenant):
    return with_notebook(tenant, "mine")


@pytest.fixture
def theirs(other_tenant):
    return with_notebook(other_tenant, "theirs")


def with_notebook(tenant, title: str):
    with tenant_context(tenant):
        Notebook.objects.create(title=title)
    return tenant


@pytest.fixture
def attacker(mine, theirs, app_connection) -> psycopg.Connection:
    enter(app_connection, mine)
    assert titles(app_connection) == ["mine"]
    return app_connection


def titles(connection: psycopg.Connection) -> list[str]:
    return [title for (title,) in connection.execute("select title from notes_notebook")]


def set_context(connection: psycopg.Connection, text: str) -> None:
    connection.execute(f"set slipway.tenant = '{text}'")


@pytest.mark.parametrize("sequence", ["entered_tenant", "entered_until"])
@pytest.mark.parametrize("call", ["setval('slipway.{}', 1)", "nextval('slipway.{}')"])
def test_the_app_role_cannot_write_what_is_remembered(attacker, sequence, call):
    with pytest.raises(DENIED):
        attacker.execute(f"select {call.format(sequence)}")
    assert titles(attacker) == ["mine"]


def test_a_setting_that_names_another_tenant_is_forged(attacker, theirs):
    for text in (f"+{theirs.pk}.9999999999.0.x.y", f"+{theirs.pk}.", "+0.0.0.x.y", "+"):
        set_context(attacker, text)
        with pytest.raises(DENIED, match="forged"):
            titles(attacker)


def test_what_was_left_cannot_be_entered_again_without_a_signature(attacker, mine):
    enter_nobody = "select slipway.enter_tenant('pool, public', '')"
    attacker.execute(enter_nobody)
    assert titles(attacker) == []
    set_context(attacker, f"+{mine.pk}.9999999999.0.x.y")
    with pytest.raises(DENIED, match="forged"):
        titles(attacker)


def test_a_bad_context_takes_the_place_of_a_good_one(attacker, theirs):
    for bad in ("garbage", f"+{theirs.pk}.1.2.3.4", signed(theirs, attacker, key=b"x" * 32)):
        enter_bad = "select slipway.enter_tenant('pool, public', %s)"
        attacker.execute(enter_bad, [bad])
        with pytest.raises(DENIED, match="forged"):
            titles(attacker)


def test_another_session_remembers_nothing_of_it(attacker, mine, operator):
    assert operator.execute("select slipway.current_tenant_id()").fetchone() == (None,)
    operator.execute(f"set slipway.tenant = '+{mine.pk}.'")
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
        operator.execute("select slipway.current_tenant_id()")


def test_a_rollback_brings_the_former_tenant_back(attacker, theirs):
    with attacker.transaction():
        enter(attacker, theirs)
        assert titles(attacker) == ["theirs"]
        raise psycopg.Rollback
    assert titles(attacker) == ["mine"]


def test_what_is_remembered_expires_with_its_context(attacker, mine):
    context = signed(mine, attacker, seconds=2)
    attacker.execute("select slipway.enter_tenant('pool, public', %s)", [context])
    assert titles(attacker) == ["mine"]
    with pytest.raises(DENIED, match="expired"):
        look_for(attacker, seconds=10)


def look_for(connection: psycopg.Connection, *, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        titles(connection)


def test_a_read_only_transaction_enters_nobody(attacker, theirs):
    attacker.execute("begin read only")
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        enter(attacker, theirs)
    attacker.rollback()
    assert titles(attacker) == ["mine"]
