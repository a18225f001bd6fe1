"""Small pictures of numbers over time, as plain geometry: templates/console/chart.html draws it.

Every shape has a class and no colour: console.css colours it, for light and dark. What a chart
shows stands in words and in a table below it too.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

WIDTH, HEIGHT = 360, 150  # Of the drawing, in its own units: about a pixel each.
LEFT, RIGHT, TOP, BOTTOM = 40, 4, 8, 18  # Around the plot.
ROWS = 24  # Of the table, at most.

Values = Sequence[float | None]


@dataclass(frozen=True, slots=True)
class Series:
    """One thing that is shown: its name, the class of its colour, and a value for each moment."""

    name: str
    look: str
    values: Values
    url: str = ""
    path: str = ""
    now: str = ""  # Its value as the legend says it.


@dataclass(frozen=True, slots=True)
class Tick:
    """A mark of an axis."""

    place: float
    text: str


@dataclass(frozen=True, slots=True)
class Chart:
    """All that the template needs."""

    id: str
    title: str
    summary: str
    kind: str  # "bars", stacked, or "lines".
    series: list[Series]
    across: list[Tick]
    up: list[Tick]
    head: list[str] = field(default_factory=list)
    rows: list[tuple[str, list[str]]] = field(default_factory=list)
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    floor: int = HEIGHT - BOTTOM


def draw(
    *,
    id: str,
    title: str,
    kind: str,
    moments: Sequence[datetime],
    series: Sequence[Series],
    say: Callable[[float], str],
    fold: Callable[[list[float]], float] = sum,
) -> Chart:
    """A chart of series over moments. `say` puts a value in words, `fold` several into one."""
    highest = _nice(max(_tops(kind, series), default=0.0))
    placed = _bars(series, highest) if kind == "bars" else _lines(series, highest)
    return Chart(
        id=id,
        title=title,
        summary=_summary(series, moments, say),
        kind=kind,
        series=placed,
        across=_across(moments),
        up=[Tick(_y(highest * part, highest), say(highest * part)) for part in (0, 0.5, 1)],
        head=[one.name for one in series],
        rows=_table(moments, series, say, fold),
    )


def _tops(kind: str, series: Sequence[Series]) -> list[float]:
    if kind == "lines":
        return [value for one in series for value in one.values if value is not None]
    return [sum(value or 0 for value in each) for each in zip(*_all(series), strict=True)]


def _all(series: Sequence[Series]) -> list[Values]:
    return [one.values for one in series]


def _bars(series: Sequence[Series], highest: float) -> list[Series]:
    """One path a series: its piece of every bar, one upon the other."""
    count = max((len(one.values) for one in series), default=0)
    step = (WIDTH - LEFT - RIGHT) / max(1, count)
    ground, placed = [0.0] * count, []
    for one in series:
        pieces = []
        for place, value in enumerate(one.values):
            if not value:
                continue
            low, high = _y(ground[place], highest), _y(ground[place] + value, highest)
            ground[place] += value
            x, width = LEFT + place * step, max(0.6, step * 0.84)
            pieces.append(f"M{x:.1f} {high:.1f}h{width:.1f}V{low:.1f}h{-width:.1f}z")
        placed.append(_with_path(one, "".join(pieces)))
    return placed


def _lines(series: Sequence[Series], highest: float) -> list[Series]:
    """One path a series; it breaks where nothing is known."""
    placed = []
    for one in series:
        step = (WIDTH - LEFT - RIGHT) / max(1, len(one.values) - 1)
        pieces, drawing = [], False
        for place, value in enumerate(one.values):
            if value is None:
                drawing = False
                continue
            x, y = LEFT + place * step, _y(value, highest)
            # A lone point is a line of no length, which a round cap makes a dot.
            pieces.append(f"L{x:.1f} {y:.1f}" if drawing else f"M{x:.1f} {y:.1f}h0")
            drawing = True
        placed.append(_with_path(one, "".join(pieces)))
    return placed


def _with_path(one: Series, path: str) -> Series:
    return Series(one.name, one.look, one.values, one.url, path, one.now)


def _y(value: float, highest: float) -> float:
    return HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * (value / highest)


def _nice(value: float) -> float:
    """The next of 1, 2, 5, 10, 20, 50, …: an axis that ends at a round number."""
    step = 1.0
    while True:
        for factor in (1, 2, 5):
            if value <= factor * step:
                return factor * step
        step *= 10


def _across(moments: Sequence[datetime]) -> list[Tick]:
    """Five marks; the hour within a day, the day beyond."""
    if len(moments) < 2:
        return []
    days = (moments[-1] - moments[0]).days
    shape = "%H:%M" if days < 1 else ("%a %H:%M" if days < 2 else "%d %b")
    width = WIDTH - LEFT - RIGHT
    places = [round(part * (len(moments) - 1)) for part in (0, 0.25, 0.5, 0.75, 1)]
    return [
        Tick(LEFT + width * place / (len(moments) - 1), moments[place].strftime(shape))
        for place in places
    ]


def _summary(
    series: Sequence[Series], moments: Sequence[datetime], say: Callable[[float], str]
) -> str:
    """What the picture shows, for whoever does not see it."""
    said = []
    for one in series:
        known = [value for value in one.values if value is not None]
        if known:
            said.append(f"{one.name}: last {say(known[-1])}, highest {say(max(known))}")
    if not moments or not said:
        return "Nothing to show yet."
    begun = f"{moments[0]:%Y-%m-%d %H:%M}"
    return f"From {begun} to {moments[-1]:%Y-%m-%d %H:%M} UTC. {'; '.join(said)}."


def _table(
    moments: Sequence[datetime],
    series: Sequence[Series],
    say: Callable[[float], str],
    fold: Callable[[list[float]], float],
) -> list[tuple[str, list[str]]]:
    """The same in numbers, newest first; several moments in a row where there are many."""
    each = -(-len(moments) // ROWS) or 1
    rows = []
    for begin in range(0, len(moments), each):
        cells = []
        for one in series:
            known = [value for value in one.values[begin : begin + each] if value is not None]
            cells.append(say(fold(known)) if known else "—")
        rows.append((f"{moments[begin]:%d %b %H:%M}", cells))
    return rows[::-1]
