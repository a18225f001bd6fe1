"""The way from a sign-up to a tenant: which steps, in which order, and the loop that runs them."""

import time
from collections.abc import Mapping
from functools import cache as cached  # A step is called `cache` here.
from typing import Any, cast

from django.conf import settings
from django.utils.module_loading import import_string

from jobs.errors import LeaseLost
from jobs.outcomes import Fail, Outcome, Retry, Snooze, Succeeded
from jobs.steps import Claim
from onboarding import ledger
from onboarding.errors import NotOurs
from onboarding.ledger import Resource
from onboarding.models import PendingOnboarding
from onboarding.redaction import redact
from onboarding.steps.analytics import Analytics
from onboarding.steps.announce import Announce
from onboarding.steps.cache import Cache
from onboarding.steps.http import HttpStep
from onboarding.steps.owner import Owner
from onboarding.steps.schema import Schema
from onboarding.steps.step import Context, NotYet, Step, tenant_uuid
from onboarding.steps.storage import Storage
from onboarding.steps.tenant import TenantStep
from onboarding.steps.welcome import Welcome
from onboarding.steps.workspace import Workspace
from tenants.context import tenant_context

IN_USE = Fail("undo: the tenant is in use")  # Its owner came first.
_SPARE = 1.0  # Seconds before the deadline in which no further step is begun.


@cached
def all_steps() -> tuple[Step, ...]:
    """Every step, in order. The project's own come when all else is there, and nobody knows."""
    own = own_steps()
    before = (TenantStep(), Owner(), Schema(), Storage(), Workspace(), Analytics())
    return (*before, *own, Cache(), Welcome(), Announce())


def own_steps() -> tuple[Step, ...]:
    """The project's own, in order: SLIPWAY["PROVISIONING_STEPS"]."""
    return tuple(map(_own_step, settings.SLIPWAY["PROVISIONING_STEPS"]))


def steps_for(ctx: Context) -> list[Step]:
    """The steps that this tenant needs."""
    return [step for step in all_steps() if step.applies_to(ctx)]


def step_names(home: str) -> list[str]:
    """What the public is told of the way: names, in order."""
    return [step.name for step in all_steps() if step.name != Schema.name or home == "dedicated"]


def step_named(name: str) -> Step | None:
    """The step of this name."""
    return next((step for step in all_steps() if step.name == name), None)


def run(claim: Claim) -> Outcome:
    """Run the steps that the ledger does not hold yet. The engine's step for queue `onboarding`."""
    ctx = context_of(claim)
    with tenant_context(ctx.ref):
        done = ledger.recorded(claim.tenant_id)
        if claim.attempt > 1 and TenantStep.name in done:
            ledger.resume(claim)
        for step in steps_for(ctx):
            if step.name in done:
                continue
            if time.monotonic() > claim.deadline - _SPARE:
                return Snooze(0.0, f"out of time before {step.name}")
            outcome = perform(step, ctx, claim)
            if outcome is not None:
                return outcome
    return Succeeded()


def undo(claim: Claim) -> Outcome:
    """Unmake everything, last thing first; the engine then frees the address.

    Steps that the ledger does not hold are undone too: one may have been killed between its effect
    and its record, and only the world knows. The tenant is closed before anything is destroyed, so
    that its owner's click comes either before, and then nothing is undone, or too late.
    """
    ctx = context_of(claim)
    with tenant_context(ctx.ref):
        if not ledger.close(claim):
            return IN_USE
        recorded = ledger.recorded(claim.tenant_id)
        for step in reversed(steps_for(ctx)):
            outcome = _undo(step, ctx, claim, recorded.get(step.name))
            if outcome is not None:
                return outcome
    return Succeeded()


def perform(step: Step, ctx: Context, claim: Claim) -> NotYet | None:
    """Observe, apply, record: None when the ledger holds it, or why it does not yet."""
    try:
        made = _outside(step, ctx, claim) if step.outside else _inside(step, ctx, claim)
        if isinstance(made, Resource):
            step.after_commit(ctx)
            return None
        return made
    except LeaseLost:
        raise
    except NotOurs as error:
        return Fail(f"{step.name}: {error}")
    except Exception as error:
        # Whatever it is: the operator must be told in which step it was.
        return Retry(describe(step, error, ctx))


def describe(step: Step, error: Exception, ctx: Context) -> str:
    """The error as operators read it, without the owner's address, which servers like to quote."""
    return redact(f"{step.name}: {type(error).__name__}: {error}", email=ctx.email)


def context_of(claim: Claim) -> Context:
    """What the steps of this claim may know: the sign-up's own row.

    A job (onboarding.backfill) names the sign-up in its arguments.
    """
    arguments: Mapping[str, Any] = claim.data.get("args") or {}
    with tenant_context(claim.tenant):
        row = PendingOnboarding.objects.get(pk=arguments.get("request_id", claim.id))
    return context_for(row)


def context_for(row: PendingOnboarding) -> Context:
    """What steps may know of a sign-up."""
    return Context(
        root=row.pk,
        tenant_id=cast("int", row.tenant_id),  # Never null; django-stubs cannot know.
        tenant_uuid=tenant_uuid(row.pk),
        slug=row.slug,
        tenant_name=row.tenant_name,
        email=row.email,
        plan=row.plan,
        home=row.home,
        external_id=row.external_id,
        metadata=row.metadata,
        locale=row.locale,
        time_zone=row.time_zone,
        caller=row.caller,
        created_at=row.created_at,
    )


def _inside(step: Step, ctx: Context, claim: Claim) -> Resource | NotYet:
    """A step on our own tables: what it does and that it did it are one transaction."""
    with ledger.fenced(claim):
        made = step.observe(ctx) or step.apply(ctx)
        if isinstance(made, Resource):
            ledger.record(claim, root=ctx.root, step=step.name, resource=made)
    return made


def _outside(step: Step, ctx: Context, claim: Claim) -> Resource | NotYet:
    """A step on the world: no transaction and no connection of ours is held while it waits."""
    ledger.let_go()
    made = step.observe(ctx) or step.apply(ctx)
    if isinstance(made, Resource):
        with ledger.fenced(claim):
            ledger.record(claim, root=ctx.root, step=step.name, resource=made)
    return made


def _undo(step: Step, ctx: Context, claim: Claim, recorded: Resource | None) -> NotYet | None:
    try:
        if step.outside:
            ledger.let_go()
            step.undo(ctx, recorded)
        with ledger.fenced(claim):
            if not step.outside:
                step.undo(ctx, recorded)
            ledger.strike(claim, step=step.name)
        step.after_undo(ctx)
    except LeaseLost:
        raise
    except NotOurs as error:
        return Fail(f"undo {step.name}: {error}")
    except Exception as error:
        return Retry(f"undo {describe(step, error, ctx)}")
    return None


def _own_step(spec: Mapping[str, Any]) -> Step:
    """An entry of PROVISIONING_STEPS: a dotted path to a Step class, or an address to call."""
    if "step" in spec:
        step: Step = import_string(spec["step"])()
        step.name = spec["name"]
        return step
    return HttpStep(name=spec["name"], url=spec["url"], secret=spec["secret"])
