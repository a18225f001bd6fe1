"""Segments: filters with a name. The only writer of them, in the current tenant's context.

What a campaign has of a segment is its own copy: a segment is changed and deleted freely.
"""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import IntegrityError, connection, transaction
from django.db.models.functions import Now

from campaigns.errors import NameTaken, SegmentNotFound, TooManySegments
from campaigns.filters import Filter, parse
from campaigns.models import Segment
from tenants import audit
from tenants.context import require_tenant

__all__ = ["Filter", "change", "create", "delete", "find", "parse"]


def find(segment_id: UUID) -> Segment:
    """A segment of the current tenant's. Raises SegmentNotFound."""
    return _found(segment_id, lock=False)


def create(*, name: str, filter: Any, actor: str) -> Segment:
    """Keep a filter under a name. Raises InvalidFilter, NameTaken, TooManySegments."""
    parse(filter)
    made = Segment(tenant_id=require_tenant().id, name=name, filter=filter)
    try:
        with transaction.atomic():
            _refuse_too_many()
            made.save(force_insert=True)
            _record(made, "segment.created", actor, after={"name": name})
            made.refresh_from_db()  # The database's own times.
    except IntegrityError as error:
        _explain(error)
        raise
    return made


def change(*, segment_id: UUID, fields: Mapping[str, Any], actor: str) -> Segment:
    """Change its `name`, its `filter` or both.

    Raises SegmentNotFound, InvalidFilter, NameTaken.
    """
    if "filter" in fields:
        parse(fields["filter"])
    try:
        with transaction.atomic():
            segment = _found(segment_id, lock=True)
            before = {"name": segment.name}
            for name in fields.keys() & {"name", "filter"}:
                setattr(segment, name, fields[name])
            segment.updated_at = Now()
            segment.save(update_fields=["name", "filter", "updated_at"])
            after = {"name": segment.name, "changed": sorted(fields)}
            _record(segment, "segment.changed", actor, before=before, after=after)
            segment.refresh_from_db()
    except IntegrityError as error:
        _explain(error)
        raise
    return segment


def delete(*, segment_id: UUID, actor: str) -> None:
    """Keep it no longer. Raises SegmentNotFound."""
    with transaction.atomic():
        segment = _found(segment_id, lock=True)
        segment.deleted_at = Now()
        segment.save(update_fields=["deleted_at"])
        _record(segment, "segment.deleted", actor, before={"name": segment.name})


def _found(segment_id: UUID, *, lock: bool) -> Segment:
    rows = Segment.objects.filter(pk=segment_id, deleted_at=None)
    found = (rows.select_for_update() if lock else rows).first()
    if found is None:
        raise SegmentNotFound
    return found


def _refuse_too_many() -> None:
    """Raises TooManySegments. Two at once are counted one after the other."""
    with connection.cursor() as cursor:
        key = f"campaigns_segment:{require_tenant().id}"
        cursor.execute("select pg_advisory_xact_lock(hashtextextended(%s, 7))", [key])
    most = settings.SLIPWAY["CAMPAIGNS"]["segments_most"]
    if Segment.objects.filter(deleted_at=None).count() >= most:
        raise TooManySegments(f"There may be {most}.", limit=most)


def _explain(error: IntegrityError) -> None:
    """Raises NameTaken where that is what the database refused."""
    if "segment_name" in str(error):
        raise NameTaken from None


def _record(
    segment: Segment,
    action: str,
    actor: str,
    *,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
) -> None:
    # No filter: what it compares with may be somebody's name or number.
    audit.record(
        actor=actor,
        action=action,
        target=f"segment:{segment.pk}",
        tenant_id=segment.tenant_id,
        before=before,
        after=after,
    )
