"""Points in time as callers write them."""

from datetime import UTC, datetime
from typing import Annotated

import msgspec

# How answers name a point in time: RFC 3339, always with its zone.
Moment = Annotated[datetime, msgspec.Meta(tz=True)]


def utc(moment: datetime) -> datetime:
    """The moment in UTC, where the database keeps it and Python can read it again.

    Raises ValueError for one without a time zone, or outside the years 1 to 9999 of UTC.
    """
    if moment.tzinfo is None:
        raise ValueError("no time zone")
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("out of range") from None


def flaw(moment: datetime) -> tuple[str, str] | None:
    """Why the moment cannot be stored: a code and a sentence. None when it can."""
    if moment.tzinfo is None:
        return "no_time_zone", "Name the time zone: …Z or …+02:00."
    try:
        utc(moment)
    except ValueError:
        return "out_of_range", "Use a time in the years 1 to 9999 of UTC."
    return None
