"""Work and what surrounds it: who does it, how its lanes are held back, what each try came to."""

from collections.abc import Collection, Mapping
from typing import Any, ClassVar
from uuid import UUID

from django.db import models
from django.db.models import F, Q, Value
from django.db.models.functions import Now

from config.ids import uuid7
from jobs.states import WAITING, Priority, State
from tenants.context import current_tenant_id
from tenants.models import Tenant, TenantOwned

GATE = 1  # The id of the only row of Gate.


def _both(value: Any) -> dict[str, Any]:
    """A default for Python and for the database: works are inserted by SELECT too."""
    return {"default": value, "db_default": value}


NEWEST = F("id").desc(nulls_last=True)  # "Nulls last" as no primary key has it.


def standing(name: str, *order: Any) -> models.Index:
    """The console's lists by state, newest first, of a queue.

    Neither what is done nor what is in progress is in it: it costs a work one entry when it is
    made, and one more for each failure.
    """
    return models.Index(
        "state",
        *(order or (NEWEST,)),
        name=name,
        condition=~Q(state__in=[State.SUCCEEDED, State.PROCESSING]),
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
    priority = models.SmallIntegerField(choices=Priority.choices, **_both(Priority.FIRST))
    state = models.CharField(max_length=12, choices=State.choices, **_both(State.PENDING))
    due_at = models.DateTimeField(db_default=Now())
    attempts = models.SmallIntegerField(**_both(0))
    max_attempts = models.SmallIntegerField()  # To be shown: the policy decides (jobs.retry).
    created_at = models.DateTimeField(db_default=Now())

    # ---- The engine's ----
    losses = models.SmallIntegerField(**_both(0))  # In a row: its drainer died in mid-step.
    # Of the attempts, those that its policy counts no more: before the last replay, and losses.
    forgiven = models.SmallIntegerField(**_both(0))
    throttled_since = models.DateTimeField(null=True)  # Its first 429 since made, or replayed.
    lease = models.BigIntegerField(null=True, blank=True)
    drainer = models.BigIntegerField(null=True, blank=True)  # No key: Drainer rows come and go.
    last_error = models.CharField(max_length=500, blank=True, **_both(""))
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


class Job(Work):
    """A small piece of background work; `kind` names its step in jobs.registry."""

    claimed = ("kind", "args")
    patchable = ("args",)
    typed = "w.kind"

    kind = models.CharField(max_length=60)
    args = models.JSONField(default=dict, blank=True)

    class Meta(Work.Meta):
        abstract = False
        indexes = [
            *Work.Meta.indexes,
            standing("job_standing"),
            # jobs.pruning: what was finished longest ago.
            models.Index(
                fields=["finished_at"],
                name="job_finished",
                condition=Q(finished_at__isnull=False),
            ),
        ]


class Drainer(models.Model):
    """One running drainer loop. Its beat says it lives; with dead_at set it never claims again."""

    id = models.BigAutoField(primary_key=True)
    host = models.CharField(max_length=255)
    pid = models.IntegerField()
    started_at = models.DateTimeField(db_default=Now())
    beat_at = models.DateTimeField(db_default=Now())
    dead_at = models.DateTimeField(null=True)
    busy = models.IntegerField(**_both(0))
    slots = models.IntegerField(**_both(0))
    lease = models.BigIntegerField(**_both(0))  # The last that it drew and that was committed.

    def __str__(self) -> str:
        return f"{self.host}:{self.pid}"


class Gate(models.Model):
    """Whether works are claimed at all: one row, `id` 1.

    It is shut when a drainer finds that the database went back in time, and opened by whoever said
    what may have been sent since (jobs.engine.gate, jobs.restoring).
    """

    id = models.SmallIntegerField(primary_key=True, **_both(GATE))
    lineage = models.UUIDField(null=True)  # Of this database and all its copies, by its first use.
    server = models.CharField(max_length=80, blank=True, **_both(""))  # The cluster, the database.
    lease = models.BigIntegerField(**_both(0))  # The highest of the drainers that are gone.
    held_since = models.DateTimeField(null=True)
    held_why = models.CharField(max_length=300, blank=True, **_both(""))
    remembered = models.BigIntegerField(**_both(0))  # The lease that it was behind.

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(id=GATE), name="gate_one")]

    def __str__(self) -> str:
        return "held" if self.held_since else "open"


# A pause may be over: whoever asks compares the times too.
LANE_PAUSED = Q(paused_until__isnull=False) | Q(operator_paused_until__isnull=False)


class Lane(models.Model):
    """What there is to say about a lane: a row exists only where there is something."""

    tenant_isolated: ClassVar[bool] = True

    id = models.BigAutoField(primary_key=True)
    tenant = models.ForeignKey(
        Tenant,
        models.DO_NOTHING,
        default=current_tenant_id,
        db_constraint=False,
        related_name="+",
        db_index=False,
    )
    key = models.CharField(max_length=100, db_collation="C")
    paused_until = models.DateTimeField(null=True)  # "infinity" is not used: a far date is.
    paused_why = models.CharField(max_length=200, blank=True, **_both(""))
    window = models.IntegerField(null=True)  # Takes the place of the queue's lane_window.
    rate = models.FloatField(null=True)  # Works a second, all drainers together.
    weight = models.FloatField(**_both(1.0))

    # ---- The operator's: the app role writes none of it, and the narrower of both holds ----
    operator_paused_until = models.DateTimeField(null=True)
    operator_why = models.CharField(max_length=200, blank=True, **_both(""))
    operator_window = models.IntegerField(null=True)
    operator_rate = models.FloatField(null=True)

    # ---- The engine's ----
    tokens = models.FloatField(null=True)  # Of the rate: what was left at refilled_at.
    refilled_at = models.DateTimeField(null=True)
    failures = models.IntegerField(**_both(0))  # In a row.
    trips = models.IntegerField(**_both(0))  # Of the breaker, in a row; not 0: open, or half open.
    failing_since = models.DateTimeField(null=True)  # The first failure after the last success.
    failed_at = models.DateTimeField(null=True)  # The last one.
    opened_at = models.DateTimeField(null=True)  # The breaker, the last time.
    # The pause that opening made. While paused_until is the same, the pause is the breaker's.
    opened_until = models.DateTimeField(null=True)
    # What drainers have learnt of the place that it leads to (jobs.engine.pacing).
    learnt_window = models.IntegerField(null=True)
    learnt_rate = models.FloatField(null=True)
    learnt_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["tenant", "key"], name="lane_key"),
        ]
        indexes = [
            # The console's lists: what is held back, and what fails.
            models.Index(NEWEST, name="lane_paused", condition=LANE_PAUSED),
            models.Index(NEWEST, name="lane_failing", condition=Q(failing_since__isnull=False)),
        ]

    def __str__(self) -> str:
        return self.key


class Attempt(models.Model):
    """One try at one work. Append-only, partitioned by day (jobs.partitions)."""

    class Came(models.TextChoices):
        """What the try came to."""

        SUCCEEDED = "succeeded"
        RETRY = "retry"
        FAILED = "failed"
        UNKNOWN = "unknown"
        THROTTLED = "throttled"  # Told to come later: not counted against the work.
        LOST = "lost"  # Its drainer died; nobody saw the end.

    tenant_isolated: ClassVar[bool] = True

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    tenant = models.ForeignKey(
        Tenant, models.DO_NOTHING, db_constraint=False, related_name="+", db_index=False
    )
    queue = models.CharField(max_length=40)
    work_id = models.UUIDField()
    number = models.SmallIntegerField()
    started_at = models.DateTimeField()
    duration_ms = models.IntegerField(null=True)  # None when nobody saw the end.
    outcome = models.CharField(max_length=10, choices=Came.choices)
    error = models.TextField(blank=True)
    request = models.JSONField(null=True)
    response = models.JSONField(null=True)
    drainer = models.BigIntegerField()

    class Meta:
        # Django knows no partitions: jobs/migrations/0002. The table's key is (tenant_id, work_id,
        # number, started_at), by which a work's timeline is read; the console's list goes by
        # (started_at, id), and by the outcome of those that did not succeed (0011).
        managed = False
        db_table = "jobs_attempt"

    def __str__(self) -> str:
        return f"{self.work_id} #{self.number}"


class DeadLetter(models.Model):
    """A work that waits for an operator, and afterwards what the operator made of it."""

    class Reason(models.TextChoices):
        EXHAUSTED = "exhausted"  # Out of attempts, or out of time.
        FAILED = "failed"  # The step said that it never will succeed.
        POISON = "poison"  # Three drainers in a row died of it.
        UNDO = "undo"  # Discarding ran out of attempts.
        OVERFLOW = "overflow"  # Its lane was shut, and held more than it keeps.

    class Resolution(models.TextChoices):
        REPLAYED = "replayed"
        DISCARDED = "discarded"
        CANCELLED = "cancelled"

    tenant_isolated: ClassVar[bool] = True

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    tenant = models.ForeignKey(
        Tenant, models.DO_NOTHING, db_constraint=False, related_name="+", db_index=False
    )
    queue = models.CharField(max_length=40)
    work_id = models.UUIDField()
    reason = models.CharField(max_length=10, choices=Reason.choices)
    error = models.CharField(max_length=500, blank=True)
    request = models.JSONField(null=True)
    response = models.JSONField(null=True)
    # Those whose partition was dropped (jobs.keeping); the others are in jobs_attempt.
    attempts = models.JSONField(default=list, db_default=Value([], models.JSONField()))
    created_at = models.DateTimeField(db_default=Now())
    resolved_at = models.DateTimeField(null=True)
    resolved_by = models.CharField(max_length=100, blank=True, **_both(""))
    resolution = models.CharField(
        max_length=10, choices=Resolution.choices, blank=True, **_both("")
    )
    why = models.CharField(max_length=500, blank=True, **_both(""))

    class Meta:
        constraints = [
            # One open letter a work: what services resolve.
            models.UniqueConstraint(
                fields=["tenant", "queue", "work_id"],
                name="deadletter_open",
                condition=Q(resolved_at__isnull=True),
            ),
        ]
        indexes = [
            # The inbox, newest first.
            models.Index(
                fields=["-created_at"],
                name="deadletter_inbox",
                condition=Q(resolved_at__isnull=True),
            ),
            models.Index(fields=["work_id"], name="deadletter_work"),  # The console, of a work.
            # The console's lists of what is open, newest first.
            *(
                models.Index(
                    *columns,
                    NEWEST,
                    name=f"deadletter_{name}",
                    condition=Q(resolved_at__isnull=True),
                )
                for name, columns in (
                    ("waiting", ()),
                    ("of_queue", ("queue",)),
                    ("of_reason", ("reason",)),
                )
            ),
            # jobs.pruning: what was resolved longest ago.
            models.Index(
                fields=["resolved_at"],
                name="deadletter_resolved",
                condition=Q(resolved_at__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.queue} {self.work_id}: {self.reason}"


class Replay(models.Model):
    """Everything that a selection finds, done again or given up in the background.

    The job `jobs.resolve` goes through it chunk by chunk (jobs.replaying), and writes with each how
    far it is: what is killed goes on from there.
    """

    class Action(models.TextChoices):
        REPLAY = "replay"
        DISCARD = "discard"
        MISSING = "missing"  # Make the works that should be there and are not.
        RETRY = "retry"  # Try at once what was tried and waits for its next time.
        CANCEL = "cancel"  # Withdraw what is not being done.

    tenant_isolated: ClassVar[bool] = True

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    tenant = models.ForeignKey(
        Tenant,
        models.DO_NOTHING,
        default=current_tenant_id,
        db_constraint=False,
        related_name="+",
        db_index=False,
    )
    queue = models.CharField(max_length=40)
    action = models.CharField(max_length=10, choices=Action.choices)
    selection = models.JSONField()  # jobs.selection.Selection
    actor = models.CharField(max_length=100)
    reason = models.CharField(max_length=500)
    total = models.IntegerField()  # When it was asked for.
    # Whether the operator's login wrote it, which then does the work: not for the app role to set.
    by_operator = models.BooleanField(**_both(False))
    created_at = models.DateTimeField(db_default=Now())
    cancelled_at = models.DateTimeField(null=True)

    # ---- jobs.replaying's ----
    done = models.IntegerField(**_both(0))
    skipped = models.IntegerField(**_both(0))  # They stood elsewhere when their turn came.
    place = models.CharField(max_length=100, blank=True, **_both(""))  # The last one looked at.
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    class Meta:
        indexes = [
            # jobs.pruning: what was finished longest ago.
            models.Index(
                fields=["finished_at"],
                name="replay_finished",
                condition=Q(finished_at__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.action} {self.queue}: {self.done} of {self.total}"

    @property
    def status(self) -> str:
        """`pending`, `running`, `cancelled` or `finished`; jobs.replaying.stuck knows more."""
        if self.finished_at is not None:
            return "cancelled" if self.cancelled_at is not None else "finished"
        return "pending" if self.started_at is None else "running"
