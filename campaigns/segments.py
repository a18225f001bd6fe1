"""Segments: filters with a name. The only writer of them, in the current tenant's context."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from campaigns.errors import SegmentNotFound, TooManySegments
from campaigns.filters import Filter, parse
from campaigns.models import Segment
from campaigns.named import Named

__all__ = ["Filter", "change", "create", "delete", "find", "parse"]

_KEPT = Named(Segment, ("name", "filter"), SegmentNotFound, TooManySegments, "segments_most")


def find(segment_id: UUID) -> Segment:
    """A segment of the current tenant's. Raises SegmentNotFound."""
    return _KEPT.find(segment_id)


def create(*, name: str, filter: Any, actor: str) -> Segment:
    """Keep a filter under a name. Raises InvalidFilter, NameTaken, TooManySegments."""
    parse(filter)
    return _KEPT.create({"name": name, "filter": filter}, actor=actor)


def change(*, segment_id: UUID, fields: Mapping[str, Any], actor: str) -> Segment:
    """Change its `name`, its `filter` or both.

    Raises SegmentNotFound, InvalidFilter, NameTaken.
    """
    if "filter" in fields:
        parse(fields["filter"])
    return _KEPT.change(segment_id, fields, actor=actor)


def delete(*, segment_id: UUID, actor: str) -> None:
    """Keep it no longer. Raises SegmentNotFound."""
    _KEPT.delete(segment_id, actor=actor)
