"""A sign-up, what was made for it, and what a new tenant finds on its first day."""

from datetime import time
from uuid import uuid4

from django.db import models
from django.db.models import F, Q

from config.ids import uuid7
from jobs.models import NEWEST, Work, standing
from jobs.states import State
from tenants.models import TenantOwned
from tenants.states import Home

# A sign-up in one of these states holds its address no more.
RELEASED = (State.CANCELLED, State.DISCARDED)

QUIET_FROM, QUIET_UNTIL = time(21), time(8)


class PendingOnboarding(Work):
    """One sign-up, from the accepted request to the ready tenant. Its id is the request id.

    The row is written by onboarding.services.accept, in one statement; the engine alone moves it.
    """

    # Random, not time-ordered: whoever knows it may watch the sign-up, so it must not be guessed.
    id = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    slug = models.CharField(max_length=40)
    email = models.EmailField(max_length=254)
    tenant_name = models.CharField(max_length=50)
    plan = models.CharField(max_length=40)
    # Fixed when accepted: a plan that is moved later does not move a sign-up half made.
    home = models.CharField(max_length=10, choices=Home.choices)
    external_id = models.CharField(max_length=100, blank=True)
    metadata = models.JSONField(default=dict, blank=True)
    locale = models.CharField(max_length=35, default="en")
    time_zone = models.CharField(max_length=64, default="UTC")
    caller = models.CharField(max_length=100)  # An actor: tenants.audit.
    key_digest = models.BinaryField(max_length=32, null=True)  # config.idempotency.
    fingerprint = models.BinaryField(max_length=32)  # SHA-256 of the body: same key, same body?

    class Meta(Work.Meta):
        abstract = False
        verbose_name = "sign-up"
        constraints = [
            # A second sign-up with a drawn number would build in another tenant's house.
            models.UniqueConstraint("tenant", name="onboarding_tenant"),
            # These two are global on purpose, and what `accept` relies on to have one winner.
            models.UniqueConstraint(
                "slug", condition=~Q(state__in=RELEASED), name="onboarding_slug"
            ),
            models.UniqueConstraint(
                "key_digest", condition=Q(key_digest__isnull=False), name="onboarding_key"
            ),
        ]
        indexes = [
            *Work.Meta.indexes,
            # The console's lists, newest first: these ids do not tell the time.
            models.Index(fields=["created_at", "id"], name="onboarding_newest"),
            # console.counting: what ended in a minute.
            models.Index(
                fields=["finished_at"],
                name="onboarding_finished",
                condition=Q(finished_at__isnull=False),
            ),
            standing("onboarding_standing", F("created_at").desc(nulls_last=True), NEWEST),
        ]

    def __str__(self) -> str:
        return self.slug


class ProvisionedResource(TenantOwned):
    """The ledger: one row for each thing that a provisioning step made, until it is undone."""

    id = models.UUIDField(primary_key=True, editable=False)  # uuid5(request id, step).
    step = models.CharField(max_length=60)
    name = models.CharField(max_length=255)  # What the thing is called in the world.
    detail = models.JSONField(default=dict)
    lease = models.BigIntegerField()  # Of the try that recorded it.
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint("tenant", "step", name="resource_step"),
        ]

    def __str__(self) -> str:
        return f"{self.step} {self.name}"


class Workspace(TenantOwned):
    """What a tenant starts with. Read by the tenant's page and by GET /v1/workspace."""

    id = models.UUIDField(primary_key=True, editable=False)
    # No message goes out at night, in the tenant's own time zone.
    quiet_from = models.TimeField(default=QUIET_FROM)
    quiet_until = models.TimeField(default=QUIET_UNTIL)
    default_role = models.CharField(max_length=10, default="member")  # Of those who are invited.
    segments = models.JSONField(default=list)  # [{"name": …, "filter": …}]
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint("tenant", name="workspace_tenant")]

    def __str__(self) -> str:
        return f"workspace of {self.tenant_id}"


class ActivityDay(TenantOwned):
    """One day of a tenant, rolled up. Read by the tenant's page and by GET /v1/activity."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    day = models.DateField()
    members = models.PositiveIntegerField(default=0)
    customers = models.PositiveIntegerField(default=0)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint("tenant", "day", name="activity_day")]

    def __str__(self) -> str:
        return f"{self.day}"


class WelcomeMail(TenantOwned):
    """That a welcome mail was sent, and how often: at most twice, and one an address a day."""

    # uuid5(request id, "welcome"); of one that was asked for again, the job's.
    id = models.UUIDField(primary_key=True, editable=False)
    # SHA-256 of the address in lower case: counting needs no address in the clear.
    address_digest = models.BinaryField(max_length=32)
    sends = models.PositiveSmallIntegerField(default=0)
    started_at = models.DateTimeField()

    class Meta:
        indexes = [models.Index("address_digest", "started_at", name="welcome_address")]

    def __str__(self) -> str:
        return str(self.id)
