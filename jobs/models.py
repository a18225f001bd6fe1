"""Work and what surrounds it: who does it, how its lanes are held back, what each try came to."""

from typing import ClassVar

from django.db import models
from django.db.models import Q, Value
from django.db.models.functions import Now

from config.ids import uuid7
from jobs.works import NEWEST, Work, both, standing
from tenants.context import current_tenant_id
from tenants.models import Tenant

__all__ = [
    "GATE",
    "LANE_PAUSED",
    "NEWEST",
    "Attempt",
    "DeadLetter",
    "Drainer",
    "Gate",
    "Job",
    "Lane",
    "Replay",
    "Work",
    "standing",
]

GATE = 1  # The id of the only row of Gate.


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
    busy = models.IntegerField(**both(0))
    slots = models.IntegerField(**both(0))
    lease = models.BigIntegerField(**both(0))  # The last that it drew and that was committed.

    def __str__(self) -> str:
        return f"{self.host}:{self.pid}"


class Gate(models.Model):
    """Whether works are claimed at all: one row, `id` 1.

    It is shut when a drainer finds that the database went back in time, and opened by whoever said
    what may have been sent since (jobs.engine.gate, jobs.restoring).
    """

    id = models.SmallIntegerField(primary_key=True, **both(GATE))
    lineage = models.UUIDField(null=True)  # Of this database and all its copies, by its first use.
    server = models.CharField(max_length=80, blank=True, **both(""))  # The cluster, the database.
    lease = models.BigIntegerField(**both(0))  # The highest of the drainers that are gone.
    held_since = models.DateTimeField(null=True)
    held_why = models.CharField(max_length=300, blank=True, **both(""))
    remembered = models.BigIntegerField(**both(0))  # The lease that it was behind.

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
    paused_why = models.CharField(max_length=200, blank=True, **both(""))
    window = models.IntegerField(null=True)  # Takes the place of the queue's lane_window.
    rate = models.FloatField(null=True)  # Works a second, all drainers together.
    weight = models.FloatField(**both(1.0))

    # ---- The operator's: the app role writes none of it, and the narrower of both holds ----
    operator_paused_until = models.DateTimeField(null=True)
    operator_why = models.CharField(max_length=200, blank=True, **both(""))
    operator_window = models.IntegerField(null=True)
    operator_rate = models.FloatField(null=True)

    # ---- The engine's ----
    tokens = models.FloatField(null=True)  # Of the rate: what was left at refilled_at.
    refilled_at = models.DateTimeField(null=True)
    failures = models.IntegerField(**both(0))  # In a row.
    trips = models.IntegerField(**both(0))  # Of the breaker, in a row; not 0: open, or half open.
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
    resolved_by = models.CharField(max_length=100, blank=True, **both(""))
    resolution = models.CharField(max_length=10, choices=Resolution.choices, blank=True, **both(""))
    why = models.CharField(max_length=500, blank=True, **both(""))

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
    by_operator = models.BooleanField(**both(False))
    created_at = models.DateTimeField(db_default=Now())
    cancelled_at = models.DateTimeField(null=True)

    # ---- jobs.replaying's ----
    done = models.IntegerField(**both(0))
    skipped = models.IntegerField(**both(0))  # They stood elsewhere when their turn came.
    place = models.CharField(max_length=100, blank=True, **both(""))  # The last one looked at.
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
