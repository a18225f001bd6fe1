"""Who may take a move's triggers away, and what its switch does when they are gone.

A write that no trigger notes or refuses is lost; so they are there from the copy to the end.
"""

import psycopg
import pytest
from django.db import DatabaseError, OperationalError, connections, transaction
from django.test.utils import CaptureQueriesContext

from config.problems import is_moving
from customers.models import Customer
from jobs import services
from jobs.errors import LeaseLost
from jobs.models import DeadLetter, Job
from jobs.outcomes import Fail, Retry
from lifecycle.models import Change
from lifecycle.moving import capture, checking, homes, running, shapes, undoing
from lifecycle.moving.way import Way
from tenants.context import TenantRef, tenant_context
from tests.lifecycle.removal import Removal, step_by_step

OPERATOR, OWNER = "operator", "owner"
thorough = pytest.mark.thorough
REFUSED = psycopg.errors.LockNotAvailable


@pytest.fixture
def removal(client, tenant, engine, operator, settings, monkeypatch):
    """A tenant with ten customers, on its way out of the pool."""
    moves = {"chunk": 100, "pace": 1e9, "keep": 3600}
    settings.SLIPWAY = settings.SLIPWAY | {"MOVES": moves}
    step_by_step(monkeypatch)
    made = Removal(client, tenant, engine, operator)
    with made.writing() as customers:
        customers.bulk_create(Customer(name=f"C{n}", external_id=f"x{n}") for n in range(10))
    made.ask("pro")
    return made


def claimed(removal):
    Job.objects.using(OPERATOR).filter(pk=removal.move.pk, state="scheduled").update(
        state="pending"
    )
    [claim] = removal.engine.claim("jobs", drainer=removal.engine.drainer())
    assert claim.tenant_id == removal.number
    return claim


def frozen(removal) -> Way:
    """The move in the hands of one who goes on when his work was given to another."""
    claim = claimed(removal)
    way = running._way(claim)
    removal.engine.hand_back(claim)
    return way


def die(removal) -> DeadLetter:
    """Let the move's job be dead at the phase where it is."""
    removal.engine.settle((claimed(removal), Fail("It died.")))
    return DeadLetter.objects.using(OPERATOR).get(work_id=removal.move.pk, resolved_at=None)


def as_owner(statement: str) -> None:
    with transaction.atomic(using=OWNER), connections[OWNER].cursor() as cursor:
        cursor.execute("set local lock_timeout = '100ms'")
        cursor.execute(statement)


def finish(removal, settings) -> set[str]:
    """Go to the end; the names of the customers in the new home."""
    settings.SLIPWAY = settings.SLIPWAY | {"MOVES": settings.SLIPWAY["MOVES"] | {"keep": 0}}
    removal.until("done")
    assert (removal.rows("pool"), removal.triggers()) == ({}, 0)
    return {row[0] for row in removal.rows(removal.home).values()}


@pytest.mark.parametrize(
    "part",
    [
        pytest.param(running._prepare, id="prepare"),
        pytest.param(capture.disarm, id="disarm", marks=thorough),
        pytest.param(homes.make, id="make", marks=thorough),
        pytest.param(
            lambda way: capture.arm(
                way, shapes.read(connections[OPERATOR].cursor(), "pool").values()
            ),
            id="arm",
            marks=thorough,
        ),
    ],
)
def test_a_mover_that_thaws_takes_nothing_from_the_one_at_work(removal, part):
    thawed = frozen(removal)
    removal.until("switch")
    before = removal.triggers(), removal.rows(f"t_{removal.number}")
    assert before[0] > 0
    assert len(before[1]) == 10
    with pytest.raises(LeaseLost):
        part(thawed)
    assert (removal.triggers(), removal.rows(f"t_{removal.number}")) == before
    removal.until("keep")


@thorough
def test_whoever_halts_a_dead_move_lets_go_once_it_is_replayed(removal):
    removal.until("switch")
    letter = die(removal)
    tending = Way(removal.move, removal.tenant)  # As `tend` finds it, before it takes it apart.
    services.replay(dead_letter=letter, actor="operator:1", reason="Once more.")
    armed = removal.triggers()
    for part in (
        lambda way: undoing.halt(way, why="Its job is dead."),
        capture.disarm,
        homes.empty,
    ):
        with pytest.raises(LeaseLost):
            part(tending)
    undoing.tend()
    assert (removal.move.phase, removal.triggers()) == ("switch", armed)
    removal.until("keep")
    Job.objects.using(OPERATOR).filter(pk=removal.move.pk).update(state="cancelled")
    with pytest.raises(LeaseLost):  # Nobody's again, and lived in.
        undoing.halt(tending, why="Its job is dead.")
    assert (removal.move.phase, removal.triggers()) == ("keep", armed)


@thorough
def test_a_dead_move_is_halted_and_nothing_of_it_is_left(removal):
    removal.until("switch")
    die(removal)
    assert undoing.tend() >= 1
    assert (removal.move.phase, removal.triggers(), removal.has_schema()) == ("prepare", 0, False)


NAME = "slipway_moving_{n}_written"
OTHERS = (
    "create or replace trigger " + NAME + " after insert or update on pool.customers_customer"
    " for each row when (new.tenant_id = {n})"
    " execute function slipway.capture_move('019a0000-0000-7000-8000-000000000000', '{n}', 'id')"
)


@pytest.mark.parametrize(
    "statement",
    [
        pytest.param("drop trigger " + NAME + " on pool.customers_customer", id="gone"),
        pytest.param(
            "alter table pool.customers_customer disable trigger " + NAME,
            id="disabled",
            marks=thorough,
        ),
        pytest.param(OTHERS, id="another move's", marks=thorough),
    ],
)
def test_it_does_not_switch_without_its_triggers_and_nothing_is_lost(removal, settings, statement):
    removal.until("switch")
    as_owner(statement.format(n=removal.number))
    with tenant_context(TenantRef(removal.number)):
        assert Customer.objects.count() == 10  # In the pool, on a connection that stays there.
        outcome = removal.run_once()
        assert isinstance(outcome, Retry)
        assert "Triggers in the old home are gone" in outcome.error
        assert (removal.tenant.home, removal.move.phase) == ("pooled", "prepare")
        Customer.objects.create(name="late")
    connections["default"].close()
    assert "late" in finish(removal, settings)


@thorough
@pytest.mark.parametrize("hold", [checking.whole, capture.is_armed])
def test_no_trigger_goes_between_the_switchs_look_and_its_commit(removal, other_tenant, hold):
    removal.until("switch")
    way = Way(removal.move, removal.tenant)
    with transaction.atomic(using=OPERATOR), connections[OPERATOR].cursor() as cursor:
        assert hold(cursor, way, list(shapes.read(cursor, "pool").values()))
        with pytest.raises(OperationalError) as refused:
            as_owner(f"drop trigger {NAME.format(n=removal.number)} on pool.customers_customer")
        assert isinstance(refused.value.__cause__, REFUSED)
        if hold is capture.is_armed:
            for statement in (
                OTHERS,
                f"alter table pool.customers_customer disable trigger {NAME}",
            ):
                with pytest.raises(OperationalError) as refused:
                    as_owner(statement.format(n=removal.number))
                assert isinstance(refused.value.__cause__, REFUSED)
        with tenant_context(other_tenant):
            Customer.objects.create(name="at leisure")


RENAME = "update pool.customers_customer set name = 'renamed' where tenant_id = %s"


def rename(removal, role: str) -> int:
    """As a data migration does, or a change of keys: past row-level security, by the schema."""
    if role == "operator":
        return removal.operator.execute(RENAME, [removal.number]).rowcount
    with connections[OWNER].cursor() as cursor:
        cursor.execute(RENAME, [removal.number])
        return cursor.rowcount


@pytest.mark.parametrize("role", ["operator", pytest.param("owner", marks=thorough)])
def test_migrations_and_keys_change_what_is_left_and_the_tenants_code_does_not(
    removal, settings, role
):
    removal.until("switch")
    with tenant_context(TenantRef(removal.number)):
        assert Customer.objects.count() == 10  # In the pool, on a connection that stays there.
        removal.run_once()
        assert removal.move.phase == "keep"
        assert rename(removal, role) == 10
        with pytest.raises(DatabaseError) as refused:
            Customer.objects.update(name="in the wrong place")
        assert is_moving(refused.value)
    assert {row[0] for row in removal.rows("pool").values()} == {"renamed"}
    assert not Change.objects.using(OPERATOR).filter(tenant_id=removal.number).exists()
    connections["default"].close()
    assert finish(removal, settings) == {f"C{n}" for n in range(10)}


@thorough
@pytest.mark.parametrize("role", ["operator", "owner"])
def test_migrations_and_keys_are_noted_before_the_switch_and_refused_within(
    removal, settings, role
):
    removal.until("switch")
    assert rename(removal, role) == 10
    with transaction.atomic(using=OPERATOR), connections[OPERATOR].cursor() as cursor:
        cursor.execute(
            "select pg_advisory_xact_lock(hashtextextended('slipway move ' || %s::bigint, 0))",
            [removal.number],
        )
        with pytest.raises((DatabaseError, psycopg.Error)) as refused:
            rename(removal, role)
        error = refused.value
        assert getattr(error, "sqlstate", None) == "SW001" or is_moving(error)
    assert finish(removal, settings) == {"renamed"}


def test_what_was_written_since_is_looked_up_and_not_joined_with_all_of_it(removal):
    removal.until("switch")
    way, connection = Way(removal.move, removal.tenant), connections[OPERATOR]
    with transaction.atomic(using=OPERATOR), connection.cursor() as cursor:
        cursor.execute("set local enable_nestloop = off")  # As if all were young.
        found = list(shapes.read(cursor, "pool").values())
        with CaptureQueriesContext(connection) as asked, connection.cursor() as seen:
            checking.fresh(seen, way, found, horizon=way.move.horizon)
        compared = [one["sql"] for one in asked if "age(" in one["sql"]]
        for statement in compared:
            cursor.execute(f"explain {statement}")
            plan = "\n".join(line for (line,) in cursor.fetchall())
            assert "Nested Loop" in plan
            assert "Hash" not in plan
            assert "Merge" not in plan
    assert len(compared) == len(found)
