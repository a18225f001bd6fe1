"""When to try again: policies as data, clock and randomness passed in."""

from collections.abc import Callable
from dataclasses import dataclass

LONGEST_RETRY_AFTER = 24 * 3600.0  # Seconds; what a stranger's Retry-After is cut to.


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Exponential backoff with full jitter.

    `attempts` in all; delays are drawn from 0 to base * 2^(n-1) seconds, never above `cap`.
    `window` is how many seconds after its making a work may be tried, and after its first 429 be
    told so again for nothing; None for no limit.
    """

    attempts: int
    base: float
    cap: float
    window: float | None = None

    def delay(
        self, attempt: int, *, random: Callable[[], float], retry_after: float | None = None
    ) -> float:
        """Seconds to wait after failed try number `attempt`, counted from 1.

        `random` gives [0, 1). `retry_after` is a floor, cut to a day.
        """
        # 2.0 ** 1024 overflows, and any cap is reached long before.
        ceiling = min(self.cap, self.base * 2.0 ** min(max(attempt, 1) - 1, 60))
        floor = min(max(retry_after or 0.0, 0.0), LONGEST_RETRY_AFTER)
        return max(random() * ceiling, floor)

    def allows(self, attempt: int, *, age: float) -> bool:
        """Whether a work may be tried again after try `attempt`, `age` seconds after its making."""
        return attempt < self.attempts and (self.window is None or age < self.window)


@dataclass(frozen=True, slots=True)
class Schedule:
    """As RetryPolicy, with the delays written out: for promises such as "5 s, 5 min, 30 min".

    Each delay varies by up to `jitter` of itself in both directions.
    """

    delays: tuple[float, ...]
    jitter: float = 0.1
    window: float | None = None

    @property
    def attempts(self) -> int:
        return len(self.delays) + 1

    def delay(
        self, attempt: int, *, random: Callable[[], float], retry_after: float | None = None
    ) -> float:
        """See RetryPolicy.delay."""
        # With none there is no next try; whoever asks nevertheless is told something.
        planned = self.delays[min(max(attempt, 1), len(self.delays)) - 1] if self.delays else 0.0
        floor = min(max(retry_after or 0.0, 0.0), LONGEST_RETRY_AFTER)
        return max(planned * (1 - self.jitter + 2 * self.jitter * random()), floor)

    def allows(self, attempt: int, *, age: float) -> bool:
        """See RetryPolicy.allows."""
        return attempt < self.attempts and (self.window is None or age < self.window)


Policy = RetryPolicy | Schedule

# Twelve tries spread over about five hours at the mean.
DEFAULT = RetryPolicy(attempts=12, base=5.0, cap=3600.0)
