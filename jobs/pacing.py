"""How much goes to one place at once, and how fast: as one drainer knows it.

Each place has a *window* (how many works are under way) and a *pacer* (how many start a second:
jobs.pacer). Both learn from how tries end: a window by latency, as TCP's do, a pacer by being told
to come later (HTTP 429). What is declared of a place need not be learnt. Here is no clock and no
I/O: `now` is passed in, in seconds. The engine keeps these (jobs.engine.rooms).

After Netflix's concurrency limits and TCP Vegas; docs/decisions/0017 says what differs, and why.
"""

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Literal

from jobs.pacer import Pacer

SLOW = 1.5  # Times the quickest window's mean latency: the place is getting crowded;
NOISE = 0.05  # but for so many seconds, which this machine may have taken itself.
LEAST_CUT, LOSS_CUT = 0.6, 0.7
LOSSY = 0.1  # Of the tries of one window that may be lost without its being cut,
CHANCE = 2.0  # and so many standard deviations more: where one in ten is lost, more are by chance.
SLOW_START = 2.0  # Times, for each window that ends as quickly as the first.
DRIFT = 1.002  # A window: the quickest one is believed a little less each time.
FEW = 10  # Tries that say little about latency.
COHORT = 0.25  # Seconds in which works begin together at least,
COHORTS = 128  # of which so many are remembered: longer than a try may take.
SMOOTH = 0.05  # How much of a mean the latest one is.

LITTLE, SPARE = 1.5, 4  # Times what Little's law asks for (rate by latency), and so many more;
CYCLE = 0.1  # to the latency comes the time from one claim to the next.

SPACED = 1.5  # Times a window in the time that its works take may start: evenly, not all at once.
TOGETHER, BUNCH = 10, 0.05  # So many, or so many seconds' worth, may start together all the same.

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
class Cohort:
    """Works that began one after the other: as many as the window has, or those of COHORT."""

    since: float
    begun: int = 0
    lost: int = 0
    peak: int = 0  # How many were under way at most.


@dataclass(slots=True)
class Window:
    """How many works may be under way.

    Evaluated each time that a whole window has ended. What is lost is judged by those that began
    with it, too: it takes longer to be known than an answer, so that of the works that end while
    none begins (a pause, quiet hours) most are lost ones.
    """

    size: float  # Infinite until there is a reason to bound it.
    slow_start: bool = True
    least: float | None = None  # Mean seconds of the quickest window.
    seconds: float = 0.0  # Of this window: in all, how many were answered, how many lost,
    answered: int = 0
    lost: int = 0
    peak: int = 0  # and how many were under way at most.
    cut_at: float = -math.inf
    missed_at: float = -math.inf  # When the youngest began of those that are lost.
    cohorts: deque[Cohort] = field(default_factory=lambda: deque(maxlen=COHORTS))

    def began(self, now: float, n: int, in_flight: int) -> None:
        """Count starts, with which so many are under way."""
        last = self.cohorts[-1] if self.cohorts else None
        if last is None or (last.begun >= self._whole and now >= last.since + COHORT):
            last = Cohort(now)
            self.cohorts.append(last)
        last.begun += n
        last.peak = max(last.peak, in_flight)
        self.peak = max(self.peak, in_flight)

    def unasked(self, began_at: float) -> None:
        """Take a start back."""
        if one := next(self._until(began_at), None):
            one.begun -= 1

    def ended(self, now: float, latency: float, sign: Sign, *, rate: float | None) -> None:
        """Count one end in, of works that start at `rate` a second; None: at none that is known.

        What began before the last cut says nothing of the window since: it would cut it again and
        again.
        """
        if now - latency < self.cut_at:
            return
        if sign is Sign.LOST:
            self.lost += 1
            self.missed_at = max(self.missed_at, now - latency)
            if one := next(self._until(now - latency), None):
                one.lost += 1
        else:
            self.seconds += latency
            self.answered += 1
        if self.answered + self.lost >= self._whole:
            self._evaluate(now, rate or 0.0)

    def _until(self, began_at: float) -> Iterator[Cohort]:
        """The one that a work began with, and those before; none when that is long ago."""
        return (one for one in reversed(self.cohorts) if one.since <= began_at)

    def _evaluate(self, now: float, rate: float) -> None:
        used = min(self.size, self.peak)
        mean = self.seconds / self.answered if self.answered else None
        if mean is not None:
            self.least = mean if self.least is None else min(mean, self.least * DRIFT)
        if _is_lossy(self.lost, self.answered + self.lost):
            if (peak := self._peak_of_lost()) is not None:
                self._cut(now, min(self.size, max(self.peak, peak)) * LOSS_CUT)
        elif mean is None or self.least is None:
            pass
        elif mean > SLOW * self.least + NOISE and self.peak >= self._known / 2:
            cut = max(LEAST_CUT, (SLOW * self.least + NOISE) / mean)
            needed = rate * (self.least + CYCLE)  # By Little's law, at a place that is not crowded.
            self._cut(now, max(needed, used * cut))
        elif self.peak >= 0.7 * self.size:
            grown = self.size * SLOW_START if self.slow_start else self.size + math.sqrt(self.size)
            self.size = max(self.size + 1, grown)
        self.seconds, self.answered, self.lost, self.peak = 0.0, 0, 0, 0

    def _peak_of_lost(self) -> int | None:
        """How many were under way when too many began that are lost; None if these were not."""
        begun, lost, peak = 0, 0, 0
        for one in self._until(self.missed_at):
            begun, lost, peak = begun + one.begun, lost + one.lost, max(peak, one.peak)
            if begun >= self._whole:
                return peak if _is_lossy(lost, begun) else None
        return None

    def _cut(self, now: float, size: float) -> None:
        self.size, self.slow_start, self.cut_at = max(1.0, size), False, now
        self.cohorts.clear()

    @property
    def _whole(self) -> float:
        """How many works say something of the window."""
        return max(FEW, self.peak if math.isinf(self.size) else self.size)

    @property
    def _known(self) -> float:
        return 0.0 if math.isinf(self.size) else self.size


@dataclass(slots=True)
class Spacing:
    """How many may start together. Without a rate, any number.

    Works that begin together end together at a place that takes the same time for each, and so do
    those that follow them: a window goes round in bursts, which everybody else waits behind.
    After TCP's pacing (Aggarwal, Savage, Anderson: Understanding the Performance of TCP Pacing).
    """

    rate: float | None = None  # A second.
    tokens: float = TOGETHER
    refilled_at: float = 0.0

    def room(self, now: float) -> float:
        """How many may start now."""
        self._refill(now)
        return math.inf if self.rate is None else math.floor(self.tokens + 1e-9)

    def wait(self, now: float, most: float) -> float:
        """Seconds until as many may start as are worth a claim, or the `most` that would."""
        self._refill(now)
        if self.rate is None:
            return 0.0
        return max(0.0, (max(1.0, min(TOGETHER / 2, most)) - self.tokens) / self.rate)

    def began(self, now: float, n: int) -> None:
        """Count starts."""
        self._refill(now)
        self.tokens = max(0.0, self.tokens - n)

    def unasked(self) -> None:
        """Take a start back."""
        self.tokens += 1

    def _refill(self, now: float) -> None:
        if self.rate is None:
            self.tokens = TOGETHER
        elif now > self.refilled_at:
            gained = self.rate * (now - self.refilled_at)
            self.tokens = min(max(TOGETHER, self.rate * BUNCH), self.tokens + gained)
        self.refilled_at = max(now, self.refilled_at)


@dataclass(slots=True)
class Adaptive:
    """One place: its window, its pacer, and what is under way there."""

    declared: Declared
    window: Window
    pacer: Pacer
    in_flight: int = 0
    latency: float | None = None  # Seconds, smoothed.
    turn: float | None = None  # As above, the lost ones included: their places are taken, too.
    spacing: Spacing = field(default_factory=Spacing)

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
        left = self.limit - self.in_flight
        return max(0, min(left, self.pacer.room(now), self.spacing.room(now)))

    def wait(self, now: float) -> float | None:
        """Seconds until some may start; None: not before one has ended."""
        left = self.limit - self.in_flight
        if left <= 0:
            return None
        return max(self.pacer.wait(now, left), self.spacing.wait(now, left))

    def began(self, now: float, n: int = 1) -> None:
        """Count starts."""
        self.in_flight += n
        self.window.began(now, n, self.in_flight)
        self.pacer.began(now, n)
        self.spacing.began(now, n)

    def ended(self, now: float, latency: float, sign: Sign) -> None:
        """Learn from one end, `latency` seconds after its start."""
        if sign is Sign.NOTHING:
            self.pacer.unasked(now)
            self.spacing.unasked()
            self.window.unasked(now - latency)
        else:
            self.window.ended(now, latency, sign, rate=self.pacer.rate)
            self.window.peak = max(self.window.peak, self.in_flight)
            # Over as many as a window has: a small one knows soon that a place is back.
            self.turn = _smoothed(self.turn, latency, max(SMOOTH, 1 / self.limit))
        if sign is Sign.ANSWERED:
            self.latency = _smoothed(self.latency, latency, SMOOTH)
            self.pacer.answered(now)
        self.in_flight -= 1
        self.spacing.rate = self._evenly()

    def _evenly(self) -> float | None:
        """A window that has found its size starts evenly; one that looks for it must not wait."""
        growing = self.window.slow_start and not math.isinf(self.window.size)
        if growing or self.turn is None or math.isinf(self.limit):
            return None
        return SPACED * self.limit / max(self.turn, 1e-3)

    def throttled(self, now: float, after: float, *, pace: bool = True) -> None:
        """Wait, as a work was told to; with `pace`, learn that it was sent to too fast."""
        self.in_flight -= 1
        self.pacer.hold(now, after)
        if pace:
            self.window.slow_start = False
            self.pacer.throttled(now, self.latency or 0.0)

    def declare(self, declared: Declared, drainers: int) -> None:
        """Keep to what is declared by now, which so many drainers share."""
        self.declared = declared
        self.pacer.declare(_share(declared.rate, drainers))

    def learnt(self, drainers: int) -> Learnt:
        """What there is to leave for others."""
        window = None if math.isinf(self.limit) else int(self.limit) * drainers
        rate = self.pacer.found
        return Learnt(window, None if rate is None else round(rate * drainers, 2))


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

    def throttled(self, now: float, after: float, *, pace: bool = True) -> None:
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


def _is_lossy(lost: int, tries: int) -> bool:
    """Whether more are lost than are borne, and not by chance."""
    borne = LOSSY * tries
    return lost > borne + CHANCE * math.sqrt(borne * (1 - LOSSY))


def _smoothed(known: float | None, latest: float, weight: float) -> float:
    return latest if known is None else known + weight * (latest - known)


def _share(rate: float | None, drainers: int) -> float | None:
    return None if rate is None else rate / max(1, drainers)
