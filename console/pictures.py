"""Which charts the overview shows, and of what."""

from collections.abc import Sequence

from console import links
from console.charts import Chart, Series, Values, draw
from console.reading import TIMED, Point, Told, highest
from console.spread import add_up, quantile
from console.words import count, lasting, lasting_ms
from jobs.registry import queues

# How a state looks: its states together, and the class of its colour. In the order of the pile.
LOOKS = (
    ("pending", ("pending",), "runnable"),
    ("in progress", ("processing",), "active"),
    ("scheduled", ("scheduled",), "waiting"),
    ("to be retried", ("failed",), "series-5"),
    ("held", ("held",), "held"),
    ("unknown", ("unknown",), "unknown"),
    ("being undone", ("discarding",), "undone"),
    ("dead letter", ("dead_letter",), "dead"),
)
TURN = ("pending", "scheduled", "failed")  # What could run now, whether it was promoted or not.
_SERIES = 6  # Colours of lines in console.css.


def depths(told: Told) -> list[Chart]:
    """What lies in each queue, by state."""
    return [_depth(told, name) for name in queues()]


def ages(told: Told) -> Chart:
    """How old the oldest work is that could run, in each queue."""
    series = [
        Series(
            name,
            f"series-{1 + place % _SERIES}",
            [highest(points, "oldest", TURN) for points in told.each(name)],
            links.works(name, state=_oldest_in(told, name)),
            now=_oldest(told, name),
        )
        for place, name in enumerate(queues())
    ]
    return draw(
        id="ages",
        title="Oldest work that waits for its turn",
        kind="lines",
        moments=told.moments,
        series=series,
        say=lasting,
        fold=max,
    )


def flows(told: Told) -> list[Chart]:
    """How many ended, and how long those took that succeeded: sign-ups, deliveries, messages."""
    return [
        chart
        for name, title in zip(TIMED, ("Sign-ups", "Deliveries", "Messages"), strict=True)
        if name in queues()
        for chart in (_ended(told, name, title), _took(told, name, title))
    ]


def _depth(told: Told, name: str) -> Chart:
    moments = told.each(name)
    series = []
    for label, states, look in LOOKS:
        values: Values = [highest(points, "depth", states) for points in moments]
        lying = sum(told.depth.get(name, {}).get(state, 0) for state in states)
        if lying or any(values):
            url = links.works(name, state=states[0])
            series.append(Series(label, look, values, url, now=count(lying)))
    return draw(
        id=f"depth-{name}",
        title=name.title(),
        kind="bars",
        moments=told.moments,
        series=series,
        say=count,
        fold=max,
    )


def _ended(told: Told, name: str, title: str) -> Chart:
    moments = told.each(name)
    shown = (
        ("succeeded", "good"),
        ("cancelled", "waiting"),
        ("discarded", "held"),
        ("dead_letter", "dead"),
    )
    series = []
    for state, look in shown:
        values = [_sum(points, state) for points in moments]
        if any(values) or state == "succeeded":
            url = links.ended(name, state, told.ended)
            label = state.replace("_", " ")
            series.append(Series(label, look, values, url, now=count(sum(values))))
    return draw(
        id=f"ended-{name}",
        title=f"{title} that ended",
        kind="bars",
        moments=told.moments,
        series=series,
        say=count,
    )


def _took(told: Told, name: str, title: str) -> Chart:
    moments = told.each(name)
    spreads = [add_up(point.took for point in points) for points in moments]
    whole = add_up(spreads)
    series = []
    for share, look in ((0.5, "series-1"), (0.95, "series-2")):
        over_all = quantile(whole, share)
        series.append(
            Series(
                f"p{share * 100:.0f}",
                look,
                [quantile(spread, share) for spread in spreads],
                links.ended(name, "succeeded", told.ended),
                now=lasting_ms(over_all) if over_all is not None else "—",
            )
        )
    words = {
        "onboarding": "Time from sign-up to ready",
        "deliveries": "Time from event to arrival",
    }
    return draw(
        id=f"took-{name}",
        title=words.get(name, f"{title}: time to success"),
        kind="lines",
        moments=told.moments,
        series=series,
        say=lasting_ms,
        fold=max,
    )


def _sum(points: Sequence[Point], state: str) -> float:
    return float(sum(point.ended.get(state, 0) for point in points))


def _oldest_in(told: Told, name: str) -> str:
    """The state in which the oldest waits."""
    held = told.oldest.get(name, {})
    return max(TURN, key=lambda state: held.get(state, 0))


def _oldest(told: Told, name: str) -> str:
    held = told.oldest.get(name, {})
    age = max(held.get(state, 0) for state in TURN)
    return lasting(age) if age else "none"
