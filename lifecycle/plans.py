"""Another plan for a tenant. Between plans of one home it holds at once; to one of another home the
tenant's rows move first, while it goes on working (lifecycle.moving)."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connections, transaction

from config.ids import format_id, uuid7
from config.problems import FieldError
from jobs.errors import ReasonMissing
from jobs.models import Job
from jobs.services import enqueue
from jobs.states import State
from lifecycle.errors import PlanChanging, PlanUnchanged, PlanUnknown
from lifecycle.models import PlanMove
from tenants import audit, problems, services
from tenants.context import NOWHERE, TenantRef, tenant_context
from tenants.models import Tenant
from tenants.services import Door

KIND = "tenants.move"
LANE = "moves"  # Its own window: the tenant's other jobs go on beside it.

# Where a move's job does not go on by itself.
_NOBODYS = (State.DEAD_LETTER, State.DISCARDING, State.DISCARDED, State.CANCELLED)


def start(
    *, tenant_id: int, plan: str, actor: str, reason: str, door: Door | None = None
) -> PlanMove:
    """Give a tenant another plan, in the background where that means another home.

    Asked again while it goes on, or afterwards, it says how far that is, and begins nothing.
    Raises PlanUnknown, PlanUnchanged, PlanChanging, TenantNotFound, StaleState, ReasonMissing.
    """
    if not reason.strip():
        raise ReasonMissing("Say why: the audit trail keeps it.")
    home = _home_of(plan)
    door = door or Door()
    with tenant_context(TenantRef(tenant_id, NOWHERE)), transaction.atomic(using=door.alias):
        tenant = Tenant.objects.using(door.alias).filter(pk=tenant_id).first()
        if tenant is None:
            raise problems.TenantNotFound
        former = _former(tenant, plan, using=door.alias)
        if former is not None:
            return former
        move = uuid7()
        if not _write(door, move, tenant, plan, home, actor, reason[:500]):
            raise problems.StaleState(f"It is {tenant.status}, or was changed just now.")
        if home != tenant.home:
            enqueue(KIND, tenant_id=tenant_id, once=move, lane=LANE, using=door.alias)
        _record(tenant, plan, home, actor, reason, using=door.alias)
        made = PlanMove.objects.using(door.alias).get(pk=move)
    services.forget(tenant_id, door=door)
    return made


def look(*, tenant: Tenant, plan: str, using: str) -> str:
    """The home of a plan that `start` would give this tenant; changes nothing.

    Raises as it does, without a word on the reason.
    """
    home = _home_of(plan)
    if _former(tenant, plan, using=using) is None and tenant.status not in services.CLOSABLE:
        raise problems.StaleState(f"It is {tenant.status}.")
    return home


def latest(*, tenant_id: int, using: str) -> PlanMove | None:
    """The tenant's last change of plan. The app role asks inside the tenant's context."""
    rows = PlanMove.objects.using(using).filter(tenant_id=tenant_id)
    return rows.order_by("-id").first()


def stuck(moves: Sequence[PlanMove], *, using: str) -> set[UUID]:
    """Which of them nobody goes on with, though they are not at their end: their job is dead.

    The tenant works where it was, or, past `moved_at`, where it is to be. Once the job is replayed
    they go on; discarded, they are abandoned (lifecycle.moving.tending).
    """
    open_ones = [move.pk for move in moves if move.finished_at is None]
    if not open_ones:
        return set()
    jobs = Job.objects.using(using).filter(pk__in=open_ones, state__in=_NOBODYS)
    return set(jobs.values_list("pk", flat=True))


def _home_of(plan: str) -> str:
    plans: Mapping[str, Any] = settings.SLIPWAY["PLANS"]
    if plan not in plans:
        known = f"The plans are {', '.join(plans)}."
        raise PlanUnknown(errors=[FieldError("/plan", "plan_unknown", known)])
    home: str = plans[plan]["home"]
    return home


def _former(tenant: Tenant, plan: str, *, using: str) -> PlanMove | None:
    """The change that was asked for before and comes to the same, if there is one."""
    former = latest(tenant_id=tenant.pk, using=using)
    is_open = former is not None and former.finished_at is None
    if former is not None and former.plan_after == plan and (is_open or tenant.plan == plan):
        return former
    if is_open:
        raise PlanChanging(f"It is getting the plan {former.plan_after!r}.")  # type: ignore[union-attr]
    if tenant.plan == plan:
        raise PlanUnchanged
    return None


def _write(
    door: Door, move: UUID, tenant: Tenant, plan: str, home: str, actor: str, reason: str
) -> bool:
    """Write the change down if the tenant is still what was read of it."""
    what = [move, tenant.pk, tenant.plan, tenant.home, plan, home]
    with connections[door.alias].cursor() as cursor:
        if door.proof is None:
            cursor.execute(
                "select slipway.change_plan(%s, %s, %s, %s, %s, %s, %s, %s)",
                [*what, actor, reason],
            )
        else:
            cursor.execute(
                "select slipway.platform_change_plan(%s, %s, %s, %s, %s, %s, %s, %s, %s)",
                [door.proof.prefix, door.proof.digest, *what, reason],
            )
        written: bool = cursor.fetchone()[0]
    return written


def _record(tenant: Tenant, plan: str, home: str, actor: str, reason: str, *, using: str) -> None:
    moves = home != tenant.home
    audit.record(
        actor=actor,
        action="tenant.plan_changing" if moves else "tenant.plan_changed",
        target=format_id("tnt", tenant.uuid),
        tenant_id=tenant.pk,
        reason=reason,
        before={"plan": tenant.plan, "home": tenant.home},
        after={"plan": plan, "home": home},
        using=using,
    )
