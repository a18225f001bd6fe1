"""Quiet hours: when a campaign sends nothing, by the clocks of its time zone.

Where clocks are put back an hour is there twice, and both are quiet; where they are put forward a
time may not exist, and the quiet hours reach to both sides of the gap.
"""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from campaigns.models import Campaign

_CLOCK = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]")


def quiet_until(campaign: Campaign, now: datetime) -> datetime | None:
    """When the quiet hours end that hold at `now`; None while there are none."""
    ends = [end for start, end in _spans(campaign, now) if start <= now < end]
    return max(ends, default=None)


def next_quiet(campaign: Campaign, now: datetime) -> datetime | None:
    """When quiet hours begin after `now`; None for a campaign that has none."""
    return min((start for start, _ in _spans(campaign, now) if start > now), default=None)


def clock(text: object) -> time | None:
    """The time of day that `21:00` names; None for what is no such text."""
    if not isinstance(text, str) or not _CLOCK.fullmatch(text):
        return None
    return time.fromisoformat(text)


def _spans(campaign: Campaign, now: datetime) -> Iterator[tuple[datetime, datetime]]:
    """The quiet hours of yesterday, today and the days after, in UTC."""
    hours: Mapping[str, str] | None = campaign.quiet_hours
    if not hours:
        return
    zone = ZoneInfo(campaign.time_zone)
    begins, ends = time.fromisoformat(hours["from"]), time.fromisoformat(hours["until"])
    today = now.astimezone(zone).date()
    for days in range(-1, 3):
        day = today + timedelta(days=days)
        over = day if ends > begins else day + timedelta(days=1)
        yield min(_at(day, begins, zone)), max(_at(over, ends, zone))


def _at(day: date, at: time, zone: ZoneInfo) -> list[datetime]:
    """The time of that day in UTC: twice the same, but where clocks are changed."""
    local = datetime.combine(day, at, tzinfo=zone)
    return [local.replace(fold=fold).astimezone(UTC) for fold in (0, 1)]
