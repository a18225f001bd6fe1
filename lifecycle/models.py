"""What happens to a tenant after its sign-up."""

from typing import ClassVar

from django.db import models
from django.db.models import Q, Value
from django.db.models.functions import Now

from config.ids import uuid7
from tenants.context import current_tenant_id
from tenants.models import Tenant
from tenants.states import Home


class Phase(models.TextChoices):
    """How far a move to another home is; lifecycle.moving has a module for each."""

    PREPARE = "prepare"  # The new home is made, and is empty.
    CAPTURE = "capture"  # From its end on, each write in the old home leaves its key.
    COPY = "copy"
    VERIFY = "verify"  # Counts and checksums of every table, from one snapshot of both homes.
    SWITCH = "switch"  # Writes are refused for a moment; the tenant lives in the new home.
    KEEP = "keep"  # The old home refuses writes, until nobody can believe in it any more.
    CLEAR = "clear"  # What is left in the old home goes.
    DONE = "done"


class PlanMove(models.Model):
    """A tenant's change to another plan, and how far it is (lifecycle.plans).

    Between plans of one home it is done as soon as it is written. To another home the job
    `tenants.move`, which has the move's id, takes the tenant's own rows there (lifecycle.moving).
    """

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
    plan_before = models.CharField(max_length=40)
    plan_after = models.CharField(max_length=40)
    home_before = models.CharField(max_length=10, choices=Home.choices)
    home_after = models.CharField(max_length=10, choices=Home.choices)
    actor = models.CharField(max_length=100)
    reason = models.CharField(max_length=500)
    created_at = models.DateTimeField(db_default=Now())

    # ---- The job's ----
    phase = models.CharField(
        max_length=10, choices=Phase.choices, default=Phase.PREPARE, db_default=Phase.PREPARE
    )
    shape = models.CharField(max_length=32, blank=True, db_default="")  # Of the tables, at COPY.
    table = models.CharField(max_length=63, blank=True, db_default="")  # That is being copied,
    place = models.JSONField(null=True)  # and the key of its last row that was.
    rows_total = models.BigIntegerField(db_default=0)  # As counted before COPY.
    rows_done = models.BigIntegerField(db_default=0)  # Copied.
    changes = models.BigIntegerField(db_default=0)  # Written meanwhile, and copied again.
    cleared = models.BigIntegerField(db_default=0)  # Deleted in the old home, after KEEP.
    # Table → {"rows": …, "checksum": …}, the same in both homes.
    checks = models.JSONField(default=dict, db_default=Value({}, models.JSONField()))
    horizon = models.CharField(max_length=20, blank=True, db_default="")  # VERIFY's oldest xid.
    refused_ms = models.IntegerField(null=True)  # For how long SWITCH refused writes, in all.
    error = models.CharField(max_length=500, blank=True, db_default="")  # Why it did not go on.
    started_at = models.DateTimeField(null=True)
    moved_at = models.DateTimeField(null=True)  # From here on it lives in the new home.
    abandoned_at = models.DateTimeField(null=True)  # Given up before that: nothing was changed.
    finished_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["tenant"], name="planmove_open", condition=Q(finished_at__isnull=True)
            ),
        ]

    def __str__(self) -> str:
        return f"{self.plan_before} → {self.plan_after}: {self.status}"

    @property
    def status(self) -> str:
        """`pending`, `running`, `finished` or `abandoned`; lifecycle.plans.stuck knows more."""
        if self.finished_at is not None:
            return "finished" if self.abandoned_at is None else "abandoned"
        return "pending" if self.started_at is None else "running"


class Change(models.Model):
    """The key of a row that was written in the home that its tenant is about to leave.

    Written by the trigger slipway.capture_move(), in the transaction that wrote the row; gone as
    soon as the row was copied again.
    """

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
    table = models.CharField(max_length=63)
    key = models.JSONField()  # Column → value.

    def __str__(self) -> str:
        return f"{self.table} {self.key}"


class Export(models.Model):
    """Everything of one tenant in an archive, for some days (lifecycle.exporting)."""

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
    actor = models.CharField(max_length=100)
    reason = models.CharField(max_length=500, blank=True)
    created_at = models.DateTimeField(db_default=Now())

    # ---- The job's ----
    started_at = models.DateTimeField(null=True)
    table = models.CharField(max_length=100, blank=True, default="", db_default="")  # It is at.
    rows = models.BigIntegerField(default=0, db_default=0)
    taken_at = models.DateTimeField(null=True)  # The moment that all of it shows.
    file = models.CharField(max_length=200, blank=True, default="", db_default="")
    size = models.BigIntegerField(default=0, db_default=0)  # Bytes.
    digest = models.CharField(max_length=64, blank=True, default="", db_default="")  # SHA-256, hex.
    finished_at = models.DateTimeField(null=True)
    # Somebody whom it shows was erased: nobody is given it, and it goes (lifecycle.erasing).
    erased_at = models.DateTimeField(null=True)

    class Meta:
        indexes = [
            # lifecycle.tending: whose files were written longest ago.
            models.Index(
                fields=["finished_at"],
                name="archive_finished",
                condition=Q(finished_at__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return f"export {self.pk}: {self.status}"

    @property
    def status(self) -> str:
        """`pending`, `running` or `finished`; lifecycle.exporting.stuck knows more."""
        if self.finished_at is not None:
            return "finished"
        return "pending" if self.started_at is None else "running"


class Closure(models.Model):
    """That a tenant was closed: by whom, why, until when it may be reopened, and its purge.

    Stays when nothing else does, beside the audit trail and the tenant's own row.
    """

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
    actor = models.CharField(max_length=100)
    reason = models.CharField(max_length=500)
    created_at = models.DateTimeField(db_default=Now())
    closes_at = models.DateTimeField()  # The tenant's own: with another, this closing is past.

    # ---- The purge's (lifecycle.purging) ----
    begun_at = models.DateTimeField(null=True)
    phase = models.CharField(max_length=100, blank=True, default="", db_default="")  # It is at.
    works = models.JSONField(null=True)  # Queue → how many were cancelled.
    rows = models.BigIntegerField(default=0, db_default=0)
    files = models.BigIntegerField(default=0, db_default=0)
    people = models.IntegerField(default=0, db_default=0)  # Who belonged to nobody else.
    finished_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return f"closing {self.pk}"
