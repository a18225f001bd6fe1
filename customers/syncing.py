"""Pulling a source's customers, page by page.

The job asks for a page, judges its items, and writes them with the cursor of the next page in one
transaction, fenced by its lease: killed anywhere, it goes on behind what it wrote.
"""

import time
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import IntegrityError, connection, transaction
from django.db.models import F
from django.db.models.functions import Coalesce, Now
from django.utils import timezone

from config.problems import Problem
from customers.errors import (
    AlreadyFinished,
    AlreadySyncing,
    BadFile,
    SourceNotFound,
    SyncNotFound,
)
from customers.importing import one_at_a_time
from customers.jobless import stuck
from customers.models import RejectedItem, Source, Sync
from customers.pulling import Failed, Page, Refused, Throttled, body_of, pull
from customers.serializers.imports import fields_of, reason_of
from customers.upserting import upsert
from jobs.fence import hold
from jobs.outcomes import Outcome, Retry, Snooze, Succeeded
from jobs.retry import RetryPolicy
from jobs.services import enqueue
from jobs.steps import Claim
from tenants import audit
from tenants.context import tenant_context

KIND = "customers.sync"
LANE = "syncs"
STRETCH = 20.0  # Seconds at a time; then others' jobs have their turn.
PATIENCE = timedelta(days=1)  # With a source that answers 429 and nothing else.
POLICY = RetryPolicy(attempts=10, base=5.0, cap=900.0)
JOB_DIED = "The job died, and nobody went on with it."


def begin(*, source_id: UUID, actor: str) -> Sync:
    """Pull all that a source has, in the background.

    Raises SourceNotFound, AlreadySyncing.
    """
    with transaction.atomic():
        source = Source.objects.select_for_update().filter(pk=source_id).first()
        if source is None:
            raise SourceNotFound
        made = start(source, actor=actor)
        if made is None:
            raise AlreadySyncing
    made.refresh_from_db()
    return made


def start(source: Source, *, actor: str) -> Sync | None:
    """As `begin`, in the caller's transaction, which has locked the source; None: one is open."""
    _forget_old()
    waiting = source.syncs.filter(finished_at=None)
    waiting.filter(pk__in=stuck(waiting)).update(error=JOB_DIED, finished_at=Now())
    made = Sync(source=source, actor=actor)
    try:
        with transaction.atomic():
            made.save(force_insert=True)
    except IntegrityError:
        return None
    args = {"sync": str(made.pk)}
    enqueue(KIND, tenant_id=made.tenant_id, args=args, lane=LANE, once=made.pk)
    _record(made, "sync.begun", actor, {"source": str(source.pk)})
    return made


def cancel(*, source_id: UUID, sync_id: UUID, actor: str) -> None:
    """Pull no more of it: what was written stays. The page on its way is not written.

    Raises SyncNotFound, AlreadyFinished.
    """
    with transaction.atomic():
        rows = Sync.objects.filter(pk=sync_id, source=source_id)
        found = rows.select_for_update().first()
        if found is None:
            raise SyncNotFound
        if found.finished_at is not None:
            raise AlreadyFinished
        rows.update(cancelled_at=Now(), finished_at=Now())
        _record(found, "sync.cancelled", actor, {"read": found.read})


def run(claim: Claim) -> Outcome:
    """The job `customers.sync`."""
    reserve = settings.SLIPWAY["CUSTOMERS"]["sync_timeout"] + STRETCH
    ends_at = min(time.monotonic() + STRETCH, claim.deadline - reserve)
    sync_id = UUID(claim.data["args"]["sync"])
    with tenant_context(claim.tenant):
        while True:
            found = Sync.objects.select_related("source").filter(pk=sync_id).first()
            if found is None or found.finished_at is not None:
                return Succeeded()
            if (outcome := _one_page(claim, found)) is not None:
                return outcome
            if time.monotonic() >= ends_at:
                return Snooze(0.0, "there is more to do")


def _one_page(claim: Claim, found: Sync) -> Outcome | None:
    """Pull and write the next page; None when it was not the last."""
    connection.close()  # Whoever waits for a stranger's answer holds none.
    try:
        page = pull(found.source, cursor=found.cursor)
    except Throttled as throttled:
        return _wait(claim, found, throttled)
    except Refused as refused:
        return _end(claim, found, str(refused))
    except Failed as failed:
        return _try_again(claim, found, failed)
    return Succeeded() if _write(claim, found, page) else None


def _write(claim: Claim, found: Sync, page: Page) -> bool:
    """One transaction; whether it was the last one."""
    taken, flaws = _judged(page.items, found.source.fields)
    number = found.pages + 1
    error = _flaw(found, page.cursor, number)
    ended = bool(error) or not page.cursor
    with transaction.atomic():
        hold(claim)
        row = Sync.objects.select_for_update().filter(pk=found.pk, finished_at=None)
        if not row.exists():
            return True
        one_at_a_time()
        written = upsert(taken, source=f"sync:{found.pk}")
        _reject(found, number, flaws)
        row.update(
            cursor="" if ended else page.cursor,
            # At pages 1, 2, 4, 8, …: any circle is found within a few of its rounds (Brent).
            mark=page.cursor if number & (number - 1) == 0 else found.mark,
            pages=number,
            read=F("read") + len(page.items),
            created=F("created") + written.created,
            updated=F("updated") + written.updated,
            unchanged=F("unchanged") + written.unchanged,
            rejected=F("rejected") + len(flaws),
            error=error,
            throttled_since=None,
            started_at=Coalesce("started_at", Now()),
            finished_at=Now() if ended else None,
        )
    return ended


def _flaw(found: Sync, cursor: str, number: int) -> str:
    """Why a sync cannot go on behind this page."""
    if cursor and cursor in (found.cursor, found.mark):
        return "The source goes in a circle: it gave a cursor that it had given before."
    most = settings.SLIPWAY["CUSTOMERS"]["sync_pages_most"]
    return f"The source has more than {most} pages." if cursor and number >= most else ""


def _judged(
    items: list[Any], fields: dict[str, str]
) -> tuple[list[dict[str, Any]], list[tuple[int, str]]]:
    """What is taken, and the index and reason of what is not."""
    taken, flaws = [], []
    for index, item in enumerate(items):
        try:
            taken.append(fields_of(body_of(item, fields)))
        except (Problem, BadFile) as problem:
            flaws.append((index, reason_of(problem)))
    return taken, flaws


def _reject(found: Sync, page: int, flaws: list[tuple[int, str]]) -> None:
    """Keep the first of them, as an import does."""
    room = max(0, int(settings.SLIPWAY["CUSTOMERS"]["rejected_most"]) - found.rejected)
    RejectedItem.objects.bulk_create(
        RejectedItem(of=found, page=page, number=found.read + index + 1, reason=reason)
        for index, reason in flaws[:room]
    )


def _wait(claim: Claim, found: Sync, throttled: Throttled) -> Outcome:
    """Later, and at no attempt's cost; in the end it has waited long enough."""
    since = found.throttled_since
    if since is not None and timezone.now() - since > PATIENCE:
        return _end(claim, found, "The source has answered 429 for a day.")
    _tell(claim, found, throttled_since=Coalesce("throttled_since", Now()), error=str(throttled))
    return Snooze(throttled.after, str(throttled))


def _try_again(claim: Claim, found: Sync, failed: Failed) -> Outcome:
    """The tenant is told in its own place: no operator could do anything about it."""
    if not POLICY.allows(claim.attempt - claim.forgiven, age=0.0):
        return _end(claim, found, f"{failed} It was tried {POLICY.attempts} times.")
    _tell(claim, found, error=str(failed)[:500])
    return Retry(str(failed), after=failed.after)


def _end(claim: Claim, found: Sync, error: str) -> Outcome:
    _tell(claim, found, error=error[:500], finished_at=Now())
    return Succeeded()


def _tell(claim: Claim, found: Sync, **columns: Any) -> None:
    with transaction.atomic():
        hold(claim)
        rows = Sync.objects.filter(pk=found.pk, finished_at=None)
        rows.update(started_at=Coalesce("started_at", Now()), **columns)


def _forget_old() -> None:
    kept = timedelta(days=settings.SLIPWAY["RETENTION"]["imports"])
    old = Sync.objects.filter(finished_at__lt=timezone.now() - kept)
    RejectedItem.objects.filter(of__in=old).delete()
    old.delete()


def _record(found: Sync, action: str, actor: str, after: dict[str, Any]) -> None:
    audit.record(
        actor=actor, action=action, target=f"sync:{found.pk}", tenant_id=found.tenant_id,
        after=after,
    )  # fmt: skip
