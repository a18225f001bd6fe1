"""Lists of a campaign's messages, newest first: as quick for a million as for ten.

Where an index leads to what is asked for, a page is read from it. Where none does, only so many
messages are looked at for one page: it may be short, even empty, and still name the next one.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID

from django.db.models import QuerySet

from campaigns.models import SET_ASIDE, Message
from jobs.states import State

LOOKED_AT = 10_000  # Messages for one page.


@dataclass(frozen=True, slots=True)
class Listed:
    """Some messages, and where the next page begins if they are not enough; None at the end."""

    rows: Iterable[Message]
    place: UUID | None


def listed(
    campaign_id: UUID,
    *,
    states: Sequence[State] | None = None,
    phone: str | None = None,
    before: UUID | None = None,
    most: int,
) -> Listed:
    """A campaign's messages behind the place `before`; tests among them, unless a phone is asked.

    None is any. One campaign writes to a phone once.
    """
    rows = Message.objects.filter(campaign_id=campaign_id).order_by("-id")
    rows = rows.filter(pk__lt=before) if before else rows
    if phone is not None:
        # At most one, and without an order its index is the obvious way there.
        found = rows.filter(phone=phone, test=False).exclude(phone="").order_by()
        return Listed(found.filter(state__in=states) if states else found, None)
    if states is None:
        return Listed(rows[:most], None)
    if set(states) <= set(SET_ASIDE):
        return Listed(_set_aside(rows, states, most), None)
    ids = rows.values_list("pk", flat=True)
    edge = next(iter(ids[LOOKED_AT - 1 : LOOKED_AT]), None)
    found = rows.filter(state__in=states)
    return Listed(found.filter(pk__gte=edge)[:most] if edge else found[:most], edge)


def _set_aside(rows: QuerySet[Message], states: Sequence[State], most: int) -> list[Message]:
    """Each state's newest by its index, then the newest of all: the index orders one state only."""
    found = [row for state in states for row in rows.filter(state=state)[:most]]
    return sorted(found, key=lambda row: row.pk, reverse=True)[:most]
