"""A suspended tenant's work waits, whatever it is, and goes on when the tenant is reopened."""

import pytest

from jobs.engine import sql
from jobs.engine.claim import Cursor
from jobs.models import Job
from jobs.outcomes import Succeeded
from jobs.registry import queues
from jobs.states import State
from lifecycle import closing
from tenants import services
from tenants.models import Tenant
from tests.jobs.conftest import drain, fresh
from tests.works.models import Missive, Parcel, Telegram, Trace

ACTOR, WHY = "system:test", "Unpaid since May."


def suspend(tenant):
    services.suspend(tenant_id=tenant.pk, actor=ACTOR, reason=WHY)


def reopen(tenant):
    services.reopen(tenant_id=tenant.pk, actor=ACTOR, reason="Paid.")


def close(tenant):
    closing.close(tenant_id=tenant.pk, actor=ACTOR, reason=WHY)


def states(works):
    return {fresh(work).state for work in works}


@pytest.mark.parametrize("stop", [suspend, pytest.param(close, marks=pytest.mark.thorough)])
def test_a_drainer_leaves_its_works_alone_and_loses_none(engine, tenant, other_tenant, stop):
    mine = engine.add(Telegram, 20, tenant=tenant.pk, act="succeed")
    stop(tenant)
    others = engine.add(Telegram, 20, tenant=other_tenant.pk, act="succeed")
    drain(lambda *_: states(others) == {State.SUCCEEDED})
    assert states(mine) == {State.PENDING}
    later = engine.add(Telegram, 5, tenant=tenant.pk, act="succeed")
    reopen(tenant)
    drain(lambda *_: states([*mine, *later]) == {State.SUCCEEDED})
    ids = [work.pk for work in [*mine, *later]]
    assert all(fresh(work).attempts == 1 for work in mine)
    assert not Trace.objects.using("operator").filter(work_id__in=ids, attempt__gt=1).exists()


@pytest.mark.parametrize("name", ["deliveries", "messages", "jobs", "onboarding"])
def test_every_queues_claim_asks_for_it(name):
    assert f"({sql.HELD})) as held" in sql.pick(queues()[name])


@pytest.mark.parametrize("model", [Parcel, Telegram, Missive, Job])
def test_what_it_has_is_claimed_again_in_its_order(engine, tenant, model):
    columns = {"kind": "act", "args": {"act": "succeed"}} if model is Job else {}
    name = {Parcel: "parcels", Telegram: "telegrams", Missive: "missives", Job: "jobs"}[model]
    works = engine.add(model, 3, tenant=tenant.pk, **columns)
    suspend(tenant)
    assert engine.claim(name, drainer=engine.drainer()) == []
    reopen(tenant)
    claims = engine.claim(name, drainer=engine.drainer())
    assert [claim.id for claim in claims] == [work.pk for work in works]


def test_what_is_under_way_ends(engine, tenant):
    [work] = engine.add(tenant=tenant.pk)
    [claim] = engine.claim(drainer=engine.drainer())
    suspend(tenant)
    assert engine.settle((claim, Succeeded())) == 1
    assert fresh(work).state == State.SUCCEEDED


def test_erasures_and_moves_go_on(engine, tenant):
    told = {"kind": "act", "args": {"act": "succeed"}}
    engine.add(Job, tenant=tenant.pk, lane="anything", **told)
    wanted = {engine.add(Job, tenant=tenant.pk, lane=lane, **told)[0].pk
              for lane in ("erasures", "moves")}  # fmt: skip
    suspend(tenant)
    claims = engine.claim("jobs", drainer=engine.drainer())
    assert {claim.id for claim in claims} == wanted


def test_an_undone_sign_ups_jobs_go_on(engine, tenant):
    """It is closing too, and has no days of grace: its own job undoes it."""
    Tenant.objects.using("operator").filter(pk=tenant.pk).update(status="closing")
    engine.add(Job, tenant=tenant.pk, kind="act", args={"act": "succeed"})
    assert len(engine.claim("jobs", drainer=engine.drainer())) == 1


def test_many_suspended_tenants_hide_nobody(engine, make_tenant):
    """They come before the one that is open, and are more than a drainer looks at at once."""
    held = [make_tenant() for _ in range(20)]
    for each in held:
        engine.add(tenant=each.pk)
    Tenant.objects.using("operator").filter(pk__in=[each.pk for each in held]).update(
        status="suspended"
    )
    open_one = make_tenant()
    [work] = engine.add(tenant=open_one.pk)
    cursor, drainer = Cursor(), engine.drainer()
    looks = [engine.claim(drainer=drainer, slots=1, cursor=cursor) for _ in range(4)]
    assert [claim.id for claims in looks for claim in claims] == [work.pk]
