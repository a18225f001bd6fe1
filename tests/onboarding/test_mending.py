"""Reconcile, backfill, and letting go of the unverified."""

import json
from io import StringIO
from pathlib import Path
from uuid import uuid4

import pytest
from django.core.management import CommandError, call_command

from jobs.outcomes import Succeeded
from onboarding import backfill, files, reaping, steps
from tenants import schemas
from tenants.models import AuditEntry
from tests.onboarding import world
from tests.onboarding.hands import settle_job, take, take_job


def run_command(*words: str) -> dict:
    out = StringIO()
    try:
        call_command(*words, "--json", stdout=out)
        code = 0
    except SystemExit as end:
        code = end.code
    return json.loads(out.getvalue()) | {"exit": code}


def reconcile(tenant_id: int, *words: str) -> dict:
    why = () if "--dry-run" in words else ("--reason", "a test")
    return run_command("reconcile", f"--tenant={tenant_id}", *words, *why)


def jobs_of(operator, tenant_id: int) -> list[tuple]:
    return operator.execute(
        "select kind, args ->> 'step' from jobs_job where tenant_id = %s", [tenant_id]
    ).fetchall()


# ---- Reconcile ----


@pytest.mark.parametrize("plan", ["free", "pro"])
def test_it_finds_nothing_to_reconcile_in_a_tenant_that_is_whole(platform, operator, plan):
    tenant_id = world.provision(operator, platform.sign_up(plan=plan))
    assert reconcile(tenant_id) == {"findings": [], "mended": 0, "exit": 0}


def test_it_finds_files_that_are_gone_and_has_them_made_again(platform, operator):
    tenant_id = world.provision(operator, platform.sign_up())
    files.remove(files.prefix_of(tenant_id))
    looked = reconcile(tenant_id, "--dry-run")
    assert [finding["step"] for finding in looked["findings"]] == ["storage"]
    assert (looked["mended"], looked["exit"]) == (0, 3)
    with pytest.raises(CommandError, match="--reason"):
        call_command("reconcile", f"--tenant={tenant_id}")
    assert jobs_of(operator, tenant_id) == []

    assert reconcile(tenant_id)["mended"] == 1
    claim = take_job(operator, tenant_id, "onboarding.step")
    assert backfill.run_step(claim) == Succeeded()
    assert reconcile(tenant_id)["findings"] == []


def test_it_finds_what_belongs_to_nobody_and_removes_it_only_when_told(operator):
    number = 2**40 + int(uuid4().hex[:6], 16)
    schemas.ensure_schema(schemas.schema_name(number))
    files.write_mark(files.prefix_of(number), "slipway tenant of nobody")
    looked = reconcile(number)
    assert sorted(f["step"] for f in looked["findings"]) == ["schema", "storage"]
    assert (looked["mended"], looked["exit"]) == (0, 3)
    assert world.traces(operator, number) == {"schema": 1, "files": 2}
    assert reconcile(number, "--remove-orphans")["mended"] == 2
    assert world.traces(operator, number) == {}


def test_a_sign_up_under_way_is_no_orphan(platform, operator):
    claim = take(operator, world.request_id_of(platform.sign_up()))
    ctx = steps.context_of(claim)
    files.write_mark(files.prefix_of(claim.tenant_id), ctx.mark)
    assert reconcile(claim.tenant_id)["findings"] == []


def test_it_leaves_alone_what_carries_anothers_mark(platform, operator):
    from jobs.outcomes import Fail

    claim = take(operator, world.request_id_of(platform.sign_up()))
    files.write_mark(files.prefix_of(claim.tenant_id), "slipway tenant of somebody else")
    assert isinstance(steps.run(claim), Fail)
    undoing = take(operator, claim.id, discarding=True)
    assert isinstance(steps.undo(undoing), Fail)
    assert world.files_of(claim.tenant_id)


# ---- Backfill ----


class Seal(steps.Step):
    """A step that was added later."""

    outside = True

    def observe(self, ctx):
        path = _seal(ctx.tenant_id)
        return steps.Resource("seal") if path.exists() else None

    def apply(self, ctx):
        _seal(ctx.tenant_id).write_text("sealed")
        return steps.Resource("seal")

    def undo(self, ctx, recorded):
        _seal(ctx.tenant_id).unlink(missing_ok=True)


def _seal(tenant_id: int) -> Path:
    return Path(files.storage().path(f"t_{tenant_id}")) / "seal"


@pytest.fixture
def seal(settings):
    settings.SLIPWAY = settings.SLIPWAY | {
        "PROVISIONING_STEPS": [{"name": "seal", "step": "tests.onboarding.test_mending.Seal"}]
    }
    steps.all_steps.cache_clear()
    yield
    steps.all_steps.cache_clear()


def test_it_runs_a_step_that_was_added_later_for_the_tenants_that_exist(
    platform, operator, request
):
    tenant_id = world.provision(operator, platform.sign_up())
    request.getfixturevalue("seal")
    looked = run_command("backfill", "provisioning", "--step=seal", "--dry-run")
    assert looked["found"] >= 1
    assert looked["handed_over"] == 0
    assert jobs_of(operator, tenant_id) == []

    run_command("backfill", "provisioning", "--step=seal", "--reason=new", "--yes")
    run_command(
        "backfill", "provisioning", "--step=seal", "--reason=new", "--yes"
    )  # Once is enough.
    assert jobs_of(operator, tenant_id) == [("onboarding.step", "seal")]
    claim = take_job(operator, tenant_id, "onboarding.step")
    assert backfill.run_step(claim) == Succeeded()
    assert _seal(tenant_id).read_text() == "sealed"
    found = operator.execute(
        "select 1 from onboarding_provisionedresource where tenant_id = %s and step = 'seal'",
        [tenant_id],
    )
    assert found.fetchall() == [(1,)]


def test_it_runs_a_steps_of_the_projects_own_in_its_place(platform, operator, seal):
    tenant_id = world.provision(operator, platform.sign_up())
    assert _seal(tenant_id).exists()


def test_it_refuses_to_fill_with_a_step_that_is_none():
    with pytest.raises(CommandError, match="There is no step 'nonsense'"):
        call_command("backfill", "provisioning", "--step=nonsense")


# ---- Letting go ----


def age(operator, tenant_id: int, days: int) -> None:
    operator.execute(
        "update onboarding_pendingonboarding set created_at = now() - make_interval(days => %s)"
        " where tenant_id = %s", [days, tenant_id],
    )  # fmt: skip


@pytest.mark.parametrize("plan", ["free", "pro"])
def test_it_undoes_a_tenant_whose_owner_never_came(stranger, operator, plan):
    accepted = stranger.sign_up(plan=plan)
    tenant_id = world.provision(operator, accepted)
    request_id = world.request_id_of(accepted)
    age(operator, tenant_id, 6)
    assert request_id not in reaping.reap(actor="system:test")
    age(operator, tenant_id, 8)
    assert f"req_{request_id}" in run_command("reap", "--dry-run")["found"]
    with pytest.raises(CommandError, match="--reason"):
        run_command("reap")
    assert f"req_{request_id}" in run_command("reap", "--reason", "no beat here")["found"]
    entries = AuditEntry.objects.using("operator").filter(tenant_id=tenant_id)
    assert entries.get(action="onboarding.reaped").reason == "no beat here"
    assert request_id not in reaping.reap(actor="system:test")  # It is handed over already.

    claim = take_job(operator, tenant_id, "onboarding.reap")
    assert reaping.undo(claim) == Succeeded()
    settle_job(operator, claim, "succeeded")
    assert world.traces(operator, tenant_id) == {}
    assert stranger.status(accepted).status_code == 404
    slug = accepted.json()["tenant"]["slug"]
    assert stranger.sign_up(slug=slug).status_code == 202


def test_it_undoes_no_tenant_whose_owner_came_at_the_last_moment(stranger, operator):
    tenant_id = world.provision(operator, stranger.sign_up())
    age(operator, tenant_id, 8)
    reaping.reap(actor="system:test")
    before = world.traces(operator, tenant_id)
    world.activate_owner(operator, tenant_id)
    refused = reaping.undo(take_job(operator, tenant_id, "onboarding.reap"))
    assert refused == Succeeded()
    assert world.traces(operator, tenant_id) == before
    status = operator.execute("select status from tenants_tenant where id = %s", [tenant_id])
    assert status.fetchone() == ("active",)


def test_it_lets_go_of_no_tenant_that_the_platform_signed_up_or_that_is_verified(
    platform, stranger, operator
):
    ours = platform.sign_up()
    verified = stranger.sign_up()
    for accepted in (ours, verified):
        age(operator, world.provision(operator, accepted), 30)
    tenant_id = world.tenant_id_of(operator, world.request_id_of(verified))
    world.activate_owner(operator, tenant_id)
    reaped = reaping.reap(actor="system:test", dry_run=True)
    assert world.request_id_of(ours) not in reaped
    assert world.request_id_of(verified) not in reaped
