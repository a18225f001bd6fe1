"""When a message is tried again, and when it is too late: as data."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jobs.breaker import Breaker
from jobs.retry import RetryPolicy

THROTTLED_MOST = 7 * 86400.0  # Seconds after its first 429 in which they cost no attempt.
# Ten failures of an account in a row, then five seconds' pause; a minute at last, with one message
# after each to see whether all is well again.
BREAKER = Breaker(failures=10, pauses=(5.0, 10.0, 20.0, 40.0, 60.0))


@dataclass(frozen=True, slots=True)
class Tries(RetryPolicy):
    """A policy whose window bounds the waiting for those who say 429, and nothing else.

    What was paused for a week, or is tried again after a month, has all of its tries.
    """

    def allows(self, attempt: int, *, age: float) -> bool:
        """See RetryPolicy.allows."""
        return attempt < self.attempts


# Few, and soon: an offer that comes an hour after the others helps nobody.
TRIES = Tries(attempts=4, base=10.0, cap=120.0, window=THROTTLED_MOST)


def policy_of(data: Mapping[str, Any]) -> Tries:
    """The policy of a message, from what its claim carries: the same for all of them."""
    return TRIES
