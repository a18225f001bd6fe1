"""When a delivery is tried again, and when it is too late: as data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from django.conf import settings

from jobs.breaker import Breaker
from jobs.retry import Schedule

JITTER = 0.2  # Of each delay, in both directions: what failed together does not come back together.
THROTTLED_MOST = 5 * 86400.0  # Seconds after its first 429 in which they cost no attempt.
# Ten failures in a row, then half a minute's pause; ten minutes at last, with one try after each.
BREAKER = Breaker(failures=10, pauses=(30.0, 60.0, 120.0, 300.0, 600.0))


@dataclass(frozen=True, slots=True)
class Tries(Schedule):
    """A schedule whose window bounds the waiting for those who say 429, and nothing else.

    What was held for a week, or is replayed after a month, has all of its tries.
    """

    def allows(self, attempt: int, *, age: float) -> bool:
        """See RetryPolicy.allows."""
        return attempt < self.attempts


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
    return Tries(delays, jitter=JITTER, window=THROTTLED_MOST)
