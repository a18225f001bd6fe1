"""Lists of deliveries, newest first: as quick for a tenant that has none as for one with millions.

Where an index leads to what is asked for, a page is read from it. Where none does, only so many
deliveries are looked at for one page: it may be short, even empty, and still name the next one.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from django.db.models import Q, QuerySet
from django.utils import timezone

from jobs.models import NEWEST
from jobs.states import State
from webhooks.missing import floor
from webhooks.models import SET_ASIDE, Delivery

LOOKED_AT = 10_000  # Deliveries for one page.
SLACK = timedelta(days=1)  # Between a delivery's id, which is made first, and its created_at.
_FIRST = datetime(1970, 1, 1, tzinfo=UTC) + SLACK


@dataclass(frozen=True, slots=True)
class Listed:
    """Some deliveries, and where the next page begins if they are not enough; None at the end."""

    rows: Iterable[Delivery]
    place: UUID | None


def listed(asked: Mapping[str, Any], *, before: UUID | None, most: int) -> Listed:
    """The newest of the current tenant's that are as asked, behind the place `before`.

    `asked` is any of endpoint, event (UUIDs), type, state, since, until.
    """
    reachable = Delivery.objects.filter(_bounds(asked, before))
    by = _leading(asked)
    conditions = {name: _CONDITIONS[name](value) for name, value in asked.items()}
    # Events come afterwards, by key: joined, a wrong guess at how many there are spoils the plan.
    rows = reachable.filter(*conditions.values()).prefetch_related("event").order_by(NEWEST)
    if "event" in by or set(asked) <= by:
        return Listed(rows[:most], None)
    edge = _edge(reachable.filter(*(conditions[name] for name in by)))
    return Listed(rows.filter(pk__gte=edge)[:most] if edge else rows[:most], edge)


def _leading(asked: Mapping[str, Any]) -> set[str]:
    """What of it an index leads to, in the order of the list; an event's are a handful."""
    if "event" in asked:
        return {"event"}
    if asked.get("state") in SET_ASIDE:
        return {"state"}
    return {"endpoint"} & set(asked)


def _bounds(asked: Mapping[str, Any], before: UUID | None) -> Q:
    """Where in the order of ids it can be: they begin with the time."""
    bounds = Q(pk__lt=before) if before else Q()
    if since := asked.get("since"):
        bounds &= Q(pk__gte=floor(max(since, _FIRST) - SLACK))
    if (until := asked.get("until")) and until < timezone.now():
        bounds &= Q(pk__lt=floor(max(until, _FIRST) + SLACK))
    return bounds


def _edge(looked: QuerySet[Delivery]) -> UUID | None:
    """The last one to be looked at; None when there are fewer."""
    ids = looked.order_by(NEWEST).values_list("pk", flat=True)
    return next(iter(ids[LOOKED_AT - 1 : LOOKED_AT]), None)


_CONDITIONS: Mapping[str, Any] = {
    "endpoint": lambda endpoint: Q(endpoint_id=endpoint),
    "event": lambda event: Q(event_id=event),
    "type": lambda name: Q(event__type=name),
    "state": lambda state: Q(state=State(state)),
    "since": lambda moment: Q(created_at__gte=moment),
    "until": lambda moment: Q(created_at__lt=moment),
}
