"""How many works may start a second at one place, and how that is learnt from HTTP 429.

Part of jobs.pacing: here is no clock and no I/O either. docs/decisions/0017 says why it is so.
"""

import math
from collections import deque
from dataclasses import dataclass, field

MARGIN = 0.975  # Of a declared rate: clocks and networks bunch what was sent evenly.
BURST = 0.15  # Seconds' worth of a rate that may start at once: claims come late now and then.
PORTION = 0.05  # Seconds' worth of a rate that are worth a claim.
LONGEST_HOLD = 2.0  # Seconds; the lane's row knows of longer ones, and of who lifts them.
FORGET = 1.0  # Seconds after which an answer counts no more for what is answered now.

RATE_CUT, LEAST_OF_RATE = 0.92, 0.7
RATE_GROWTH, USED = 1.02, 0.85  # Growth a second, while so much of the rate is used,
NEAR, GENTLE = 0.03, 1.004  # but near the rate that was too much the last time.
REGAINED = 1.5  # Times, a second, below a rate that was never found to be too much;
DOUBTED = 0.75  # which is believed so much less each time that it is refused after all.
PROOF = 0.1  # Of what was sent: with less than this taken it tells nothing of the rate.
LEAST_RATE = 0.5  # A second.
FEW = 10  # Starts that say little about a rate.


@dataclass(slots=True)
class Pacer:
    """How many works may start a second. Without a rate, as many as the window allows.

    `cap` is what this drainer may send at most of what was declared: never more in one second.
    """

    cap: float | None = None
    rate: float | None = None
    tokens: float = 1.0
    refilled_at: float = 0.0
    held_until: float = 0.0
    cut_at: float = -math.inf
    too_much: float = math.inf  # The rate at the last cut.
    regain: float = 0.0  # The rate to come back to: the cuts from it may have had other reasons.
    grown_at: float = 0.0
    told_off: bool = False  # Since it grew the last time.
    sent: int | None = None  # In the second before the first cut, until it is known what was taken,
    refused: int = 0  # and how many of them were told to come later.
    answers: deque[float] = field(default_factory=deque)  # When; of the last second, as the next.
    starts: deque[float] = field(default_factory=deque)

    @property
    def found(self) -> float | None:
        """The rate, unless it is on its way back to a higher one: others need not begin so low."""
        return None if self.rate is not None and self.rate < self.regain else self.rate

    def room(self, now: float) -> float:
        """How many may start."""
        if now < self.held_until:
            return 0
        self._look_back(now)
        if self.rate is None:
            return math.inf
        self._refill(now)
        return max(0, min(math.floor(self.tokens + 1e-9), self._strictly(now)))

    def wait(self, now: float, most: float) -> float:
        """Seconds until a portion may start, of `most` that would."""
        if self.rate is None or now < self.held_until:
            return max(0.0, self.held_until - now)
        self._refill(now)
        wait = (max(1.0, min(self.rate * PORTION, most)) - self.tokens) / self.rate
        if self._strictly(now) <= 0:
            wait = max(wait, self.starts[0] + self._span() - now)
        return max(0.0, wait)

    def began(self, now: float, n: int) -> None:
        """Count starts."""
        self._refill(now)
        self.tokens = max(0.0, self.tokens - n)
        self._strictly(now)
        self.starts.extend([now] * n)

    def unasked(self, now: float) -> None:
        """Take a start back."""
        self._refill(now)
        self.tokens += 1
        if self.starts:
            self.starts.pop()

    def answered(self, now: float) -> None:
        """Count an answer."""
        self.answers.append(now)
        self._grow(now)

    def hold(self, now: float, after: float) -> None:
        """Start nothing for so many seconds."""
        self.held_until = max(self.held_until, now + min(max(after, FORGET), LONGEST_HOLD))

    def throttled(self, now: float, latency: float) -> None:
        """Start less from now on; there are no two cuts for what was sent at one rate."""
        self.told_off = True
        self.refused += 1
        self.tokens = 0.0
        if now - self.cut_at <= FORGET + latency:
            return
        self.cut_at = self.grown_at = now
        if self.rate is None:
            self.sent, self.refused, self.rate = len(self.starts), 1, LEAST_RATE
            return
        self.too_much, answered = self.rate, self._answered(now)
        self._doubt(self.rate, answered)
        kept = max(answered, LEAST_OF_RATE * self.rate)
        self.rate = self._bounded(max(LEAST_RATE, RATE_CUT * kept))

    def _doubt(self, rate: float, answered: int) -> None:
        """Remember what to come back to, unless it is clear that this rate was the reason.

        Who refuses all, or refuses while hardly anything is sent, does not do so for the rate.
        """
        if answered >= USED * rate:
            self.regain = 0.0
        elif answered and self.regain:
            self.regain = DOUBTED * min(self.regain, rate)
        else:
            self.regain = max(self.regain, rate)

    def declare(self, cap: float | None) -> None:
        """Keep to another cap. What was learnt below it stays learnt."""
        if cap == self.cap:
            return
        at_cap = self.cap is not None and self.rate is not None and self.rate >= self.cap * MARGIN
        if cap is not None and (self.rate is None or at_cap):
            self.rate = cap * MARGIN
        self.cap = cap
        self.rate = None if self.rate is None else self._bounded(self.rate)

    def _bounded(self, rate: float) -> float:
        return rate if self.cap is None else min(rate, self.cap * MARGIN)

    def _refill(self, now: float) -> None:
        if self.rate is not None and now > self.refilled_at:
            full = 1 + self.rate * BURST
            self.tokens = min(full, self.tokens + self.rate * (now - self.refilled_at))
        self.refilled_at = max(now, self.refilled_at)

    def _look_back(self, now: float) -> None:
        """After the first hold: what was sent before it and not refused is what the place takes."""
        if self.sent is not None:
            taken = self.sent - self.refused
            self.rate = self._bounded(max(LEAST_RATE, RATE_CUT * taken))
            if self.sent < FEW or taken < PROOF * self.sent:
                self.regain = math.inf
            self.sent, self.grown_at = None, now

    def _grow(self, now: float) -> None:
        good = self._answered(now)
        if self.rate is None or now - self.grown_at < 1.0:
            return
        if good >= USED * self.rate and not self.told_off:
            self.rate = self._bounded(self.rate * self._growth(self.rate))
        self.grown_at, self.told_off = now, False

    def _growth(self, rate: float) -> float:
        if rate < self.regain:
            return min(REGAINED, max(RATE_GROWTH, self.regain / rate))
        return GENTLE if abs(rate / self.too_much - 1) <= NEAR else RATE_GROWTH

    def _answered(self, now: float) -> int:
        """How many were answered within the last second."""
        while self.answers and self.answers[0] <= now - FORGET:
            self.answers.popleft()
        return len(self.answers)

    def _strictly(self, now: float) -> float:
        """How many may start if no span is to have more than the cap allows."""
        while self.starts and self.starts[0] <= now - self._span():
            self.starts.popleft()
        return math.inf if self.cap is None else max(1, math.floor(self.cap)) - len(self.starts)

    def _span(self) -> float:
        """The seconds in which a whole number of works may start: one, or a little less."""
        return FORGET if self.cap is None else max(1, math.floor(self.cap)) / self.cap
