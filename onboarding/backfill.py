"""Steps that were added later, for the tenants that exist: `manage.py backfill provisioning`."""

from argparse import ArgumentParser
from collections.abc import Iterator, Mapping
from typing import Any
from uuid import UUID

from django.db import connections, transaction

from jobs.outcomes import Fail, Outcome, Snooze, Succeeded
from jobs.services import enqueue
from jobs.steps import Claim
from onboarding import steps
from onboarding.models import PendingOnboarding
from onboarding.steps.step import Context
from onboarding.steps.welcome import LATER, send
from tenants import audit
from tenants.context import tenant_context
from tenants.models import Membership, Tenant
from tenants.states import TenantStatus

# Active tenants that came by a sign-up, and whose ledger does not hold the step.
_MISSING = """
select o.id, o.tenant_id, o.slug from onboarding_pendingonboarding o
join tenants_tenant t on t.id = o.tenant_id
where o.state = 'succeeded' and t.status in ('active', 'suspended')
  and not exists (select from onboarding_provisionedresource r
                  where r.tenant_id = o.tenant_id and r.step = %s)
  and not exists (select from jobs_job j
                  where j.tenant_id = o.tenant_id and j.kind = 'onboarding.step'
                    and j.args ->> 'step' = %s and j.finished_at is null)
order by o.tenant_id
"""

_LEAVING = (TenantStatus.CLOSING, TenantStatus.CLOSED)


class Provisioning:
    """The backfill `provisioning`: one job for each tenant that lacks the step."""

    help = "Run a provisioning step for the tenants that do not have it yet."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--step", required=True, help="The step's name.")

    def find(self, options: Mapping[str, Any]) -> list[Any]:
        """The tenants that lack it. Raises LookupError when there is no such step."""
        name = options["step"]
        if steps.step_named(name) is None:
            raise LookupError(f"There is no step {name!r}.")
        with connections["operator"].cursor() as cursor:
            cursor.execute(_MISSING, [name, name])
            return list(cursor.fetchall())

    def fill(self, found: list[Any], options: Mapping[str, Any], *, actor: str) -> Iterator[str]:
        """Enqueue a job for each; yields each tenant's slug as it is done."""
        for request_id, tenant_id, slug in found:
            _enqueue(request_id, tenant_id, options["step"], actor=actor, reason=options["reason"])
            yield slug


def run_step(claim: Claim) -> Outcome:
    """The job `onboarding.step`: one step for one tenant; nothing, when the ledger holds it."""
    name = claim.data["args"]["step"]
    step = steps.step_named(name)
    if step is None:
        return Fail(f"there is no step {name!r}")
    ctx = _still_there(claim)
    if ctx is None:
        return Succeeded()
    with tenant_context(ctx.ref):
        if not step.applies_to(ctx):
            return Succeeded()
        return steps.perform(step, ctx, claim) or Succeeded()


def send_welcome(claim: Claim) -> Outcome:
    """The job `onboarding.welcome`: the mail that had to wait, or was asked for again.

    One that was asked for again, and finds that the address had another in the meantime, is enough.
    """
    again = bool(claim.data["args"].get("again"))
    ctx = _still_there(claim)
    if ctx is None:
        return Succeeded()
    try:
        with tenant_context(ctx.ref):
            verdict = send(ctx, mail=claim.id if again else None)
    except Membership.DoesNotExist:  # Undone, or the owner removed, in the meantime.
        return Succeeded()
    if verdict == "later" and not again:
        return Snooze(LATER.total_seconds(), "another welcome mail went to the address today")
    return Succeeded()


def _still_there(claim: Claim) -> Context | None:
    """What the job is about; None when its sign-up or tenant is gone, or on its way out."""
    try:
        ctx: Context = steps.context_of(claim)
    except PendingOnboarding.DoesNotExist:
        return None
    with tenant_context(ctx.ref):
        tenants = Tenant.objects.filter(pk=ctx.tenant_id)
        gone = not tenants.exclude(status__in=_LEAVING).exists()
    return None if gone else ctx


def _enqueue(request_id: UUID, tenant_id: int, step: str, *, actor: str, reason: str) -> None:
    with transaction.atomic(using="operator"):
        enqueue(
            "onboarding.step",
            tenant_id=tenant_id,
            args={"request_id": str(request_id), "step": step},
            using="operator",
        )
        audit.record(
            actor=actor,
            action="onboarding.backfilled",
            target=f"onboarding:{request_id}",
            tenant_id=tenant_id,
            reason=reason,
            after={"step": step},
            using="operator",
        )
