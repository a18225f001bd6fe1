"""A tenant's way to another home and back: whatever is written meanwhile is there afterwards."""

import itertools

import pytest
from django.db import DatabaseError, connections, transaction

from config.problems import is_moving
from customers.models import Customer, Suppression
from jobs import services
from jobs.errors import LeaseLost
from jobs.models import DeadLetter, Job
from jobs.outcomes import Fail, Retry, Snooze, Succeeded
from lifecycle.errors import MoveFailed
from lifecycle.models import Change
from lifecycle.moving import homes, undoing
from lifecycle.moving.way import Way, require_home
from tenants.context import TenantRef, tenant_context
from tests.jobs.conftest import Engine, drain, fresh, withdraw_everything
from tests.lifecycle.removal import Removal, step_by_step

OPERATOR = "operator"


@pytest.fixture
def engine():
    withdraw_everything()
    taken_apart = Engine()
    yield taken_apart
    taken_apart.close()


@pytest.fixture(autouse=True)
def quick_moves(settings, monkeypatch):
    settings.SLIPWAY = settings.SLIPWAY | {"MOVES": {"chunk": 3, "pace": 1e9, "keep": 0}}


@pytest.fixture
def removal(client, tenant, engine, operator):
    """A tenant with ten customers, in the pool."""
    made = Removal(client, tenant, engine, operator)
    with made.writing() as customers:
        customers.bulk_create(
            Customer(name=f"C{n}", external_id=f"x{n}", phone=f"+4930{n:07}") for n in range(10)
        )
    return made


def test_it_takes_everything_there_and_back_again(removal, other_tenant):
    with tenant_context(other_tenant):
        stranger = Customer.objects.create(name="not theirs")
    before = removal.rows("pool")
    asked = removal.ask("pro")
    assert asked.status_code == 202, asked.json()
    assert asked.json()["id"].startswith("mov_")
    assert (asked.json()["status"], asked.json()["home"]) == ("pending", "dedicated")
    assert removal.through() == Succeeded()
    assert (removal.tenant.home, removal.tenant.plan) == ("dedicated", "pro")
    assert removal.rows(removal.home) == before
    assert removal.rows("pool") == {}
    assert removal.triggers() == 0
    told = removal.told()
    assert (told["status"], told["phase"], told["rows_done"]) == ("finished", "done", 10)
    assert told["checks"]["customers_customer"]["rows"] == 10

    assert removal.ask("free").status_code == 202
    assert removal.through() == Succeeded()
    assert (removal.tenant.home, removal.tenant.plan) == ("pooled", "free")
    assert removal.rows("pool") == before
    assert not removal.has_schema()
    with tenant_context(other_tenant):
        assert list(Customer.objects.all()) == [stranger]


@pytest.mark.parametrize(("start", "plan"), [("pooled", "pro"), ("dedicated", "free")])
def test_what_is_written_at_any_moment_is_there_once(
    start, plan, client, make_tenant, engine, operator, monkeypatch
):
    step_by_step(monkeypatch)
    removal = Removal(client, make_tenant(start), engine, operator)
    made = [removal.write(name=f"C{n}", external_id=f"x{n}") for n in range(8)]
    names = itertools.count()
    expected = {row.pk: row.name for row in made}

    def write():
        """One of each kind, near the beginning of the table and behind its end."""
        name = f"N{next(names)}"
        with removal.writing() as customers:
            new = customers.create(name=name, external_id=name)
            # Two swap what only one of them may have.
            first, second = sorted(expected)[0], sorted(expected)[-1]
            held = dict(customers.filter(pk__in=[first, second]).values_list("pk", "external_id"))
            customers.filter(pk=first).update(external_id=None, name=name)
            customers.filter(pk=second).update(external_id=held[first])
            customers.filter(pk=first).update(external_id=held[second])
            gone = sorted(expected)[1]
            customers.filter(pk=gone).delete()
        expected[new.pk] = name
        expected[first] = name
        del expected[gone]

    removal.ask(plan)
    removal.until("done", meanwhile=write)
    write()
    found = removal.rows(removal.home)
    assert {pk: row[0] for pk, row in found.items()} == expected
    assert removal.move.changes > 10
    assert removal.tenant.plan == plan
    assert not Change.objects.using(OPERATOR).filter(tenant_id=removal.number).exists()


def test_a_row_that_only_one_may_have_goes_from_one_to_the_other(removal, monkeypatch):
    """The second is copied with what the first, copied long since, has given up."""
    step_by_step(monkeypatch)
    removal.ask("pro")
    removal.until("copy")
    while removal.move.rows_done < 3:
        removal.run_once()
    pks = sorted(removal.rows("pool"))
    with removal.writing() as customers:
        first = customers.get(pk=pks[0])
        customers.filter(pk=first.pk).update(external_id="another")
        customers.filter(pk=pks[-1]).update(external_id=first.external_id)
    removal.until("done")
    assert removal.rows(removal.home)[pks[-1]][1] == first.external_id


def test_a_write_that_meets_the_switch_is_refused_for_a_moment(removal, monkeypatch):
    step_by_step(monkeypatch)
    removal.ask("pro")
    removal.until("switch")
    with transaction.atomic(using=OPERATOR):
        take_the_switchs_lock(removal.number)
        refused = removal.desk.post("", {"name": "too early"})
        assert refused.status_code == 503
        assert refused.json()["code"] == "tenant_moving"
        assert refused.headers["Retry-After"] == "1"
        assert removal.desk.get("").status_code == 200  # Reading goes on.
    assert removal.desk.post("", {"name": "again"}).status_code == 201
    removal.until("done")
    assert "again" in {row[0] for row in removal.rows(removal.home).values()}
    assert "too early" not in {row[0] for row in removal.rows(removal.home).values()}


def test_a_step_that_meets_the_switch_comes_again_and_spends_no_try(removal, monkeypatch):
    step_by_step(monkeypatch)
    removal.ask("pro")
    removal.until("switch")
    rows = "".join(f'{{"name": "I{n}", "external_id": "i{n}"}}\n' for n in range(5))
    sent = removal.desk.send("/imports", rows, "application/x-ndjson").json()
    job = Job.objects.using(OPERATOR).get(tenant_id=removal.number, kind="customers.import")
    with transaction.atomic(using=OPERATOR):
        take_the_switchs_lock(removal.number)
        drain(lambda *_: fresh(job).last_error != "", name="jobs")
        assert (job.attempts, job.last_error) == (0, "its tenant is moving to another home")
        assert job.state in {"scheduled", "pending", "processing"}
    drain(lambda *_: fresh(job).state == "succeeded", name="jobs")
    assert job.attempts == 1
    assert removal.desk.get(f"/imports/{sent['id']}").json()["created"] == 5
    removal.until("done")
    names = {row[0] for row in removal.rows(removal.home).values()}
    assert {f"I{n}" for n in range(5)} <= names


def test_another_tenants_writes_are_not_refused(removal, other_tenant, monkeypatch):
    step_by_step(monkeypatch)
    removal.ask("pro")
    removal.until("switch")
    with transaction.atomic(using=OPERATOR):
        take_the_switchs_lock(removal.number)
        with tenant_context(other_tenant):
            Customer.objects.create(name="at leisure")
    assert not Change.objects.using(OPERATOR).filter(tenant_id=other_tenant.pk).exists()


def test_the_switch_waits_for_a_writer_and_not_for_long(removal, monkeypatch):
    step_by_step(monkeypatch)
    monkeypatch.setattr("lifecycle.moving.switching._PATIENCE", (0.2,))
    removal.ask("pro")
    removal.until("switch")
    with removal.writing() as customers:
        customers.create(name="slow")
        outcome = removal.run_once()
        assert isinstance(outcome, Retry)
        assert outcome.healthy
        assert (removal.tenant.home, removal.move.phase) == ("pooled", "switch")
        assert removal.move.refused_ms >= 200
        customers.create(name="still there")
    removal.until("done")
    names = {row[0] for row in removal.rows(removal.home).values()}
    assert {"slow", "still there"} <= names


def test_whoever_entered_the_old_home_before_cannot_write_there_after(
    removal, settings, monkeypatch
):
    settings.SLIPWAY = settings.SLIPWAY | {"MOVES": settings.SLIPWAY["MOVES"] | {"keep": 3600}}
    step_by_step(monkeypatch)
    removal.ask("pro")
    removal.until("switch")
    with tenant_context(TenantRef(removal.number)):
        assert Customer.objects.count() == 10  # In the pool, on a connection that stays there.
        removal.run_once()
        assert removal.move.phase == "keep"
        with pytest.raises(DatabaseError) as refused:
            Customer.objects.create(name="in the wrong place")
        assert is_moving(refused.value)
    assert len(removal.rows("pool")) == 10
    kept = removal.run_once()
    assert isinstance(kept, Snooze)
    assert kept.delay > 3000
    assert removal.told()["moved_at"] is not None


def test_whoever_remembers_the_old_home_is_led_to_the_new_one(removal, monkeypatch, settings):
    settings.SLIPWAY = settings.SLIPWAY | {"MOVES": settings.SLIPWAY["MOVES"] | {"keep": 3600}}
    removal.ask("pro")
    assert removal.through().delay > 3000
    connections.close_all()
    with tenant_context(TenantRef(removal.number, "pool")):  # A cache's word, or a claim's.
        Customer.objects.create(name="by an old address")
        assert Customer.objects.count() == 11
    assert len(removal.rows(removal.home)) == 11
    assert len(removal.rows("pool")) == 10


def test_a_snapshot_of_its_own_cannot_hide_the_switch_from_a_writer(removal, monkeypatch):
    step_by_step(monkeypatch)
    removal.ask("pro")
    removal.until("copy")
    with tenant_context(removal.tenant), connections["default"].cursor() as cursor:
        cursor.execute("set session characteristics as transaction isolation level repeatable read")
        with pytest.raises(DatabaseError) as refused:
            removal.write(name="unseen")
        cursor.execute("set session characteristics as transaction isolation level read committed")
    assert is_moving(refused.value)


# ---- When it cannot be ----


def spoil(removal) -> None:
    """Change the copy behind the triggers' back."""
    removal.operator.execute(
        f"update t_{removal.number}.customers_customer set name = 'spoilt'"
        f" where id = (select max(id::text)::uuid from t_{removal.number}.customers_customer)"
    )


@pytest.mark.parametrize("phase", ["verify", "switch"])
def test_a_copy_that_is_not_the_same_moves_nobody(removal, monkeypatch, phase):
    step_by_step(monkeypatch)
    removal.ask("pro")
    removal.until(phase)
    spoil(removal)
    outcome = removal.run_once()
    assert isinstance(outcome, Fail)
    assert "customers_customer: 10 rows" in outcome.error
    letter = DeadLetter.objects.using(OPERATOR).get(work_id=removal.move.pk, resolved_at=None)
    assert "not the same" in letter.error
    assert (removal.tenant.home, removal.tenant.plan) == ("pooled", "free")
    assert (removal.triggers(), removal.has_schema()) == (0, False)
    assert removal.told()["status"] == "stuck"
    assert removal.desk.post("", {"name": "at work"}).status_code == 201
    services.replay(dead_letter=letter, actor="operator:1", reason="Once more.")
    removal.until("done")
    assert len(removal.rows(removal.home)) == 11


def test_a_write_that_no_trigger_noted_is_found_in_a_large_tenant_too(removal, monkeypatch):
    step_by_step(monkeypatch)
    monkeypatch.setattr("lifecycle.moving.switching.MANY", 1)  # It is large.
    removal.ask("pro")
    removal.until("switch")
    number = removal.number
    removal.write(name="noted")
    Change.objects.using(OPERATOR).filter(tenant_id=number).delete()  # And the note was lost.
    outcome = removal.run_once()
    assert isinstance(outcome, Fail)
    assert "1 rows differ, 11 before, 10 after" in outcome.error


def test_a_large_tenant_is_compared_by_what_was_written_since(removal, monkeypatch):
    step_by_step(monkeypatch)
    monkeypatch.setattr("lifecycle.moving.switching.MANY", 1)
    removal.ask("pro")
    removal.until("switch")
    removal.write(name="noted")
    removal.until("done")
    assert len(removal.rows(removal.home)) == 11


def test_what_is_discarded_is_undone_and_can_be_asked_for_again(removal, monkeypatch):
    step_by_step(monkeypatch)
    removal.ask("pro")
    removal.until("switch")
    services.cancel(
        queue="jobs", work_id=removal.move.pk, actor="operator:1", reason="They changed their mind."
    )
    assert removal.triggers() > 0
    undoing.tend()
    assert (removal.triggers(), removal.has_schema()) == (0, False)
    assert removal.told()["status"] == "abandoned"
    assert removal.ask("pro").status_code == 202
    removal.until("done")
    assert len(removal.rows(removal.home)) == 10


def test_past_its_switch_a_move_is_finished_whatever_becomes_of_its_job(removal, monkeypatch):
    step_by_step(monkeypatch)
    removal.ask("pro")
    removal.until("keep")
    services.cancel(queue="jobs", work_id=removal.move.pk, actor="operator:1", reason="By mistake.")
    undoing.tend()
    assert undoing.tend() == 0  # Somebody does it now.
    removal.until("done")
    assert removal.rows("pool") == {}


def test_it_waits_while_one_home_is_migrated_and_the_other_is_not(removal, monkeypatch):
    step_by_step(monkeypatch)
    removal.ask("pro")
    removal.until("copy")
    with connections["owner"].cursor() as cursor:
        cursor.execute(f"alter table t_{removal.number}.customers_customer add column odd integer")
    outcome = removal.run_once()
    assert isinstance(outcome, Retry)
    assert "customers_customer differ in pool" in outcome.error
    with connections["owner"].cursor() as cursor:
        cursor.execute(f"alter table t_{removal.number}.customers_customer drop column odd")
    removal.until("done")


def test_somebody_elses_schema_is_left_alone(removal):
    with connections["owner"].cursor() as cursor:
        cursor.execute(f"create schema t_{removal.number}")
        cursor.execute(f"comment on schema t_{removal.number} is 'slipway tenant of another'")
    removal.ask("pro")
    outcome = removal.run_once()
    assert isinstance(outcome, Fail)
    assert "another owner's mark" in outcome.error
    assert removal.has_schema()
    with connections["owner"].cursor() as cursor:
        cursor.execute(f"drop schema t_{removal.number}")


def test_every_table_of_the_tenants_goes_with_it(removal):
    with removal.writing():
        Suppression.objects.create(phone="+4930999", actor="system:test")
    assert removal.desk.bring('{"name": "Imported", "external_id": "i1"}\n', "application/x-ndjson")
    removal.ask("pro")
    assert removal.through() == Succeeded()
    assert removal.operator.execute(
        f"select phone from t_{removal.number}.customers_suppression"
    ).fetchall() == [("+4930999",)]
    assert removal.told()["checks"]["customers_import"]["rows"] == 1
    assert removal.operator.execute(
        "select count(*) from pool.customers_import where tenant_id = %s", [removal.number]
    ).fetchone() == (0,)


def test_what_is_lived_in_is_not_destroyed(removal, monkeypatch):
    """Whatever a mover believes: the home that it would empty is looked at."""
    step_by_step(monkeypatch)
    removal.ask("pro")
    removal.until("switch")
    way = Way(removal.move, removal.tenant)
    removal.until("keep")
    with pytest.raises(LeaseLost):
        homes.empty(way)
    with (
        transaction.atomic(using=OPERATOR),
        connections[OPERATOR].cursor() as cursor,
        pytest.raises(MoveFailed, match="home is dedicated"),
    ):
        require_home(cursor, way, "pooled")
    assert len(removal.rows(removal.home)) == 10


def take_the_switchs_lock(number: int) -> None:
    with connections[OPERATOR].cursor() as cursor:
        cursor.execute(
            "select pg_advisory_xact_lock(hashtextextended('slipway move ' || %s::bigint, 0))",
            [number],
        )
