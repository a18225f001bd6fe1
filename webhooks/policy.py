"""When a delivery is tried again, and when it is too late: as data."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from django.conf import settings

from jobs.retry import Schedule

JITTER = 0.2  # Of each delay, in both directions: what failed together does not come back together.


def policy_of(data: Mapping[str, Any]) -> Schedule:
    """The policy of a delivery, from what its claim carries: its endpoint's schedule, or ours."""
    return scheduled(data.get("schedule"))


def scheduled(schedule: Sequence[float] | None) -> Schedule:
    """The policy of an endpoint with this schedule: the seconds before each retry."""
    if schedule is None:
        schedule = settings.SLIPWAY["WEBHOOKS"]["schedule"]
    return _scheduled(tuple(schedule))


@cache
def _scheduled(delays: tuple[float, ...]) -> Schedule:
    # No window: what was held for a week, or is replayed after a month, has all of its tries.
    return Schedule(delays, jitter=JITTER)
