"""What operators do from a terminal."""

import json
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from tests.people import bearer


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
        run("make-key", "ci", "--scope", "everything")


def test_it_makes_and_revokes_platform_keys(client):
    token = run("make-key", "ci", "--scope", "tenants:read")
    assert client.get("/v1/tenants", headers=bearer(token)).status_code == 200
    assert client.get("/v1/audit", headers=bearer(token)).status_code == 403
    assert run("revoke-key", token, "--reason", "Done.", "--dry-run").startswith("1 to revoke")
    assert client.get("/v1/tenants", headers=bearer(token)).status_code == 200
    assert run("revoke-key", token, "--reason", "Done.") == "Done."
    assert client.get("/v1/tenants", headers=bearer(token)).status_code == 401
