"""Acts on everything that a list's filter finds: begun by a click, done in the background.

`begin` writes what is to be done and a job for it, in one transaction: nothing is gone through
while somebody waits. The job reads the filter as the list would, as the operator who asked, and
goes on by key, one transaction for each chunk, which writes how far it is: killed anywhere, it goes
on behind the last chunk. What came after it was asked for is left alone. The audit trail has one
entry for the whole, and one for each work, as if it had been the only one.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.apps import apps
from django.contrib import admin
from django.core.exceptions import FieldDoesNotExist
from django.db import transaction
from django.db.models import F, Model, QuerySet
from django.db.models.functions import Coalesce, Now
from django.http import Http404, HttpRequest, QueryDict
from django.urls import reverse
from structlog.contextvars import bound_contextvars, get_contextvars

from config.admin.acting import Acting
from config.admin.acts import Act, Asked, actor_of
from console.models import Bulk
from jobs import replaying, services
from jobs.errors import ReasonMissing, StaleState
from jobs.fence import hold
from jobs.outcomes import Fail, Outcome, Snooze, Succeeded
from jobs.pruning import Sort
from jobs.resolving import CHUNK
from jobs.services import OPERATOR, enqueue
from jobs.steps import Claim
from tenants import audit
from tenants.context import PLATFORM_ID
from tenants.models import User
from tenants.routers import as_operator

KIND = "console.bulk"
PACE = replaying.PACE  # Works a second.
STRETCH = replaying.STRETCH  # Seconds at a time; then others' jobs have their turn.
ENDED = Sort("bulk", "console_bulk", "works", "finished_at", "r.finished_at < %(before)s")


class NotToBeDone(Exception):
    """It cannot go on: its act is gone, or its operator may do it no more."""


@dataclass(frozen=True, slots=True)
class Task:
    """What is to be done, read from its row: the act, and all rows that it is for."""

    act: Act
    asked: Asked
    found: QuerySet[Any]


def begin(
    *,
    once: UUID,
    model: type[Model],
    act: Act,
    query: str,
    asked: Asked,
    user: Any,
    counted: tuple[int, bool],
) -> str:
    """Have an act done to all that a filter finds; the address of the page that shows how far.

    `once` is the same for two clicks: the second begins nothing. Raises ReasonMissing.
    """
    if not asked.reason.strip():
        raise ReasonMissing("Say why: the audit trail keeps it.")
    columns = {
        "model": model._meta.label_lower,
        "act": act.name,
        "filter": query,
        "values": dict(asked.values),
        "user": user,
        "reason": asked.reason[:500],
        "request_id": str(get_contextvars().get("request_id", ""))[:64],
        "total": counted[0],
        "capped": counted[1],
    }
    with transaction.atomic(using=OPERATOR):
        bulk, made = Bulk.objects.using(OPERATOR).get_or_create(pk=once, defaults=columns)
        if made:
            enqueue(
                KIND,
                tenant_id=PLATFORM_ID,
                args={"bulk": str(bulk.pk)},
                once=bulk.pk,
                lane=f"bulk:{bulk.pk}",
                using=OPERATOR,
            )
            told = {"act": act.name, "model": bulk.model, "filter": query, "total": bulk.total}
            _record(bulk, "bulk.begun", asked.actor, asked.reason, told)
    return reverse("admin:console_bulk_change", args=[once])


def cancel(*, bulk: Bulk, actor: str, reason: str) -> None:
    """Do no more of it: what was done stays done. The chunk that runs just now is the last.

    Raises StaleState when it is at its end already, ReasonMissing.
    """
    if not reason.strip():
        raise ReasonMissing("Say why: the audit trail keeps it.")
    with transaction.atomic(using=OPERATOR):
        rows = Bulk.objects.using(OPERATOR).filter(pk=bulk.pk, finished_at=None)
        if not rows.update(cancelled_at=Now(), finished_at=Now()):
            raise StaleState("it is at its end.")
        bulk.refresh_from_db(using=OPERATOR)
        _record(bulk, "bulk.cancelled", actor, reason, {"done": bulk.done})


def go_on(*, bulk: Bulk, actor: str, reason: str) -> None:
    """Let one that is stuck go on where it was. Raises StaleState, ReasonMissing."""
    services.replay_work(queue="jobs", work_id=bulk.pk, actor=actor, reason=reason)


def stuck(bulks: Sequence[Bulk]) -> set[UUID]:
    """Which of them nobody goes on with, though they are not at their end: their job is dead."""
    return replaying.stuck(bulks, using=OPERATOR)


def run(claim: Claim) -> Outcome:
    """The job `console.bulk`."""
    ends_at = min(time.monotonic() + STRETCH, claim.deadline - STRETCH)
    with as_operator():
        bulk = Bulk.objects.filter(pk=claim.data["args"]["bulk"]).first()
        if bulk is None:
            return Succeeded()
        try:
            task = read(bulk)
        except NotToBeDone as error:
            return Fail(str(error))
        with bound_contextvars(request_id=bulk.request_id):
            while time.monotonic() < ends_at:
                began_at = time.monotonic()
                if _one_chunk(claim, bulk.pk, task):
                    return Succeeded()
                time.sleep(max(0.0, CHUNK / PACE - (time.monotonic() - began_at)))
    return Snooze(0.0, "there is more to do")


def read(bulk: Bulk) -> Task:
    """What a row says is to be done, and whether its operator still may.

    Raises NotToBeDone.
    """
    user = User.objects.using(OPERATOR).filter(pk=bulk.user_id).first()
    try:
        of = _admin_of(bulk.model)
        act = of.act_named(bulk.act)
        allowed = user is not None and user.is_active and user.is_staff and act.allowed(user)
        if not allowed or act.chunk is None:
            raise NotToBeDone(f"{bulk.act} may not be done by whoever asked for it.")
        request = HttpRequest()
        request.method, request.GET = "GET", QueryDict(bulk.filter)
        request.user = user  # type: ignore[assignment]
        request.as_of = bulk.created_at  # type: ignore[attr-defined]
        found = _made_before(bulk, of.found(request, act))
    except (Http404, LookupError) as error:
        raise NotToBeDone(f"{bulk.act} or its filter is not known any more.") from error
    return Task(act, Asked(actor_of(user), bulk.reason, bulk.values), found)


def _admin_of(label: str) -> Acting:
    found = admin.site._registry[apps.get_model(label)]
    if not isinstance(found, Acting):
        raise LookupError(label)
    return found


def _made_before(bulk: Bulk, found: QuerySet[Any]) -> QuerySet[Any]:
    """Without what came later: what fails again behind us is not done again without end."""
    try:
        found.model._meta.get_field("created_at")
    except FieldDoesNotExist:
        return found
    return found.filter(created_at__lte=bulk.created_at)


def _one_chunk(claim: Claim, bulk_id: UUID, task: Task) -> bool:
    """Do the next chunk; whether that was the end."""
    with transaction.atomic(using=OPERATOR):
        hold(claim, using=OPERATOR)
        rows = Bulk.objects.using(OPERATOR).filter(pk=bulk_id)
        bulk = rows.select_for_update().get()
        if bulk.finished_at is not None:
            return True
        ids = _next(task.found, bulk.place)
        done = _do(task, ids)
        ended = len(ids) < CHUNK
        rows.update(
            done=F("done") + done,
            skipped=F("skipped") + len(ids) - done,
            place=str(ids[-1]) if ids else bulk.place,
            started_at=Coalesce("started_at", Now()),
            finished_at=Now() if ended else None,
        )
    return ended


def _next(found: QuerySet[Any], place: str) -> list[Any]:
    rows = found.using(OPERATOR)
    if place:
        rows = rows.filter(pk__gt=found.model._meta.pk.to_python(place))
    return list(rows.order_by("pk").values_list("pk", flat=True)[:CHUNK])


def _do(task: Task, ids: Sequence[Any]) -> int:
    if not ids or task.act.chunk is None:
        return 0
    rows = task.found.model._base_manager.using(OPERATOR).filter(pk__in=ids)
    return task.act.chunk(rows, task.asked)


def _record(bulk: Bulk, action: str, actor: str, reason: str, after: Mapping[str, Any]) -> None:
    audit.record(
        actor=actor,
        action=action,
        target=f"bulk:{bulk.pk}",
        reason=reason,
        after=after,
        using=OPERATOR,
    )
