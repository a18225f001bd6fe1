"""What nobody goes on with, though it is not at its end: its job is dead, or was withdrawn."""

from collections.abc import Iterable
from uuid import UUID

from customers.models import Erasure, Export, Import, Sync
from jobs.models import Job
from jobs.states import State

_NOBODYS = (State.DEAD_LETTER, State.DISCARDING, State.DISCARDED, State.CANCELLED)


def stuck(rows: Iterable[Import | Export | Sync | Erasure]) -> set[UUID]:
    """Which of them. Each one's job has its id; once that is replayed, they go on where they were.

    In the tenant's context.
    """
    waiting = [row.pk for row in rows if row.finished_at is None]
    if not waiting:
        return set()
    return set(Job.objects.filter(pk__in=waiting, state__in=_NOBODYS).values_list("pk", flat=True))
