"""The rollup as the overview reads it: points of a range, and what lies in the queues now."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from console.models import Hour, Minute
from console.rollup import DAY, HOUR, MINUTE, floor

OPERATOR = "operator"
_COLUMNS = (
    "at",
    "queue",
    "depth",
    "oldest",
    "made",
    "traced",
    "untraced",
    "ended",
    "took",
    "busiest",
)


@dataclass(frozen=True, slots=True)
class Span:
    """A range that the page offers: how far back, of which table, and how wide a bar is."""

    name: str
    title: str
    back: timedelta
    table: type[Minute | Hour]
    width: timedelta


@dataclass(frozen=True, slots=True)
class Point:
    """One queue's row of the rollup."""

    at: datetime
    queue: str
    depth: dict[str, int] | None
    oldest: dict[str, int] | None
    made: int
    traced: int
    untraced: list[dict[str, str]]
    ended: dict[str, int]
    took: dict[str, int]
    busiest: dict[str, int]


@dataclass(frozen=True, slots=True)
class Told:
    """What the rollup says of a range, and of the last minute that it wrote."""

    span: Span
    moments: list[datetime]
    points: list[Point]
    as_of: datetime | None
    depth: dict[str, dict[str, int]] = field(default_factory=dict)  # Queue → state → works.
    oldest: dict[str, dict[str, int]] = field(default_factory=dict)  # Queue → state → seconds.

    def each(self, queue: str) -> list[list[Point]]:
        """A queue's points of each moment, in order: of several rows where a bar is wide."""
        found: dict[datetime, list[Point]] = {moment: [] for moment in self.moments}
        for point in self.points:
            if point.queue == queue and (moment := self._moment(point.at)) in found:
                found[moment].append(point)
        return [found[moment] for moment in self.moments]

    def _moment(self, at: datetime) -> datetime:
        return _floor(at, self.span.width)


def spans() -> list[Span]:
    """The ranges, the first is what is shown unasked."""
    return [
        Span("1h", "1 hour", HOUR, Minute, MINUTE),
        Span("24h", "24 hours", DAY, Hour, HOUR),
        Span("7d", "7 days", 7 * DAY, Hour, 2 * HOUR),
        Span("30d", "30 days", 30 * DAY, Hour, 6 * HOUR),
    ]


def read(name: str, now: datetime) -> Told:
    """The range of that name, or the first, up to now. Two statements."""
    span = next((one for one in spans() if one.name == name), spans()[0])
    end = _floor(now, span.width)
    # A minute that is not over has no row; the hour that is not over has.
    last = end - span.width if span.table is Minute else end
    moments = [last - n * span.width for n in range(span.back // span.width)][::-1]
    rows = span.table.objects.using(OPERATOR).filter(at__gte=moments[0], at__lte=now)
    points = [Point(*row) for row in rows.order_by("at").values_list(*_COLUMNS)]
    newest = Minute.objects.using(OPERATOR).order_by("-at")
    lying = list(
        newest.filter(at=newest.values("at")[:1]).values_list("at", "queue", "depth", "oldest")
    )
    return Told(
        span=span,
        moments=moments,
        points=points,
        as_of=lying[0][0] + MINUTE if lying else None,
        depth={queue: depth or {} for _, queue, depth, _ in lying},
        oldest={queue: oldest or {} for _, queue, _, oldest in lying},
    )


def highest(points: Iterable[Point], column: str, states: Iterable[str]) -> float | None:
    """The most that lay in these states at once, or the oldest of it; None where nobody looked."""
    wanted = tuple(states)
    fold = max if column == "oldest" else sum
    seen = [
        fold(held.get(state, 0) for state in wanted)
        for point in points
        for held in [getattr(point, column)]
        if held is not None
    ]
    return max(seen, default=None)


def _floor(at: datetime, width: timedelta) -> datetime:
    return floor(at, width)
