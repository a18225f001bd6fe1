"""What lies open in the queues, by state: the page behind the overview's "Open work".

It reads the rollup's last minute (console.rollup), and no queue; each number leads to its list.
"""

from dataclasses import dataclass
from datetime import datetime

from django.utils import timezone

from console import links
from console.counting import WITHHELD
from console.overview import open_works
from console.pictures import LOOKS
from console.reading import Told, read
from console.words import count, lasting
from jobs.states import State

_STATES = [
    (name, states) for name, states, _ in LOOKS if State.DEAD_LETTER not in states
]  # As the overview's legends call them.


@dataclass(frozen=True, slots=True)
class Cell:
    """How many lie there, where those are listed, and how long the oldest has waited."""

    many: str
    url: str
    oldest: str
    is_none: bool


@dataclass(frozen=True, slots=True)
class Line:
    """One queue."""

    queue: str
    url: str
    cells: list[Cell]
    total: str
    dead: Cell


@dataclass(frozen=True, slots=True)
class Lying:
    """All that the page shows."""

    as_of: datetime | None
    states: list[str]
    lines: list[Line]
    total: str
    dead: str
    withheld: str  # Of what is pending: "" for none.
    suspended: str  # Whose that is.


def build(now: datetime | None = None) -> Lying:
    """The page's content, as it was counted last."""
    told = read("1h", now or timezone.now())
    total = open_works(told)
    withheld = sum(depth.get(WITHHELD, 0) for depth in told.depth.values())
    dead = sum(depth.get(State.DEAD_LETTER, 0) for depth in told.depth.values())
    return Lying(
        as_of=told.as_of,
        states=[name for name, _ in _STATES],
        lines=[_line(told, name, many) for name, many in total.items()],
        total=count(sum(total.values())),
        dead=count(dead),
        withheld=count(withheld) if withheld else "",
        suspended=links.suspended(),
    )


def _line(told: Told, queue: str, total: int) -> Line:
    return Line(
        queue=queue,
        url=links.works(queue),
        cells=[_cell(told, queue, states) for _, states in _STATES],
        total=count(total),
        dead=_cell(told, queue, (State.DEAD_LETTER,), links.letters(queue=queue)),
    )


def _cell(told: Told, queue: str, states: tuple[str, ...], url: str = "") -> Cell:
    depth, oldest = told.depth.get(queue, {}), told.oldest.get(queue, {})
    many = sum(depth.get(state, 0) for state in states)
    age = max(oldest.get(state, 0) for state in states)
    return Cell(
        many=count(many),
        url=url or links.works(queue, state=states[0]),
        oldest=lasting(age) if many and age else "",
        is_none=not many,
    )
