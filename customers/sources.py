"""The places from which a tenant's customers are pulled: made, changed, deleted, and when."""

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4, uuid5

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models.functions import Now
from django.utils import timezone
from yarl import URL

from config.problems import FieldError, InvalidRequest
from customers.errors import SourceNameTaken, SourceNotFound, TooManySources
from customers.models import Source
from customers.syncing import LANE, start
from jobs.fence import hold
from jobs.outcomes import Outcome, Succeeded
from jobs.services import enqueue
from jobs.steps import Claim
from tenants import audit
from tenants.context import tenant_context
from webhooks import custom_headers
from webhooks.destinations import check_url

KIND = "customers.sync_due"
ACTOR = "system:schedule"


def create(*, fields: dict[str, Any], actor: str) -> Source:
    """Add a source. `fields` are those of SourceWish.

    Raises TooManySources, SourceNameTaken.
    """
    most = settings.SLIPWAY["CUSTOMERS"]["sources_most"]
    if Source.objects.count() >= most:
        raise TooManySources(f"At most {most}.")
    made = Source()
    _set(made, fields)
    try:
        with transaction.atomic():
            made.save(force_insert=True)
            _record(made, "source.created", actor, fields)
            _schedule(made, fields)
    except IntegrityError as error:
        _explain(error)
        raise
    made.refresh_from_db()
    return made


def change(*, source_id: UUID, fields: dict[str, Any], actor: str) -> Source:
    """Change the named fields and no others; a sync that is under way goes on with them.

    Raises SourceNotFound, SourceNameTaken; InvalidRequest when it moves to another host and its
    headers are not sent again: they are often credentials, and were meant for the first one.
    """
    try:
        with transaction.atomic():
            found = _locked(source_id)
            _keep_headers_at_home(found, fields)
            _set(found, fields)
            found.updated_at = Now()
            found.save()
            _record(found, "source.changed", actor, fields)
            _schedule(found, fields)
    except IntegrityError as error:
        _explain(error)
        raise
    found.refresh_from_db()
    return found


def delete(*, source_id: UUID, actor: str) -> None:
    """Forget a source and its syncs; its customers stay.

    Raises SourceNotFound.
    """
    with transaction.atomic():
        found = _locked(source_id)
        _record(found, "source.deleted", actor, {})
        found.delete()


def run_due(claim: Claim) -> Outcome:
    """The job `customers.sync_due`: begin a sync, and see to the next turn.

    Run twice it does the same: the next turn's job has an id of its own, made from this one's.
    """
    args = claim.data["args"]
    with tenant_context(claim.tenant), transaction.atomic():
        hold(claim)
        rows = Source.objects.filter(pk=UUID(args["source"]), series=UUID(args["series"]))
        found = rows.select_for_update().first()
        if found is not None and found.every is not None:
            start(found, actor=ACTOR)  # One that is still open has this turn, too.
            _plan(found, int(args["turn"]) + 1)
    return Succeeded()


def _set(source: Source, fields: dict[str, Any]) -> None:
    for name, value in fields.items():
        if name == "headers":
            source.headers = custom_headers.merged(source.headers, value)
        else:
            setattr(source, name, check_url(value) if name == "url" else value)


def _schedule(source: Source, fields: dict[str, Any]) -> None:
    """Begin a series of turns, or end it: the jobs of another one do nothing."""
    if "every" not in fields:
        return
    source.series = uuid4() if source.every else None
    Source.objects.filter(pk=source.pk).update(series=source.series)
    if source.every:
        _plan(source, 0)


def _plan(source: Source, turn: int) -> None:
    if source.series is None or source.every is None:
        return
    args = {"source": str(source.pk), "series": str(source.series), "turn": turn}
    enqueue(
        KIND,
        tenant_id=source.tenant_id,
        args=args,
        lane=LANE,
        due_at=timezone.now() + timedelta(minutes=source.every),
        once=uuid5(source.series, str(turn)),
    )


def _locked(source_id: UUID) -> Source:
    found = Source.objects.select_for_update().filter(pk=source_id).first()
    if found is None:
        raise SourceNotFound
    return found


def _keep_headers_at_home(found: Source, fields: dict[str, Any]) -> None:
    if not found.headers or "url" not in fields:
        return
    there = set(map(str.lower, custom_headers.names(found.headers)))
    again = {name.lower() for name in fields.get("headers", ())}
    if URL(check_url(fields["url"])).origin() != URL(found.url).origin() and there - again:
        message = "They were meant for another host: send each again, or null."
        raise InvalidRequest(errors=[FieldError("/headers", "required", message)])


def _record(source: Source, action: str, actor: str, fields: dict[str, Any]) -> None:
    audit.record(
        actor=actor,
        action=action,
        target=f"source:{source.pk}",
        tenant_id=source.tenant_id,
        after={"fields": sorted(fields)},
    )


def _explain(error: IntegrityError) -> None:
    """Raises SourceNameTaken where that is what the database refused."""
    if "customer_source_name" in str(error):
        raise SourceNameTaken from None
