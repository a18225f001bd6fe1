"""How much goes to one place at once, and how fast: as one drainer knows it.

Each place has a *window* (how many works are under way) and a *pacer* (how many start a second).
Both learn from how tries end: a window by latency, as TCP's do, a pacer by being told to come later
(HTTP 429). What is declared of a place need not be learnt. Here is no clock and no I/O: `now` is
passed in, in seconds. The engine keeps these (jobs.engine.rooms).

After Netflix's concurrency limits and TCP Vegas; docs/decisions/0017 says what differs, and why.
"""

import math
from collections import deque
from dataclasses import dataclass, field
from enum import Enum
from typing import Literal

MARGIN = 0.975  # Of a declared rate: clocks and networks bunch what was sent evenly.
BURST = 0.15  # Seconds' worth of a rate that may start at once: claims come late now and then.
PORTION = 0.05  # Seconds' worth of a rate that are worth a claim.
LONGEST_HOLD = 2.0  # Seconds; the lane's row knows of longer ones, and of who lifts them.
FORGET = 1.0  # Seconds after which an answer counts no more for what is answered now.

SLOW = 1.5  # Times the quickest window's mean latency: the place is getting crowded;
NOISE = 0.05  # but for so many seconds, which this machine may have taken itself.
LEAST_CUT, LOSS_CUT = 0.6, 0.7
LOSSY = 0.1  # Of the tries of one window that may be lost without its being cut.
SLOW_START = 2.0  # Times, for each window that ends as quickly as the first.
DRIFT = 1.002  # A window: the quickest one is believed a little less each time.
FEW = 10  # Tries that say little about latency.

RATE_CUT, LEAST_OF_RATE = 0.92, 0.7
RATE_GROWTH, USED = 1.02, 0.85  # Growth a second, while so much of the rate is used,
NEAR, GENTLE = 0.03, 1.004  # but near the rate that was too much the last time.
LEAST_RATE = 0.5  # A second.
LITTLE, SPARE = 1.5, 4  # Times what Little's law asks for (rate by latency), and so many more;
CYCLE = 0.1  # to the latency comes the time from one claim to the next.

BATCH, BATCH_SECONDS = 30, 300.0
FILLING = 0.1  # Seconds in which a batch may still be filled.


@dataclass(frozen=True, slots=True)
class Declared:
    """What is known of a place beforehand. `rate` in works a second; None: it is to be learnt.

    `mode` "compat" sends batches of 30, one after the other, and heeds neither rate nor latency.
    """

    rate: float | None = None
    max_in_flight: int | None = None
    mode: Literal["adaptive", "compat"] = "adaptive"


@dataclass(frozen=True, slots=True)
class Learnt:
    """What drainers knew of a place the last time, all of them together."""

    window: int | None = None
    rate: float | None = None


class Sign(Enum):
    """What a try's end says about the place."""

    ANSWERED = "answered"  # Whatever the answer was.
    LOST = "lost"  # No answer in time, or none at all.
    NOTHING = "nothing"  # It was not asked.


@dataclass(slots=True)
class Window:
    """How many works may be under way. Evaluated each time that a whole window has ended."""

    size: float  # Infinite until there is a reason to bound it.
    slow_start: bool = True
    least: float | None = None  # Mean seconds of the quickest window.
    seconds: float = 0.0  # Of this window: in all, how many were answered, how many lost,
    answered: int = 0
    lost: int = 0
    peak: int = 0  # and how many were under way at most.

    def ended(self, latency: float, sign: Sign, *, rate: float | None) -> None:
        """Count one end in, of works that start at `rate` a second; None: at none that is known."""
        if sign is Sign.LOST:
            self.lost += 1
        else:
            self.seconds += latency
            self.answered += 1
        whole = self.peak if math.isinf(self.size) else self.size
        if self.answered + self.lost >= max(FEW, whole):
            self._evaluate(rate or 0.0)

    def _evaluate(self, rate: float) -> None:
        used = min(self.size, self.peak)
        mean = self.seconds / self.answered if self.answered else None
        if mean is not None:
            self.least = mean if self.least is None else min(mean, self.least * DRIFT)
        if self.lost > LOSSY * (self.answered + self.lost):
            self.size, self.slow_start = max(1.0, used * LOSS_CUT), False
        elif mean is None or self.least is None:
            pass
        elif mean > SLOW * self.least + NOISE and self.peak >= self._known / 2:
            cut = max(LEAST_CUT, (SLOW * self.least + NOISE) / mean)
            needed = rate * (self.least + CYCLE)  # By Little's law, at a place that is not crowded.
            self.size, self.slow_start = max(1.0, needed, used * cut), False
        elif self.peak >= 0.7 * self.size:
            grown = self.size * SLOW_START if self.slow_start else self.size + math.sqrt(self.size)
            self.size = max(self.size + 1, grown)
        self.seconds, self.answered, self.lost, self.peak = 0.0, 0, 0, 0

    @property
    def _known(self) -> float:
        return 0.0 if math.isinf(self.size) else self.size


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
    grown_at: float = 0.0
    told_off: bool = False  # Since it grew the last time.
    sent: int | None = None  # In the second before the first cut, until it is known what was taken,
    refused: int = 0  # and how many of them were told to come later.
    answers: deque[float] = field(default_factory=deque)  # When; of the last second, as the next.
    starts: deque[float] = field(default_factory=deque)

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

    def throttled(self, now: float, after: float, latency: float) -> None:
        """Start nothing for a while, and then less; no two cuts for what was sent at one rate."""
        self.told_off = True
        self.held_until = max(self.held_until, now + min(max(after, FORGET), LONGEST_HOLD))
        self.refused += 1
        self.tokens = 0.0
        if now - self.cut_at <= FORGET + latency:
            return
        self.cut_at = self.grown_at = now
        if self.rate is None:
            self.sent, self.refused, self.rate = len(self.starts), 1, LEAST_RATE
            return
        self.too_much = self.rate
        kept = max(self._answered(now), LEAST_OF_RATE * self.rate)
        self.rate = self._bounded(max(LEAST_RATE, RATE_CUT * kept))

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
            self.sent, self.grown_at = None, now

    def _grow(self, now: float) -> None:
        good = self._answered(now)
        if self.rate is None or now - self.grown_at < 1.0:
            return
        if good >= USED * self.rate and not self.told_off:
            near = abs(self.rate / self.too_much - 1) <= NEAR
            self.rate = self._bounded(self.rate * (GENTLE if near else RATE_GROWTH))
        self.grown_at, self.told_off = now, False

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


@dataclass(slots=True)
class Adaptive:
    """One place: its window, its pacer, and what is under way there."""

    declared: Declared
    window: Window
    pacer: Pacer
    in_flight: int = 0
    latency: float | None = None  # Seconds, smoothed.

    @property
    def limit(self) -> float:
        """How many may be under way."""
        most = self.declared.max_in_flight
        limit = self.window.size if most is None else min(self.window.size, most)
        if self.pacer.rate is not None and self.latency is not None:
            limit = min(limit, LITTLE * self.pacer.rate * (self.latency + CYCLE) + SPARE)
        return limit if math.isinf(limit) else max(1, math.floor(limit))

    def room(self, now: float) -> float:
        """How many may start now; perhaps infinitely many."""
        return max(0, min(self.limit - self.in_flight, self.pacer.room(now)))

    def wait(self, now: float) -> float | None:
        """Seconds until some may start; None: not before one has ended."""
        left = self.limit - self.in_flight
        return None if left <= 0 else self.pacer.wait(now, left)

    def began(self, now: float, n: int = 1) -> None:
        """Count starts."""
        self.in_flight += n
        self.window.peak = max(self.window.peak, self.in_flight)
        self.pacer.began(now, n)

    def ended(self, now: float, latency: float, sign: Sign) -> None:
        """Learn from one end, `latency` seconds after its start."""
        if sign is Sign.NOTHING:
            self.pacer.unasked(now)
        else:
            self.window.ended(latency, sign, rate=self.pacer.rate)
            self.window.peak = max(self.window.peak, self.in_flight)
        if sign is Sign.ANSWERED:
            known = latency if self.latency is None else self.latency
            self.latency = known + 0.05 * (latency - known)
            self.pacer.answered(now)
        self.in_flight -= 1

    def throttled(self, now: float, after: float) -> None:
        """Learn from a work that was told to come `after` seconds later."""
        self.in_flight -= 1
        self.window.slow_start = False
        self.pacer.throttled(now, after, self.latency or 0.0)

    def declare(self, declared: Declared, drainers: int) -> None:
        """Keep to what is declared by now, which so many drainers share."""
        self.declared = declared
        self.pacer.declare(_share(declared.rate, drainers))

    def learnt(self, drainers: int) -> Learnt:
        """What there is to leave for others."""
        window = None if math.isinf(self.limit) else int(self.limit) * drainers
        rate = None if self.pacer.rate is None else round(self.pacer.rate * drainers, 2)
        return Learnt(window, rate)


@dataclass(slots=True)
class Batches:
    """One place in the mode "compat": 30 at once, and no more until the last of them has ended."""

    declared: Declared
    size: int
    in_flight: int = 0
    begun: int = 0  # Of this batch.
    began_at: float = -math.inf

    def room(self, now: float) -> float:
        """How many may start now."""
        over = self.in_flight == 0 or now - self.began_at >= BATCH_SECONDS
        filling = now - self.began_at < FILLING
        return max(0, self.size - self.begun) if filling else self.size if over else 0

    def wait(self, now: float) -> float | None:
        """Seconds until some may start; None: not before one has ended."""
        if self.room(now):
            return 0.0
        if self.in_flight == 0:
            return max(0.0, self.began_at + FILLING - now)
        return None if now - self.began_at < BATCH_SECONDS - 1 else 1.0

    def began(self, now: float, n: int = 1) -> None:
        """Count starts."""
        if now - self.began_at >= FILLING:
            self.begun, self.began_at = 0, now
        self.begun += n
        self.in_flight += n

    def ended(self, now: float, latency: float, sign: Sign) -> None:
        """Count an end."""
        self.in_flight -= 1

    def throttled(self, now: float, after: float) -> None:
        """Count an end; its lane waits, as the row says."""
        self.in_flight -= 1

    def declare(self, declared: Declared, drainers: int) -> None:
        """Keep to what is declared by now, which so many drainers share."""
        most = declared.max_in_flight
        self.declared = declared
        self.size = max(1, (BATCH if most is None else min(BATCH, most)) // drainers)

    def learnt(self, drainers: int) -> Learnt:
        """Nothing."""
        return Learnt()


Control = Adaptive | Batches


def control(
    declared: Declared,
    *,
    now: float,
    initial: int,
    drainers: int = 1,
    learnt: Learnt | None = None,
) -> Control:
    """How to send to a place, before anything is known of it but what is declared, and `learnt`."""
    if declared.mode == "compat":
        batches = Batches(declared, BATCH)
        batches.declare(declared, drainers)
        return batches
    known = learnt or Learnt()
    # With a declared rate there is no slow start: the pacer bounds what is under way.
    size = math.inf if declared.rate is not None else float(initial)
    if declared.rate is None and known.window is not None:
        size = max(size, known.window / 2 / drainers)
    pacer = Pacer(refilled_at=now, grown_at=now)
    if declared.rate is None:
        pacer.rate = _share(known.rate, drainers)
    place = Adaptive(declared, Window(size), pacer)
    place.declare(declared, drainers)
    return place


def _share(rate: float | None, drainers: int) -> float | None:
    return None if rate is None else rate / max(1, drainers)
