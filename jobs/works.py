"""What every queue's works have in common, and how lists of them are indexed."""

from collections.abc import Collection, Mapping
from typing import Any, ClassVar
from uuid import UUID

from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now

from config.ids import uuid7
from jobs.states import WAITING, Priority, State
from tenants.context import current_tenant_id
from tenants.models import Tenant, TenantOwned


def both(value: Any) -> dict[str, Any]:
    """A default for Python and for the database: works are inserted by SELECT too."""
    return {"default": value, "db_default": value}


NEWEST = F("id").desc(nulls_last=True)  # "Nulls last" as no primary key has it.


# Always so; and who does not say it cannot have the index `standing`. The engine does not. While
# statistics say that nothing waits, that index looked to it as good as its own, and a claim read
# all that had come since: seconds for some thousand works.
LISTED, LISTED_SQL = Q(attempts__gte=0), "attempts >= 0"


def standing(name: str, *order: Any) -> models.Index:
    """The console's lists by state, newest first, of a queue; for those that say LISTED.

    Neither what is done nor what is in progress is in it: it costs a work one entry when it is
    made, and one more for each failure.
    """
    return models.Index(
        "state",
        *(order or (NEWEST,)),
        name=name,
        condition=~Q(state__in=[State.SUCCEEDED, State.PROCESSING]) & LISTED,
    )


class Work(TenantOwned):
    """A row that is a thing to do. Each queue is a table of its own that inherits this one.

    A queue's migration runs jobs.tables.WorkTable after IsolateTenant. Everything below the line is
    the engine's: others insert works, and leave the rest to jobs.services.
    """

    # Columns that a claim carries to the step, and those that Succeeded(patch=…) may write.
    claimed: ClassVar[tuple[str, ...]] = ()
    patchable: ClassVar[tuple[str, ...]] = ()
    # What else a claim carries, from other tables: name → SQL expression, over `carried_from`,
    # which joins `taken`. Always by composite keys, tenant first.
    carried: ClassVar[Mapping[str, str]] = {}
    carried_from: ClassVar[str] = ""
    # The column that names where the work goes: a drainer sends only so much there at once.
    destination: ClassVar[str | None] = None
    # Whether lanes may be ordered by seq: then only the lowest unfinished work of a lane runs.
    ordered: ClassVar[bool] = False
    # From where services.replay does it again, and what must hold besides: SQL over a work `w`.
    replayable: ClassVar[tuple[State, ...]] = (State.DEAD_LETTER,)
    replayable_if: ClassVar[str] = "true"
    # Why that may not hold, for whoever counts first: a word → SQL over a work `w`.
    unreplayable: ClassVar[Mapping[str, str]] = {}
    # What of that which waits services.retry_now tries at once: SQL over a work `w`. What never ran
    # waits for a time that was meant, such as a campaign's.
    retriable_if: ClassVar[str] = "(w.state = 'failed' or w.last_error <> '')"
    # What jobs.selection knows as its type: SQL over a work `w`; "" where there are no types.
    typed: ClassVar[str] = ""
    # Whether a work that was lost in mid-step becomes UNKNOWN, since it must not happen twice.
    never_twice: ClassVar[bool] = False
    # What counts its works' moves, in the transaction that makes them (jobs.tallying): SQL with one
    # parameter, JSON of [{"id": …, "before": state, "after": state}]. "" where nobody counts.
    tally: ClassVar[str] = ""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    tenant = models.ForeignKey(
        Tenant,
        models.DO_NOTHING,
        default=current_tenant_id,
        db_constraint=False,  # A sign-up is work before its tenant is a row.
        related_name="+",
        db_index=False,
    )
    lane = models.CharField(max_length=100, db_collation="C")  # Of one tenant: "<what>:<id>".
    seq = models.BigIntegerField(null=True, blank=True)  # In ordered lanes only.
    priority = models.SmallIntegerField(choices=Priority.choices, **both(Priority.FIRST))
    state = models.CharField(max_length=12, choices=State.choices, **both(State.PENDING))
    due_at = models.DateTimeField(db_default=Now())
    attempts = models.SmallIntegerField(**both(0))
    max_attempts = models.SmallIntegerField()  # To be shown: the policy decides (jobs.retry).
    created_at = models.DateTimeField(db_default=Now())

    # ---- The engine's ----
    losses = models.SmallIntegerField(**both(0))  # In a row: its drainer died in mid-step.
    # Of the attempts, those that its policy counts no more: before the last replay, and losses.
    forgiven = models.SmallIntegerField(**both(0))
    throttled_since = models.DateTimeField(null=True)  # Its first 429 since made, or replayed.
    lease = models.BigIntegerField(null=True, blank=True)
    drainer = models.BigIntegerField(null=True, blank=True)  # No key: Drainer rows come and go.
    last_error = models.CharField(max_length=500, blank=True, **both(""))
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        abstract = True
        indexes = [
            # The claim: a loose scan over tenants, then lanes, then the lane's works in order.
            models.Index(
                fields=["tenant", "lane", "priority", "id"],
                name="%(class)s_runnable",
                condition=Q(state=State.PENDING),
            ),
            # The promoter; the claim of what is to be undone.
            models.Index(
                fields=["due_at"],
                name="%(class)s_waiting",
                condition=Q(state__in=[*WAITING, State.DISCARDING]),
            ),
            # Caps: how much of a tenant's, and of a lane's, is in progress.
            models.Index(
                fields=["tenant", "lane"],
                name="%(class)s_processing",
                condition=Q(state=State.PROCESSING),
            ),
            # Rescue: what a dead drainer held.
            models.Index(
                fields=["drainer"], name="%(class)s_owned", condition=Q(drainer__isnull=False)
            ),
        ]

    def __str__(self) -> str:
        return f"{self._meta.model_name} {self.pk}"

    @classmethod
    def sent(cls, tenant_id: int, work_id: UUID) -> str:
        """The body of its request, where no attempt keeps it; "" where there is none."""
        return ""

    @classmethod
    def of_lane(cls, lane: str, states: Collection[State]) -> tuple[str, Any] | None:
        """What leads to a lane's works in these states, where an index does (jobs.selection).

        SQL over a work `w`, and what %(of_lane)s is in it.
        """
        return None
