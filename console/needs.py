"""What needs a person: a short list, the worst first, each with why and where to go."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import connections
from django.db.models import Q

from config.admin.paging import NEWEST
from console import links
from console.counting import WITHHELD
from console.reading import Told
from console.words import count, lasting
from jobs.filters import OFTEN
from jobs.models import LANE_PAUSED, Drainer, Gate, Lane
from jobs.registry import queues
from webhooks.models import Endpoint

OPERATOR = "operator"
MOST_LANES = 50
LETTERS_READ = 1_000  # The newest open ones, which are told apart by their error.
MOST_LETTERS = 6
STALE = timedelta(minutes=5)  # The rollup's last minute.
WAITS = {"onboarding": 60}  # Seconds that a work may wait for its turn before somebody should look.
WAIT = 300
PAUSES = ("operator_paused_until", "paused_until")

_LETTERS = """
select queue, reason, why, count(*), max(created_at) from (
  select queue, reason, left(error, 120) as why, created_at from jobs_deadletter
  where resolved_at is null order by created_at desc limit %s) l
group by 1, 2, 3 order by 4 desc, 5 desc limit %s
"""


@dataclass(frozen=True, slots=True)
class Need:
    """One thing: how bad ("bad", "warn"), what, why, where to go, and what to type."""

    look: str
    what: str
    why: str
    url: str
    command: str = ""


@dataclass(frozen=True, slots=True)
class LaneShown:
    """A lane that is held back, and why."""

    id: int
    key: str
    tenant_id: int
    why: str
    url: str
    tenant: str = ""


@dataclass(frozen=True, slots=True)
class Lanes:
    """Those that are paused now, and those that fail and so are slow."""

    paused: list[LaneShown]
    slow: list[LaneShown]

    def tenants(self) -> set[int]:
        return {one.tenant_id for one in (*self.paused, *self.slow)}

    def named(self, names: Mapping[int, str]) -> "Lanes":
        """The same, with the tenants' slugs."""
        return Lanes(*([_named(one, names) for one in some] for some in (self.paused, self.slow)))


@dataclass(frozen=True, slots=True)
class Letters:
    """Open dead letters of one queue with one error."""

    queue: str
    reason: str
    error: str
    many: int
    last: datetime


def lanes(now: datetime) -> Lanes:
    """Lanes that are paused or failing, the newest; by the indexes lane_paused and lane_failing."""
    every = Lane.objects.using(OPERATOR).order_by(NEWEST)
    held = every.filter(LANE_PAUSED, Q(operator_paused_until__gt=now) | Q(paused_until__gt=now))
    free = (Q(**{column: None}) | Q(**{f"{column}__lte": now}) for column in PAUSES)
    ailing = every.filter(*free, failing_since__isnull=False, failures__gte=OFTEN)
    found = held[:MOST_LANES].union(ailing[:MOST_LANES])
    paused: list[LaneShown] = []
    slow: list[LaneShown] = []
    for lane in sorted(found, key=lambda lane: (-lane.failures, lane.pk)):
        number = lane.tenant_id or 0
        shown = LaneShown(lane.pk, lane.key, number, _why(lane, now), links.lane(lane.pk))
        (paused if _is_paused(lane, now) else slow).append(shown)
    return Lanes(paused, slow)


def letters() -> list[Letters]:
    """What open dead letters died of, the most frequent first."""
    with connections[OPERATOR].cursor() as cursor:
        cursor.execute(_LETTERS, [LETTERS_READ, MOST_LETTERS])
        return [Letters(*row) for row in cursor.fetchall()]


def listed(
    *,
    told: Told,
    letters: Sequence[Letters],
    lanes: Lanes,
    drainers: Sequence[Drainer],
    now: datetime,
) -> list[Need]:
    """All of them, the worst first."""
    gate = list(_gate())
    found = [
        *gate,
        *_workers(told, drainers),
        *_lost(told),
        *_letters(letters, now),
        *_waiting(told, drainers, is_shut=bool(gate)),
        *_unknown(told),
        *_stale(told, now),
        *_lanes(lanes),
        *_endpoints(),
    ]
    return sorted(found, key=lambda need: need.look != "bad")


def _gate() -> Iterable[Need]:
    """After a restore nothing is claimed until an operator has said what may have been sent."""
    shut = Gate.objects.using(OPERATOR).filter(held_since__isnull=False).first()
    if shut is not None and shut.held_since is not None:
        since = f"{shut.held_since:%Y-%m-%d %H:%M} UTC"
        why = f"Since {since}: {shut.held_why}. Say what may have been sent since:"
        yield Need("bad", "No work is claimed", why, "", "manage.py restored")


def _workers(told: Told, drainers: Sequence[Drainer]) -> Iterable[Need]:
    if not drainers:
        lying = sum(depth.get("pending", 0) for depth in told.depth.values())
        yield Need(
            "bad",
            "No worker is alive",
            f"{count(lying)} works wait, and nobody does them. Start one:",
            links.changelist(Drainer),
            "celery -A config worker",
        )


def _lost(told: Told) -> Iterable[Need]:
    lost = sum(point.made - point.traced for point in told.points) + told.lost
    if lost > 0:
        yield Need(
            "bad",
            f"{count(lost)} works nobody accounts for",
            "They were accepted, and neither ended nor lie where the engine would find them.",
            "#untraced",
        )


def _letters(letters: Sequence[Letters], now: datetime) -> Iterable[Need]:
    for one in letters:
        ago = lasting((now - one.last).total_seconds())
        why = one.error or one.reason
        yield Need(
            "bad",
            f"{count(one.many)} dead in {one.queue}",
            f"{why} ({one.reason}, the last {ago} ago)",
            links.letters(queue=one.queue, reason=one.reason, **_error(one.error)),
        )


def _error(begins: str) -> dict[str, str]:
    return {"error": begins} if begins.strip() else {}


def _waiting(told: Told, drainers: Sequence[Drainer], *, is_shut: bool) -> Iterable[Need]:
    """Of what no suspension holds: the rollup tells no age of that."""
    full = bool(drainers) and all(d.busy >= d.slots for d in drainers)
    because = "every worker's slots are full" if full else "their lanes are paused or full"
    because = "nothing is claimed since the restore" if is_shut else because
    for name in queues():
        age = told.oldest.get(name, {}).get("pending", 0)
        if age > WAITS.get(name, WAIT) and drainers:
            lying = told.depth.get(name, {}).get("pending", 0)
            withheld = told.depth.get(name, {}).get(WITHHELD, 0)
            apart = f" {count(withheld)} are of suspended tenants." if withheld else ""
            yield Need(
                "warn",
                f"{count(lying)} wait in {name}",
                f"The oldest has waited {lasting(age)}: {because}.{apart}",
                links.works(name, state="pending"),
            )
    late = told.depth.get("onboarding", {}).get("failed", 0)
    if late:
        yield Need(
            "warn",
            "1 sign-up is late" if late == 1 else f"{count(late)} sign-ups are late",
            "A step failed and is tried again; the sign-up's page says which, and why.",
            links.works("onboarding", state="failed"),
        )


def _unknown(told: Told) -> Iterable[Need]:
    for name in queues():
        if doubtful := told.depth.get(name, {}).get("unknown", 0):
            yield Need(
                "warn",
                f"{count(doubtful)} in {name}: sent or not?",
                "A reply was lost. They are not sent again unless somebody says so.",
                links.works(name, state="unknown"),
            )


def _stale(told: Told, now: datetime) -> Iterable[Need]:
    if told.as_of is None or now - told.as_of > STALE:
        since = f"since {told.as_of:%Y-%m-%d %H:%M} UTC" if told.as_of else "yet"
        yield Need(
            "warn",
            "These numbers are old",
            f"Nothing was counted {since}: does beat run? To count now:",
            "",
            "manage.py rollup",
        )


def _lanes(lanes: Lanes) -> Iterable[Need]:
    shown = ((lanes.paused, "paused", links.paused()), (lanes.slow, "failing", links.failing()))
    for some, what, every in shown:
        if some:
            more = "+" if len(some) >= MOST_LANES else ""
            yield Need(
                "warn",
                f"{_lanes_are(len(some), more)} {what}",
                f"{some[0].key}: {some[0].why}",
                some[0].url if len(some) == 1 else every,
            )


def _lanes_are(many: int, more: str) -> str:
    return "1 lane is" if many == 1 else f"{many}{more} lanes are"


def _endpoints() -> Iterable[Need]:
    """By the index endpoint_disabled."""
    disabled = Endpoint.objects.using(OPERATOR).filter(disabled_at__isnull=False, deleted_at=None)
    found = list(disabled.values_list("host", "disabled_reason")[:MOST_LANES])
    if found:
        host, why = found[0]
        more = "+" if len(found) >= MOST_LANES else ""
        yield Need(
            "warn",
            "1 endpoint is disabled"
            if len(found) == 1
            else f"{len(found)}{more} endpoints are disabled",
            f"{host}: {why or 'by its owner'}",
            links.changelist(Endpoint, disabled="yes", deleted="no"),
        )


def _is_paused(lane: Lane, now: datetime) -> bool:
    return any(end and end > now for end in (lane.operator_paused_until, lane.paused_until))


def _why(lane: Lane, now: datetime) -> str:
    if lane.operator_paused_until and lane.operator_paused_until > now:
        return f"an operator: {lane.operator_why}"
    if lane.paused_until and lane.paused_until > now:
        if lane.paused_until == lane.opened_until:
            return f"its breaker is open, {lane.failures} failures in a row"
        return lane.paused_why or "paused"
    since = f" since {lane.failing_since:%Y-%m-%d %H:%M}" if lane.failing_since else ""
    return f"{lane.failures} failures in a row{since}"


def _named(one: LaneShown, names: Mapping[int, str]) -> LaneShown:
    name = names.get(one.tenant_id, f"tenant {one.tenant_id}")
    return LaneShown(one.id, one.key, one.tenant_id, one.why, one.url, name)
