"""What happened, who wants to hear of it, and each telling."""

from collections.abc import Mapping
from typing import Any, ClassVar
from uuid import UUID

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from config.ids import uuid7
from jobs.models import NEWEST, Work, standing
from jobs.states import FINISHED, WAITING, State
from tenants.context import current_tenant_id
from tenants.models import Tenant, TenantOwned

# The types of the events that tell how webhooks themselves fare (webhooks.operational).
OPERATIONAL = ("endpoint.disabled", "delivery.exhausted", "delivery.recovered")

# States that few deliveries come to, and few leave.
SET_ASIDE = (
    State.HELD,
    State.DEAD_LETTER,
    State.DISCARDING,
    State.DISCARDED,
    State.CANCELLED,
    State.UNKNOWN,
)
# Over a delivery `w` and its endpoint `o`.
_THERE = """exists (select from public.webhooks_endpoint o where o.tenant_id = w.tenant_id
  and o.id = w.endpoint_id and {})"""


def _owner() -> "models.ForeignKey[Any, Any]":
    """Whose it is: a tenant's, or the platform's, which has no row (tenants.context.PLATFORM)."""
    return models.ForeignKey(
        Tenant,
        models.DO_NOTHING,
        default=current_tenant_id,
        db_constraint=False,
        related_name="+",
        db_index=False,
    )


class EventType(models.Model):
    """One version of a kind of event. The catalogue is the platform's; every tenant reads it."""

    id = models.BigAutoField(primary_key=True)
    name = models.CharField(max_length=100, db_collation="C")  # "invoice.paid"
    version = models.SmallIntegerField(default=1)
    description = models.CharField(max_length=500, blank=True, default="")
    schema = models.JSONField(null=True)  # JSON Schema (draft 2020-12) of the event's data.
    created_at = models.DateTimeField(db_default=Now())
    archived_at = models.DateTimeField(null=True)  # Published no more; what was, is delivered.

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["name", "version"], name="event_type_version"),
        ]

    def __str__(self) -> str:
        return f"{self.name} v{self.version}"


class Endpoint(TenantOwned):
    """Where somebody wants to hear of events. Its lane is `endpoint:<id>`."""

    class Disabled(models.TextChoices):
        """Why it is told nothing."""

        REQUESTED = "requested"  # Its owner, or an operator, said so.
        GONE = "gone"  # It answered 410.
        FAILING = "failing"  # It has only failed for days.

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    tenant = _owner()
    url = models.TextField()
    host = models.CharField(max_length=260, db_collation="C")  # Of the URL: "<host>:<port>".
    description = models.CharField(max_length=200, blank=True, default="")
    # Names, or "<prefix>.*"; none is every event.
    event_types = ArrayField(models.CharField(max_length=100), default=list, blank=True)
    custom_headers = models.TextField(blank=True, default="")  # Encrypted JSON; values are secrets.
    # [{"secret": encrypted, "made_at": …, "expires_at": …|null}], newest first: webhooks.secrets.
    secrets = models.JSONField(default=list)
    rate = models.FloatField(null=True)  # Deliveries a second; mirrored to its lane.
    max_in_flight = models.SmallIntegerField(null=True)  # Mirrored to its lane's window.
    timeout = models.FloatField(null=True)  # Seconds in all; None: the queue's.
    schedule = ArrayField(models.IntegerField(), null=True)  # Seconds before each retry.
    ordered = models.BooleanField(default=False)
    next_seq = models.BigIntegerField(default=1, db_default=1)  # Of ordered deliveries.
    disabled_at = models.DateTimeField(null=True)
    disabled_reason = models.CharField(
        max_length=10, choices=Disabled.choices, blank=True, default="", db_default=""
    )
    # What waits up to this delivery was given up, and is being cancelled (webhooks.moving).
    discarded_until = models.UUIDField(null=True)
    deleted_at = models.DateTimeField(null=True)  # Its deliveries are still to be read about.
    created_at = models.DateTimeField(db_default=Now())
    updated_at = models.DateTimeField(db_default=Now())

    class Meta:
        indexes = [
            # The console's lists: by host, and of those that are told nothing.
            models.Index("host", NEWEST, name="endpoint_host"),
            models.Index(
                "disabled_reason",
                NEWEST,
                name="endpoint_disabled_listed",
                condition=~Q(disabled_reason=""),
            ),
            # Fan-out, and a tenant's list.
            models.Index(
                fields=["tenant", "id"],
                name="endpoint_live",
                condition=Q(deleted_at__isnull=True),
            ),
            # webhooks.tending.
            models.Index(
                fields=["tenant", "id"],
                name="endpoint_disabled",
                condition=Q(disabled_at__isnull=False) & Q(deleted_at__isnull=True),
            ),
            models.Index(
                fields=["tenant", "id"],
                name="endpoint_discarding",
                condition=Q(discarded_until__isnull=False) & Q(deleted_at__isnull=True),
            ),
        ]

    def __str__(self) -> str:
        return f"endpoint {self.pk}"

    @property
    def lane(self) -> str:
        """The key of its lane."""
        return f"endpoint:{self.pk}"


class Event(TenantOwned):
    """Something that happened to a tenant. Written once, in the transaction that made it happen.

    What it says is in `webhooks_payload`, by (tenant_id, event_id, created_at); `kept_payload` has
    it when that partition is gone and somebody still needs it.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    tenant = _owner()
    type = models.CharField(max_length=100)  # "tenant.ready"
    version = models.SmallIntegerField(null=True)  # Of its type in the catalogue.
    kept_payload = models.TextField(null=True)  # noqa: DJ001 - JSON; null where there is none.
    idempotency_key = models.CharField(max_length=255, null=True)  # noqa: DJ001 - unique, if any.
    # Of type and payload: the same key with another body is refused.
    fingerprint = models.CharField(max_length=64, default="", db_default="")
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [
            # The same key publishes once, within its tenant. Only of those that have one: a new
            # database would look events up by the tenant alone here, for the keys of deliveries.
            models.UniqueConstraint(
                fields=["tenant", "idempotency_key"],
                name="event_idempotency",
                condition=Q(idempotency_key__isnull=False),
            ),
        ]
        indexes = [
            # A tenant's feed, of one type or of all: see Delivery for "nulls last".
            models.Index("tenant", "type", NEWEST, name="event_type"),
            models.Index("tenant", NEWEST, name="event_listed"),
            models.Index(fields=["created_at"], name="event_age"),  # Pruning.
            # webhooks.retention: the copies that outlived their partition.
            models.Index(
                fields=["created_at"],
                name="event_kept",
                condition=Q(kept_payload__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.type} {self.id}"


class Payload(models.Model):
    """What an event says, as the bytes that are sent. Partitioned by day (jobs.partitions)."""

    tenant_isolated: ClassVar[bool] = True

    event_id = models.UUIDField(primary_key=True)
    tenant = _owner()
    created_at = models.DateTimeField()  # The event's.
    data = models.TextField()  # JSON.

    class Meta:
        # Django knows no partitions: migrations/0002. Its key is (tenant_id, event_id, created_at).
        managed = False
        db_table = "webhooks_payload"

    def __str__(self) -> str:
        return f"payload of {self.event_id}"


class Delivery(Work):
    """The telling of one event to one endpoint."""

    claimed = ("event_id", "endpoint_id", "test")
    # All that a try needs comes with the claim: no step asks the database again.
    carried: ClassVar[Mapping[str, str]] = {
        "type": "e.type",
        "happened_at": "e.created_at",
        "payload": "coalesce(e.kept_payload, slipway.payload_of(e.tenant_id, e.id, e.created_at))",
        "url": "w.url",
        "secrets": "w.secrets::text",  # Read once for many deliveries: webhooks.exchange.
        "custom_headers": "w.custom_headers",
        "timeout": "w.timeout",
        "schedule": "w.schedule",
        # Or that this delivery was given up, and is cancelled in a moment.
        "disabled": "w.disabled_at is not null or w.deleted_at is not null"
        " or coalesce(taken.id <= w.discarded_until, false)",
        # What becomes of it is told to nobody: else an operational event would beget another.
        "quiet": f"taken.test or coalesce(e.type in {OPERATIONAL}, false)",
    }
    carried_from = """
left join public.webhooks_event e on e.tenant_id = taken.tenant_id and e.id = taken.event_id
left join public.webhooks_endpoint w on w.tenant_id = taken.tenant_id and w.id = taken.endpoint_id
"""
    destination = "host"
    ordered = True
    # Whoever lost one asks for it again, succeeded or not: the same row, the same webhook-id.
    replayable = (State.DEAD_LETTER, *FINISHED)
    # Somebody hears it, and what it says is still there.
    replayable_if = """
exists (select from public.webhooks_endpoint o where o.tenant_id = w.tenant_id
  and o.id = w.endpoint_id and o.disabled_at is null and o.deleted_at is null)
and exists (select from public.webhooks_event e left join public.webhooks_payload p
  on p.tenant_id = e.tenant_id and p.event_id = e.id and p.created_at = e.created_at
  where e.tenant_id = w.tenant_id and e.id = w.event_id
  and coalesce(e.kept_payload, p.data) is not null)
"""
    unreplayable: ClassVar[Mapping[str, str]] = {
        "endpoint_disabled": _THERE.format("o.disabled_at is not null and o.deleted_at is null"),
        "endpoint_deleted": _THERE.format("o.deleted_at is not null"),
        "payload_gone": _THERE.format("true"),
    }
    typed = """(select e.type from public.webhooks_event e
  where e.tenant_id = w.tenant_id and e.id = w.event_id)"""

    @classmethod
    def sent(cls, tenant_id: int, work_id: UUID) -> str:
        """The envelope with what the event says: all tries send the same. See Work.sent."""
        from webhooks.exchange import body_sent  # It knows of sending, which this file does not.

        return body_sent(tenant_id, work_id)

    tenant = _owner()
    event = models.ForeignKey(
        Event, models.DO_NOTHING, db_constraint=False, related_name="+", db_index=False
    )
    endpoint = models.ForeignKey(
        Endpoint, models.DO_NOTHING, db_constraint=False, related_name="+", db_index=False
    )
    host = models.CharField(max_length=260, db_collation="C")  # The endpoint's.
    test = models.BooleanField(default=False, db_default=False)  # Asked for, to see it arrive.

    class Meta(Work.Meta):
        abstract = False
        verbose_name_plural = "deliveries"
        constraints = [
            # An event is told to an endpoint once, however often it is fanned out.
            models.UniqueConstraint(fields=["tenant", "event", "endpoint"], name="delivery_once"),
        ]
        indexes = [
            *Work.Meta.indexes,
            standing("delivery_standing"),
            # The head of an ordered lane.
            models.Index(
                fields=["tenant", "lane", "seq"],
                name="delivery_head",
                condition=Q(seq__isnull=False) & ~Q(state__in=FINISHED),
            ),
            # What waits in a lane for its time: held, cancelled or moved with its endpoint.
            models.Index(
                fields=["tenant", "lane", "id"],
                name="delivery_retrying",
                condition=Q(state__in=WAITING),
            ),
            # What a shut lane holds, oldest first.
            models.Index(
                fields=["tenant", "lane", "id"],
                name="delivery_held",
                condition=Q(state=State.HELD),
            ),
            # An endpoint's deliveries, newest first; a tenant's; and those of a tenant that came
            # to nothing. By "nulls last", which no other key has, they are read in this order
            # whatever is planned: never by walking the primary key through all tenants' rows.
            models.Index("tenant", "endpoint", NEWEST, name="delivery_of_endpoint"),
            models.Index("tenant", NEWEST, name="delivery_listed"),
            models.Index(
                "tenant",
                "state",
                NEWEST,
                name="delivery_set_aside",
                condition=Q(state__in=SET_ASIDE),
            ),
            # jobs.pruning: what was finished longest ago.
            models.Index(
                fields=["finished_at"],
                name="delivery_finished",
                condition=Q(finished_at__isnull=False),
            ),
        ]
