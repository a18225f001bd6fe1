"""Another plan for a tenant, as platforms and commands ask for it."""

import psycopg
import pytest

from jobs.errors import ReasonMissing
from jobs.models import Job
from jobs.outcomes import Succeeded, Withdrawn
from lifecycle import plans
from lifecycle.errors import PlanChanging, PlanUnchanged, PlanUnknown
from lifecycle.models import PlanMove
from tenants import problems
from tenants.models import ApiKey, AuditEntry, Tenant
from tests.jobs.conftest import Engine, withdraw_everything
from tests.lifecycle.removal import Removal, step_by_step
from tests.people import bearer, platform_key, tenant_key

OPERATOR = "operator"


@pytest.fixture
def removal(client, tenant, operator):
    withdraw_everything()
    engine = Engine()
    yield Removal(client, tenant, engine, operator)
    engine.close()


@pytest.fixture(autouse=True)
def quick_moves(settings):
    settings.SLIPWAY = settings.SLIPWAY | {"MOVES": {"chunk": 3, "pace": 1e9, "keep": 0}}


@pytest.fixture
def gold(settings):
    """A plan with the same home as `free`, and other limits."""
    changed = settings.SLIPWAY["PLANS"] | {"gold": {"home": "pooled", "limits": {"endpoints": 7}}}
    settings.SLIPWAY = settings.SLIPWAY | {"PLANS": changed}


def start(removal, plan, **more):
    words = {"actor": "operator:1", "reason": "They pay now."} | more
    return plans.start(tenant_id=removal.number, plan=plan, **words)


def test_a_plan_of_the_same_home_holds_at_once_with_its_limits(removal, gold):
    asked = removal.ask("gold")
    assert asked.status_code == 202
    assert (asked.json()["status"], asked.json()["phase"]) == ("finished", "done")
    assert asked.headers["Location"] == removal.path
    shown = removal.client.get(f"/v1/tenants/{removal.slug}", headers=removal.platform).json()
    assert (shown["plan"], shown["home"], shown["limits"]["endpoints"]) == ("gold", "pooled", 7)
    assert not Job.objects.using(OPERATOR).filter(tenant_id=removal.number).exists()
    entry = AuditEntry.objects.using(OPERATOR).get(
        tenant_id=removal.number, action="tenant.plan_changed"
    )
    assert (entry.before["plan"], entry.after["plan"]) == ("free", "gold")
    assert entry.actor.startswith("platform_key:")


def test_an_unknown_plan_is_refused_by_name(removal):
    refused = removal.ask("platinum")
    assert refused.status_code == 400
    (error,) = refused.json()["errors"]
    assert (error["pointer"], error["code"]) == ("/plan", "plan_unknown")
    assert not PlanMove.objects.using(OPERATOR).filter(tenant_id=removal.number).exists()
    with pytest.raises(PlanUnknown):
        start(removal, "platinum")


def test_a_plan_that_it_has_is_refused_unless_it_was_asked_for_just_now(removal, gold):
    assert removal.ask("free").json()["code"] == "plan_unchanged"
    first = removal.ask("gold").json()["id"]
    assert removal.ask("gold").json()["id"] == first
    assert removal.ask("free").status_code == 202
    withdraw = Tenant.objects.using(OPERATOR).filter(pk=removal.number)
    withdraw.update(plan="pro")  # By another hand.
    with pytest.raises(PlanUnchanged):
        start(removal, "pro")


def test_two_moves_at_once_are_one(removal, gold):
    first = start(removal, "pro")
    assert start(removal, "pro").pk == first.pk
    assert removal.ask("pro").json()["id"] == f"mov_{first.pk}"
    with pytest.raises(PlanChanging):
        start(removal, "gold")
    assert removal.ask("gold").json()["code"] == "plan_changing"
    jobs = Job.objects.using(OPERATOR).filter(kind=plans.KIND, tenant_id=removal.number)
    assert jobs.count() == 1


@pytest.mark.parametrize("status", ["provisioning", "closing", "closed"])
def test_a_tenant_that_is_not_in_use_stays_where_it_is(removal, status):
    Tenant.objects.using(OPERATOR).filter(pk=removal.number).update(status=status)
    assert removal.ask("pro").json()["code"] == "stale_state"
    with pytest.raises(problems.StaleState):
        start(removal, "pro")
    assert not Job.objects.using(OPERATOR).filter(tenant_id=removal.number).exists()


@pytest.mark.thorough
def test_a_suspended_tenant_moves_too(removal):
    Tenant.objects.using(OPERATOR).filter(pk=removal.number).update(status="suspended")
    assert removal.ask("pro").status_code == 202
    assert removal.through() == Succeeded()
    assert (removal.tenant.home, removal.tenant.status) == ("dedicated", "suspended")


@pytest.mark.thorough
def test_a_tenant_that_is_closed_meanwhile_moves_no_further(removal, monkeypatch):
    step_by_step(monkeypatch)
    removal.ask("pro")
    removal.until("copy")
    Tenant.objects.using(OPERATOR).filter(pk=removal.number).update(status="closing")
    assert isinstance(removal.run_once(), Withdrawn)
    assert (removal.triggers(), removal.has_schema()) == (0, False)
    assert removal.told()["status"] == "abandoned"


def test_it_asks_why(removal):
    assert removal.ask("pro", reason=" ").status_code == 400
    with pytest.raises(ReasonMissing):
        start(removal, "pro", reason=" ")


def test_only_a_platform_key_with_the_scope_changes_plans(removal):
    for token, code in [
        (tenant_key(removal.tenant), "missing_scope"),
        (platform_key("tenants:read"), "missing_scope"),
    ]:
        refused = removal.client.post(
            removal.path, {"plan": "pro", "reason": "Because."}, content_type="application/json",
            headers=bearer(token),
        )  # fmt: skip
        assert (refused.status_code, refused.json()["code"]) == (403, code)
    assert ApiKey.objects.using(OPERATOR).filter(tenant_id=removal.number).exists()
    assert removal.tenant.plan == "free"


def test_who_never_changed_has_nothing_to_tell(removal):
    assert removal.told()["code"] == "no_plan_change"


def test_the_tenants_own_code_cannot_move_it(removal, app_connection):
    """Whatever SQL it is made to run: the functions want the proof of a platform key."""
    for function, arguments in [
        ("change_plan", "gen_random_uuid(), 1, 'free', 'pooled', 'pro', 'dedicated', 'x', 'y'"),
        (
            "platform_change_plan",
            "'k', 'p'::bytea, gen_random_uuid(), 1, 'free', 'pooled', 'pro', 'dedicated', 'y'",
        ),
    ]:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            app_connection.execute(f"select slipway.{function}({arguments})")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        app_connection.execute("insert into lifecycle_planmove (id) values (gen_random_uuid())")
