"""Circuit breakers as data: when a lane is left alone, and for how long."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Breaker:
    """Opens after `failures` in a row of one lane; then nothing of it starts for a while.

    `pauses` are the seconds of the first opening, the second, and so on; the last one repeats. Each
    is lengthened by up to `jitter` of itself: lanes that fell together need not rise together.
    After a pause one work is let through (half open): its success closes the breaker, its failure
    opens it again, for the next pause.
    """

    failures: int = 10
    pauses: tuple[float, ...] = (30.0, 60.0, 120.0, 300.0, 600.0)
    jitter: float = 0.1

    def __post_init__(self) -> None:
        if self.failures < 1 or not self.pauses:
            raise ValueError("a breaker needs a failure to open at, and a pause")
