"""The console's first page: how everything fares, and what needs a person.

It reads the rollup (console.rollup) and a few small tables, never a queue: a dozen statements,
whatever lies there.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.utils import timezone

from console import links, needs, pictures
from console.charts import Chart
from console.counting import OPEN
from console.needs import MOST_LANES, Lanes, LaneShown, Need
from console.reading import Point, Span, Told, read, spans
from console.spread import add_up
from console.words import count, share
from jobs.filters import ALIVE
from jobs.models import Drainer
from jobs.registry import queues
from tenants.models import Tenant

OPERATOR = "operator"
BUSIEST = 8


@dataclass(frozen=True, slots=True)
class Tile:
    """One number, large, and where it leads; `look` is "", "good", "warn" or "bad"."""

    name: str
    value: str
    url: str = ""
    look: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Ended:
    """What became of one queue's works: a line of the table. Numbers are pairs of text and link."""

    queue: str
    url: str
    cells: list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Busy:
    """A tenant that had much done; `width` is its bar's share, of 100."""

    name: str
    url: str
    works: str
    works_url: str
    width: float


@dataclass(frozen=True, slots=True)
class Overview:
    """All that the page shows."""

    span: Span
    spans: list[Span]
    as_of: datetime | None
    needs: list[Need]
    tiles: list[Tile]
    depths: list[Chart]
    charts: list[Chart]
    ended: list[Ended]
    untraced: list[dict[str, str]]
    busiest: list[Busy]
    lanes: Lanes
    drainers: list[Drainer]


def build(*, span: str, user: Any = None, now: datetime | None = None) -> Overview:
    """The page's content for a range such as "24h"; `user` may be shown where what is stuck is."""
    moment = now or timezone.now()
    told = read(span, moment)
    lanes = needs.lanes(moment)
    drainers = _alive(moment)
    letters = needs.letters()
    ended = add_up_by_queue(told.points)
    top = sorted(told.busiest.items(), key=lambda each: -each[1])[:BUSIEST]
    wanted = {int(number) for number, _ in top} | lanes.tenants()
    names = dict(Tenant.objects.using(OPERATOR).filter(pk__in=wanted).values_list("pk", "slug"))
    return Overview(
        span=told.span,
        spans=spans(),
        as_of=told.as_of,
        needs=needs.listed(told=told, letters=letters, lanes=lanes, drainers=drainers, now=moment),
        tiles=_tiles(told, ended, lanes, drainers),
        depths=pictures.depths(told),
        charts=[pictures.ages(told), *pictures.flows(told)],
        ended=_table(ended, told),
        untraced=_missing(told),
        busiest=_busy(top, names),
        lanes=lanes.named(names),
        drainers=drainers,
    )


def add_up_by_queue(points: Iterable[Point]) -> dict[str, dict[str, int]]:
    """Queue → final state → works."""
    ended: dict[str, dict[str, int]] = {name: {} for name in queues()}
    for point in points:
        ended[point.queue] = add_up([ended.get(point.queue, {}), point.ended])
    return ended


def completeness(points: Iterable[Point]) -> tuple[int, int]:
    """Of the works that were accepted: how many somebody accounts for, and how many there were."""
    some = list(points)
    return sum(point.traced for point in some), sum(point.made for point in some)


def open_works(told: Told) -> dict[str, int]:
    """Queue → works that lie open in it, in whichever state; dead ones are no such."""
    names = {**queues(), **told.depth}  # Also of one that is gone, and was counted.
    return {name: sum(told.depth.get(name, {}).get(state, 0) for state in OPEN) for name in names}


def _alive(now: datetime) -> list[Drainer]:
    rows = Drainer.objects.using(OPERATOR).filter(dead_at=None, beat_at__gt=now - ALIVE)
    return list(rows.order_by("host", "pid"))


def _tiles(
    told: Told, ended: Mapping[str, Mapping[str, int]], lanes: Lanes, drainers: Sequence[Drainer]
) -> list[Tile]:
    traced, made = completeness(told.points)
    dead = sum(depth.get("dead_letter", 0) for depth in told.depth.values())
    signed = ended.get("onboarding", {}).get("succeeded", 0)
    sent = ended.get("deliveries", {})
    tried = sent.get("succeeded", 0) + sent.get("dead_letter", 0)
    busy, slots = sum(d.busy for d in drainers), sum(d.slots for d in drainers)
    return [
        Tile(
            "Open work",
            count(sum(open_works(told).values())),
            links.open_work(),
            note="dead letters apart",
        ),
        Tile(
            "Dead letters",
            count(dead),
            links.letters(),
            look="bad" if dead else "good",
            note="wait for a person",
        ),
        Tile(
            "Accounted for",
            share(traced, made + told.lost),
            "#ended" if traced == made and not told.lost else "#untraced",
            look="good" if traced == made and not told.lost else "bad",
            note=f"of {count(made)} works accepted" + _besides(told.lost),
        ),
        Tile("Sign-ups ready", count(signed), links.ended("onboarding", "succeeded", told.ended)),
        Tile(
            "Deliveries arrived",
            share(sent.get("succeeded", 0), tried),
            links.ended("deliveries", "succeeded", told.ended),
            note=f"of {count(tried)} that ended",
        ),
        Tile(
            "Workers",
            count(len(drainers)),
            links.drainers(),
            look="good" if drainers else "bad",
            note=f"{count(busy)} of {count(slots)} slots busy",
        ),
        _held_back("Lanes paused", lanes.paused, links.paused(), "by somebody, or a breaker"),
        _held_back("Lanes failing", lanes.slow, links.failing(), "several times in a row"),
    ]


def _held_back(name: str, some: Sequence[LaneShown], url: str, note: str) -> Tile:
    more = "+" if len(some) >= MOST_LANES else ""
    return Tile(name, f"{len(some)}{more}", url, look="warn" if some else "", note=note)


def _besides(lost: int) -> str:
    return f", and {count(lost)} older" if lost else ""


def _table(ended: Mapping[str, Mapping[str, int]], told: Told) -> list[Ended]:
    states = ("succeeded", "cancelled", "discarded", "dead_letter")
    return [
        Ended(
            name,
            links.works(name),
            [(count(one.get(state, 0)), links.ended(name, state, told.ended)) for state in states],
        )
        for name, one in ended.items()
    ]


def _missing(told: Told) -> list[dict[str, str]]:
    """Those that nobody accounts for, the older ones first; each once."""
    older = [
        {"queue": name, "url": links.work(name, one["id"]), **one} for name, one in told.strays
    ]
    shown = {one["id"]: one for one in older}
    for point in told.points:
        shown |= {one["id"]: one for one in _untraced(point)}
    return list(shown.values())[:20]


def _untraced(point: Point) -> list[dict[str, str]]:
    """The works that nobody accounts for, and how many of them are not even there."""
    shown = [
        {"queue": point.queue, "url": links.work(point.queue, one["id"]), **one}
        for one in point.untraced
    ]
    gone = point.made - point.traced - len(point.untraced)
    if gone > 0 and len(point.untraced) < 20:
        when = f"{point.at:%Y-%m-%d %H:%M}"
        shown.append(
            {"queue": point.queue, "url": "", "id": f"{gone} of {when} UTC", "state": "gone"}
        )
    return shown


def _busy(top: Sequence[tuple[str, int]], names: Mapping[int, str]) -> list[Busy]:
    """The busiest, with links to those that are still there."""
    most = max((works for _, works in top), default=1)
    return [
        Busy(
            name=names.get(number, f"tenant {number}"),
            url=links.tenant(number) if number in names else "",
            works=count(works),
            works_url=links.works_of(number) if number in names else "",
            width=round(100 * works / most, 1),
        )
        for number, works in ((int(number), works) for number, works in top)
    ]
