"""What the console keeps: who may do what, the second factor, numbers of minutes and hours."""

from typing import Any

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models.functions import Now
from django_otp.models import Device, ThrottlingMixin

from config.ids import uuid7
from tenants.models import User


class Deed(models.Model):
    """What operators may do. It has no table: its permissions are what console.roles gives out."""

    class Meta:
        managed = False
        default_permissions = ()
        permissions = (
            ("replay", "Do dead letters again"),
            ("discard", "Give dead letters up"),
            ("cancel", "Withdraw works"),
            ("retry", "Try works again now"),
            ("steer", "Pause, resume and narrow lanes"),
            ("suspend", "Suspend and reopen tenants"),
            ("resume_onboarding", "Let a sign-up go on"),
            ("undo_onboarding", "Undo a sign-up"),
            ("close", "Close tenants for good"),
            ("plan", "Move tenants to other plans"),
            ("export", "Export a tenant's data"),
            ("erase", "Erase a person"),
            ("revoke", "Revoke keys"),
            ("operate", "Make operators, and change their roles"),
        )

    def __str__(self) -> str:
        return "deed"


class SecondFactor(ThrottlingMixin, Device):  # type: ignore[misc]
    """An operator's authenticator: time-based codes (RFC 6238), and codes for the day it is lost.

    console.second_factor makes and asks it. Not confirmed, it counts for nothing yet.
    """

    user = models.ForeignKey(User, models.CASCADE, related_name="+")
    secret = models.TextField()  # Encrypted by the ring STORED_SECRET_KEYS.
    last_step = models.BigIntegerField(default=0)  # Of the last code taken: none is taken twice.
    recovery = ArrayField(models.CharField(max_length=64), default=list)  # SHA-256 of those left.
    made_at = models.DateTimeField(db_default=Now())

    class Meta:
        default_permissions = ()  # Nobody's to see.
        constraints = [models.UniqueConstraint(fields=["user"], name="secondfactor_user")]

    def get_throttle_factor(self) -> float:
        """Seconds to wait after the first wrong code; each further one doubles them."""
        return 1.0


class Figures(models.Model):
    """What one queue did in one span of time: console.rollup writes it, console.overview shows it.

    Flows are sums; `depth` and `oldest` are what was seen at the span's end.
    """

    id = models.BigAutoField(primary_key=True)
    at = models.DateTimeField()  # The span's beginning.
    queue = models.CharField(max_length=40)
    depth = models.JSONField(null=True)  # State → works that lay there; null: nobody looked.
    oldest = models.JSONField(null=True)  # State → seconds since its oldest was accepted.
    made = models.BigIntegerField(default=0)  # Works accepted.
    traced = models.BigIntegerField(default=0)  # Of these, those that are accounted for.
    untraced = models.JSONField(default=list)  # Some of the others: {"id", "why"}.
    ended = models.JSONField(default=dict)  # Final state, or "dead_letter" → works.
    took = models.JSONField(default=dict)  # Time to success: bucket (console.spread) → works.
    busiest = models.JSONField(default=dict)  # Tenant's number → works that ended; the top ones.

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return f"{self.queue} at {self.at:%Y-%m-%d %H:%M}"


def _one_a_span(name: str) -> dict[str, Any]:
    """The key of the rollup's upsert; by its first column a range is read."""
    return {"fields": ["at", "queue"], "name": name}


class Minute(Figures):
    """A minute of a queue."""

    class Meta:
        constraints = [models.UniqueConstraint(**_one_a_span("minute_key"))]


class Hour(Figures):
    """An hour of a queue: its minutes together."""

    class Meta:
        constraints = [models.UniqueConstraint(**_one_a_span("hour_key"))]


class Bulk(models.Model):
    """An act on everything that a list's filter finds, in the background.

    The job `console.bulk`, which has the same id, goes through it by key, chunk by chunk
    (console.bulk), and writes with each how far it is: what is killed goes on from there.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    model = models.CharField(max_length=100)  # "jobs.deadletter"
    act = models.CharField(max_length=40)  # config.admin.acting.Act.name
    filter = models.TextField(blank=True)  # As the list's address had it.
    values = models.JSONField(default=dict)  # What the act's form asked besides the reason.
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.DO_NOTHING, db_constraint=False, related_name="+"
    )
    reason = models.CharField(max_length=500)
    request_id = models.CharField(max_length=64, blank=True)  # As the audit trail has it.
    total = models.IntegerField()  # When it was asked for.
    capped = models.BooleanField(default=False)  # There were more: nobody counted further.
    created_at = models.DateTimeField(db_default=Now())
    cancelled_at = models.DateTimeField(null=True)

    # ---- console.bulk's ----
    done = models.IntegerField(default=0)
    skipped = models.IntegerField(default=0)  # They stood elsewhere when their turn came.
    place = models.CharField(max_length=100, blank=True)  # The key of the last one looked at.
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    class Meta:
        verbose_name = "action in bulk"
        verbose_name_plural = "actions in bulk"

    def __str__(self) -> str:
        return f"{self.act} {self.model}: {self.done} of {self.total}"

    @property
    def status(self) -> str:
        """`pending`, `running`, `cancelled` or `finished`; console.bulk.stuck knows more."""
        if self.finished_at is not None:
            return "cancelled" if self.cancelled_at is not None else "finished"
        return "pending" if self.started_at is None else "running"
