"""What was ended long ago is kept for a while, for whoever asks what happened, and then deleted.

Each queue says by `retention` in SLIPWAY["QUEUES"] under which name of SLIPWAY["RETENTION"] its
finished works go; one that says nothing keeps them: a sign-up's row is what its address and its
idempotency key rest on. Apps add sorts of their own in SLIPWAY["PRUNED"]. What was tried is in the
attempts, whose partitions go at an age of their own (jobs.partitions).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import connections
from django.utils import timezone
from django.utils.module_loading import import_string

from jobs.registry import queues
from jobs.states import FINISHED

AT_ONCE = 1000  # Rows in one transaction, so that nobody waits for its locks.
OPERATOR = "operator"

_COUNT = "select count(*) from {table} r where {which}"
_DELETE = "delete from {table}"
_FORGET = "update {table} set {forget}"
# The oldest first; a row that somebody holds is left for the next time.
_PRUNE = """
{act} where id in (
  select r.id from {table} r where {which}
  order by r.{oldest} limit %(most)s for update of r skip locked)
"""


@dataclass(frozen=True, slots=True)
class Sort:
    """One sort of row that goes when it is old enough: data, run by `prune` and `prunable`.

    `which` is a condition over a row `r` of `table`, with one parameter, %(before)s; `oldest` is
    the column by whose index the oldest come first. What goes is the row, unless `forget` says what
    of it: the SET of an UPDATE.
    """

    name: str
    table: str
    retention: str  # A name in SLIPWAY["RETENTION"]: days.
    oldest: str
    which: str
    forget: str = ""

    @property
    def days(self) -> int:
        """For how many days these are kept."""
        return int(settings.SLIPWAY["RETENTION"][self.retention])

    @property
    def statement(self) -> str:
        """Prunes a batch."""
        act = _FORGET if self.forget else _DELETE
        act = act.format(table=self.table, forget=self.forget)
        return _PRUNE.format(act=act, table=self.table, which=self.which, oldest=self.oldest)


_FINISHED = ", ".join(f"'{state}'" for state in FINISHED)
RESOLVED_LETTERS = Sort(
    "letters", "jobs_deadletter", "letters", "resolved_at", "r.resolved_at < %(before)s"
)
ENDED_REPLAYS = Sort("replays", "jobs_replay", "works", "finished_at", "r.finished_at < %(before)s")


def sorts() -> Iterator[Sort]:
    """Everything that is pruned: finished works first, then what may hang on them."""
    for name, queue in queues().items():
        if retention := settings.SLIPWAY["QUEUES"][name].get("retention"):
            which = f"r.finished_at < %(before)s and r.state in ({_FINISHED})"
            yield Sort(name, queue.table, retention, "finished_at", which)
    yield RESOLVED_LETTERS
    yield ENDED_REPLAYS
    for path in settings.SLIPWAY["PRUNED"]:
        yield import_string(path)


def prunable(sort: Sort) -> int:
    """How many rows of this sort are old enough."""
    statement = _COUNT.format(table=sort.table, which=sort.which)
    with connections[OPERATOR].cursor() as cursor:
        cursor.execute(statement, {"before": _before(sort)})
        return int(cursor.fetchone()[0])


def prune(sort: Sort, *, tell: Callable[[int], None] = lambda pruned: None) -> int:
    """Delete the rows of this sort that are old enough, batch by batch; says how many.

    `tell` hears of each batch.
    """
    values: dict[str, Any] = {"before": _before(sort), "most": AT_ONCE}
    pruned = 0
    while True:
        with connections[OPERATOR].cursor() as cursor:
            cursor.execute(sort.statement, values)
            count = int(cursor.rowcount)
        pruned += count
        tell(count)
        if count < AT_ONCE:
            return pruned


def _before(sort: Sort) -> datetime:
    return timezone.now() - timedelta(days=sort.days)
