"""What operators do from a terminal."""

import json
import uuid
import zipfile
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from config import doctor
from jobs import services
from lifecycle.models import Export
from tests.lifecycle.removal import Removal, step_by_step
from tests.people import bearer, make_user


def run(*words: str) -> str:
    out = StringIO()
    call_command("tenants", *words, stdout=out)
    return out.getvalue().strip()


def entries(operator, tenant):
    return operator.execute(
        "select action, reason from tenants_auditentry where tenant_id = %s order by at",
        [tenant.pk],
    ).fetchall()


def test_it_lists_tenants(make_tenant):
    tenant = make_tenant(status="suspended")
    assert tenant.slug in run("list")
    found = json.loads(run("list", "--status", "suspended", "--json"))
    assert {"slug": tenant.slug, "plan": "free", "home": "pooled", "status": "suspended"} in found
    assert tenant.slug not in run("list", "--status", "active")


def test_it_suspends_and_reopens_with_a_reason(tenant, operator):
    assert run("suspend", tenant.slug, "--reason", "Unpaid.") == "Done."
    assert run("suspend", tenant.slug, "--reason", "Unpaid.") == "It was so already."
    assert json.loads(run("reopen", tenant.slug, "--reason", "Paid.", "--json")) == {
        "changed": True
    }
    assert entries(operator, tenant) == [
        ("tenant.suspended", "Unpaid."),
        ("tenant.reopened", "Paid."),
    ]


def test_it_says_what_currency_a_tenants_amounts_are_in(tenant, operator):
    words = ("currency", tenant.slug, "CHF", "--reason", "In francs.")
    unsaid = "Nobody has said what its amounts are in; nothing was changed."
    assert run(*words, "--dry-run") == unsaid
    assert entries(operator, tenant) == []
    assert run(*words) == "Its amounts are in CHF."
    assert json.loads(run("show", tenant.slug, "--json"))["currency"] == "CHF"
    for unknown in ("francs", "chf", "XXX"):
        with pytest.raises(CommandError, match=f"'{unknown}': No currency .* such as EUR"):
            run("currency", tenant.slug, unknown, "--reason", "In francs.")
    given_back = run("currency", tenant.slug, "none", "--reason", "Taken back.", "--json")
    assert json.loads(given_back) == {"currency": None}
    assert entries(operator, tenant) == [
        ("tenant.currency_changed", "In francs."),
        ("tenant.currency_changed", "Taken back."),
    ]


def test_it_lifts_a_suspension_from_before_the_closing_when_that_is_said(tenant, operator):
    for act in ("suspend", "close", "reopen"):
        run(act, tenant.slug, "--reason", "Unpaid.")
    said = run("reopen", tenant.slug, "--reason", "Again.")
    assert said.endswith("--from suspended lifts that.")
    assert run("reopen", tenant.slug, "--from", "suspended", "--reason", "Paid.") == "Done."
    assert entries(operator, tenant)[-1] == ("tenant.reopened", "Paid.")
    assert len(entries(operator, tenant)) == 4


def test_a_dry_run_changes_nothing(tenant, operator):
    assert "nothing was changed" in run("suspend", tenant.slug, "--reason", "x", "--dry-run")
    assert entries(operator, tenant) == []


def test_it_refuses_what_cannot_be(make_tenant, operator):
    closed = make_tenant(status="closed")
    for slug in (closed.slug, "nobody-here"):
        with pytest.raises(CommandError):
            run("suspend", slug, "--reason", "Why not.")
    with pytest.raises(CommandError):
        run("suspend", closed.slug)  # No reason.
    with pytest.raises(CommandError):
        run("make-key", "ci", "--scope", "everything", "--reason", "Reports.")
    with pytest.raises(CommandError):
        run("make-key", "ci")  # No reason.


def test_it_makes_and_revokes_platform_keys(client):
    token = run("make-key", "ci", "--scope", "tenants:read", "--reason", "Reports.")
    assert client.get("/v1/tenants", headers=bearer(token)).status_code == 200
    assert client.get("/v1/audit", headers=bearer(token)).status_code == 403
    assert run("revoke-key", token, "--reason", "Done.", "--dry-run").startswith("1 to revoke")
    assert client.get("/v1/tenants", headers=bearer(token)).status_code == 200
    assert run("revoke-key", token, "--reason", "Done.") == "Done."
    assert client.get("/v1/tenants", headers=bearer(token)).status_code == 401


def test_making_a_key_is_tried_and_says_why_in_the_trail(operator):
    name = f"ci {uuid.uuid4().hex}"
    make = ("make-key", name, "--reason", f"For {name}.")
    keys = "select prefix from tenants_platformkey where name = %s"
    assert "nothing was changed" in run(*make, "--scope", "tenants:read", "--dry-run")
    with pytest.raises(CommandError):
        run(*make, "--scope", "everything", "--dry-run")
    assert operator.execute(keys, [name]).fetchall() == []
    run(*make)
    [(prefix,)] = operator.execute(keys, [name]).fetchall()
    told = "select reason from tenants_auditentry where target = %s"
    [(reason,)] = operator.execute(told, [f"platform_key:{prefix}"]).fetchall()
    assert reason == f"For {name}."


def test_it_shows_where_one_stands(tenant):
    shown = json.loads(run("show", tenant.slug, "--json"))
    assert (shown["id"], shown["status"]) == (f"tnt_{tenant.uuid}", "active")
    assert (shown["open_works"], shown["plan_move"], shown["purge"]) == ({}, None, None)
    assert json.loads(run("show", shown["id"], "--json")) == shown
    assert f"slug              {tenant.slug}" in run("show", tenant.slug)


def test_it_hands_an_export_to_the_workers(tenant):
    assert "nothing was changed" in run("export", tenant.slug, "--reason", "x", "--dry-run")
    assert not Export.objects.using("operator").filter(tenant_id=tenant.pk).exists()
    said = json.loads(run("export", tenant.slug, "--reason", "Moves away.", "--json"))
    made = Export.objects.using("operator").get(tenant_id=tenant.pk)
    assert (said["id"], said["status"]) == (f"exp_{made.pk}", "pending")


def test_it_writes_an_archive_itself(tenant, tmp_path, operator):
    path = tmp_path / "all.zip"
    said = json.loads(
        run("export", tenant.slug, "--reason", "Moves.", "--file", str(path), "--json")
    )
    manifest = json.loads(zipfile.ZipFile(path).read("manifest.json"))
    assert manifest["files"] == said["files"]
    assert (path.stat().st_mode & 0o777, list(tmp_path.iterdir())) == (0o600, [path])
    with pytest.raises(CommandError, match="there already"):
        run("export", tenant.slug, "--reason", "Moves.", "--file", str(path))
    assert entries(operator, tenant) == [("tenant.export_taken", "Moves.")]


def test_it_closes_with_grace_and_reopens(tenant, operator):
    counted = json.loads(run("close", tenant.slug, "--reason", "x", "--dry-run", "--json"))
    assert counted == {"status": "active", "rows": {"public.tenants_domain": 1}}
    assert run("close", tenant.slug, "--reason", "Asked.").startswith("It is closing; closes at")
    assert "was so already" in run("close", tenant.slug, "--reason", "Asked.")
    assert run("reopen", tenant.slug, "--reason", "Changed their mind.") == "Done."
    assert entries(operator, tenant) == [
        ("tenant.closing", "Asked."),
        ("tenant.reopened", "Changed their mind."),
    ]


def test_closing_at_once_needs_a_second_word(tenant):
    close = ("close", tenant.slug, "--reason", "Asked.", "--now")
    with pytest.raises(CommandError) as refused:
        run(*close, "--confirm", "another")
    assert refused.value.returncode == 2
    with pytest.raises(CommandError, match="no terminal"):
        run(*close)
    assert json.loads(run("show", tenant.slug, "--json"))["status"] == "active"
    said = json.loads(run(*close, "--confirm", tenant.slug, "--json"))
    assert (said["changed"], said["status"]) == (True, "closing")


def test_it_erases_a_person(tenant):
    user, _ = make_user(tenant), make_user(tenant)
    erase = ("erase-person", user.email, "--reason", "Asked for it.")
    assert json.loads(run(*erase, "--dry-run", "--json"))["tenants"] == 1
    with pytest.raises(CommandError, match="no terminal"):
        run(*erase)
    assert run(*erase, "--yes") == "Erased."
    with pytest.raises(CommandError, match="no such person"):
        run(*erase, "--yes")


def test_it_gives_another_plan(tenant, settings):
    settings.SLIPWAY = settings.SLIPWAY | {
        "PLANS": settings.SLIPWAY["PLANS"] | {"plus": {"home": "pooled"}}
    }
    assert "nothing was changed" in run("plan", tenant.slug, "plus", "--reason", "x", "--dry-run")
    said = json.loads(run("plan", tenant.slug, "plus", "--reason", "Upgraded.", "--json"))
    assert (said["status"], said["phase"]) == ("finished", "done")
    assert json.loads(run("show", tenant.slug, "--json"))["plan"] == "plus"
    with pytest.raises(CommandError):
        run("plan", tenant.slug, "golden", "--reason", "Upgraded.")


def test_trying_a_plan_refuses_what_the_act_would_refuse(tenant, make_tenant):
    closing = make_tenant(status="closing")
    for slug, plan, why in (
        (tenant.slug, "golden", "no such plan"),
        (tenant.slug, "free", "has this plan"),
        (closing.slug, "pro", "It is closing"),
    ):
        for more in ([], ["--dry-run"]):
            with pytest.raises(CommandError, match=why):
                run("plan", slug, plan, "--reason", "Upgraded.", *more)
    tried = run("plan", tenant.slug, "pro", "--reason", "Upgraded.", "--dry-run")
    assert tried.startswith("It has free (pooled), and can have pro (dedicated); nothing")


def test_it_tidies_up():
    assert run("tidy", "--dry-run").endswith("nothing was changed.")
    assert set(json.loads(run("tidy", "--json"))) == {"archives", "addresses", "moves"}


@pytest.mark.thorough
def test_tidying_ends_a_move_that_was_cancelled(client, tenant, engine, operator, monkeypatch):
    """Without beat too: its triggers are gone, and another one may begin."""
    removal = Removal(client, tenant, engine, operator)
    step_by_step(monkeypatch)
    removal.ask("pro")
    removal.until("switch")
    assert removal.triggers() > 0
    open_moves = lambda: json.loads(run("tidy", "--dry-run", "--json"))["moves"]  # noqa: E731
    before = open_moves()
    services.cancel(queue="jobs", work_id=removal.move.pk, actor="system:test", reason="Mistake.")
    (report,) = doctor.examine(["moves"])
    told = [one for one in report.findings if f"mov_{removal.move.pk}" in one.said]
    assert [one.level for one in told] == [doctor.Level.WARN]
    assert "tenants tidy" in told[0].do
    assert open_moves() == before + 1
    assert removal.triggers() > 0
    assert json.loads(run("tidy", "--json"))["moves"] >= 1
    assert (removal.triggers(), removal.move.status) == (0, "abandoned")
    assert removal.tenant.home == "pooled"
    assert open_moves() == 0
