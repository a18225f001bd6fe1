"""A tenant's customers: the people it speaks to."""

from typing import ClassVar

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from config.ids import uuid7
from tenants.context import current_tenant_id

ATTRIBUTES_LIMIT = 8 * 1024  # Bytes of JSON.


class Consent(models.TextChoices):
    """Whether the customer wants to be written to."""

    UNKNOWN = "unknown"  # Never asked. No campaign goes there.
    GIVEN = "given"
    WITHDRAWN = "withdrawn"  # Opted out; stays so until the customer says otherwise.


class Customer(models.Model):
    """One customer of a tenant's.

    The same table in `pool` and in every dedicated schema, with tenant_id and row-level security
    in both: a search_path set by force still shows nothing of others. No foreign key to the
    tenant: the row may be moved to another schema or database with its home.
    """

    tenant_isolated: ClassVar[bool] = True

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    tenant_id = models.BigIntegerField(default=current_tenant_id, editable=False)
    external_id = models.CharField(max_length=100, null=True, blank=True)  # noqa: DJ001
    name = models.CharField(max_length=200, blank=True)
    phone = models.CharField(max_length=16, blank=True)  # E.164: +4930123456.
    email = models.EmailField(max_length=254, blank=True)
    attributes = models.JSONField(default=dict, blank=True)
    lifetime_value = models.DecimalField(max_digits=14, decimal_places=2, default=0)
    last_purchase_at = models.DateTimeField(null=True, blank=True)
    consent = models.CharField(max_length=10, choices=Consent.choices, default=Consent.UNKNOWN)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints = [
            # Null when the tenant has no id of its own for the customer; null equals no null.
            models.UniqueConstraint("tenant_id", "external_id", name="customer_external_id"),
        ]
        indexes = [
            # Equality on text is leakproof, so both serve look-ups under row-level security.
            models.Index("tenant_id", "phone", name="customer_phone", condition=~Q(phone="")),
            models.Index("tenant_id", "email", name="customer_email", condition=~Q(email="")),
            # campaigns.audience: of one who withdrew, nobody with the number is written to.
            models.Index(
                "tenant_id",
                "phone",
                name="customer_withdrawn",
                condition=Q(consent="withdrawn") & ~Q(phone=""),
            ),
        ]

    def __str__(self) -> str:
        return str(self.pk)


class Import(models.Model):
    """A file of customers that is being taken in, and how far it is (customers.importing).

    The position and the counts are written in the transaction that writes the rows they tell of.
    """

    class Format(models.TextChoices):
        CSV = "csv"
        JSONL = "jsonl"

    tenant_isolated: ClassVar[bool] = True

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    tenant_id = models.BigIntegerField(default=current_tenant_id, editable=False)
    format = models.CharField(max_length=5, choices=Format.choices)
    file = models.CharField(max_length=200)  # In the tenants' storage; gone when it is finished.
    size = models.BigIntegerField()  # Bytes.
    digest = models.BinaryField()  # SHA-256 of the file.
    idempotency_key = models.BinaryField(null=True)  # config.idempotency, for as long as it keeps.
    actor = models.CharField(max_length=100)
    created_at = models.DateTimeField(db_default=Now())
    cancelled_at = models.DateTimeField(null=True)

    # ---- The job's ----
    place = models.BigIntegerField(default=0)  # Bytes that are done.
    line = models.BigIntegerField(default=0)  # Lines that are done.
    read = models.BigIntegerField(default=0)
    created = models.BigIntegerField(default=0)
    updated = models.BigIntegerField(default=0)
    unchanged = models.BigIntegerField(default=0)  # They said what was known already.
    rejected = models.BigIntegerField(default=0)
    error = models.CharField(max_length=500, blank=True)  # Why it could not go on.
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint("tenant_id", "idempotency_key", name="customer_import_key"),
        ]

    def __str__(self) -> str:
        return f"{self.format} {self.pk}: {self.status}"

    @property
    def status(self) -> str:
        """`pending`, `running`, `finished`, `failed` or `cancelled`."""
        if self.finished_at is None:
            return "pending" if self.started_at is None else "running"
        if self.cancelled_at is not None:
            return "cancelled"
        return "failed" if self.error else "finished"


class RejectedRow(models.Model):
    """A row of an import that was not taken, and why. What stood in it is not kept."""

    tenant_isolated: ClassVar[bool] = True

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    tenant_id = models.BigIntegerField(default=current_tenant_id, editable=False)
    of = models.ForeignKey(
        Import, models.CASCADE, db_constraint=False, db_index=False, related_name="rejected_rows"
    )
    line = models.BigIntegerField()  # Of the file, from 1: where the row begins.
    reason = models.CharField(max_length=500)

    class Meta:
        constraints = [
            models.UniqueConstraint("tenant_id", "of", "line", name="customer_rejected_line"),
        ]

    def __str__(self) -> str:
        return f"line {self.line}: {self.reason}"


class Export(models.Model):
    """All customers of the tenant's in a file, for some days (customers.exporting)."""

    tenant_isolated: ClassVar[bool] = True

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    tenant_id = models.BigIntegerField(default=current_tenant_id, editable=False)
    format = models.CharField(max_length=5, choices=Import.Format.choices)
    actor = models.CharField(max_length=100)
    created_at = models.DateTimeField(db_default=Now())
    file = models.CharField(max_length=200, blank=True)  # In the tenants' storage.
    rows = models.BigIntegerField(default=0)
    size = models.BigIntegerField(default=0)  # Bytes.
    finished_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return f"{self.format} {self.pk}: {self.status}"

    @property
    def status(self) -> str:
        """`pending` or `finished`."""
        return "pending" if self.finished_at is None else "finished"


class Suppression(models.Model):
    """A number that no campaign of the tenant's writes to, whoever has it."""

    class Reason(models.TextChoices):
        REQUESTED = "requested"  # The tenant put it on the list.
        OPTED_OUT = "opted_out"  # Whoever has it said so to the provider.
        ERASED = "erased"  # Its customer was erased, and asked not to be written to again.

    tenant_isolated: ClassVar[bool] = True

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    tenant_id = models.BigIntegerField(default=current_tenant_id, editable=False)
    phone = models.CharField(max_length=16)  # E.164.
    reason = models.CharField(max_length=10, choices=Reason.choices, default=Reason.REQUESTED)
    actor = models.CharField(max_length=100)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [
            models.UniqueConstraint("tenant_id", "phone", name="customer_suppressed_phone"),
        ]

    def __str__(self) -> str:
        return f"suppression {self.pk}"


class ConsentChange(models.Model):
    """That a customer's consent changed, when, and by whose word. Append-only."""

    tenant_isolated: ClassVar[bool] = True

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    tenant_id = models.BigIntegerField(default=current_tenant_id, editable=False)
    customer_id = models.UUIDField()  # No key: the entry goes with the customer's erasure alone.
    before = models.CharField(max_length=10, choices=Consent.choices)
    after = models.CharField(max_length=10, choices=Consent.choices)
    source = models.CharField(max_length=100)  # An actor, import:<id>, sync:<id>, provider:<acc>.
    # Why a withdrawal was undone, or how it was said. It may tell of the customer, and so goes with
    # the entry.
    reason = models.CharField(max_length=500, blank=True, default="", db_default="")
    at = models.DateTimeField(db_default=Now())

    class Meta:
        indexes = [
            models.Index("tenant_id", "customer_id", "id", name="customer_consent_log"),
        ]

    def __str__(self) -> str:
        return f"{self.before} → {self.after}"


class Source(models.Model):
    """A place of the tenant's own from which its customers are pulled (customers.syncing)."""

    tenant_isolated: ClassVar[bool] = True

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    tenant_id = models.BigIntegerField(default=current_tenant_id, editable=False)
    name = models.CharField(max_length=100)
    url = models.TextField()
    headers = models.TextField(blank=True)  # Encrypted JSON (webhooks.custom_headers).
    # Where an answer has its customers, and what is sent back for the next page: member names with
    # dots between; an empty items_path is the answer itself.
    items_path = models.CharField(max_length=200, blank=True, default="data")
    cursor_path = models.CharField(max_length=200, blank=True, default="next_cursor")
    cursor_parameter = models.CharField(max_length=100, default="cursor")
    size_parameter = models.CharField(max_length=100, blank=True, default="limit")
    page_size = models.IntegerField(default=500)
    # Field of a customer, or attributes.<name> → path in an item. None: members of the same names.
    fields = models.JSONField(default=dict)
    every = models.IntegerField(null=True)  # Minutes; None: when it is asked for.
    series = models.UUIDField(null=True)  # Of the jobs that begin its syncs (customers.schedules).
    created_at = models.DateTimeField(db_default=Now())
    updated_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [
            models.UniqueConstraint("tenant_id", "name", name="customer_source_name"),
        ]

    def __str__(self) -> str:
        return f"source {self.pk}"


class Sync(models.Model):
    """One pull of all that a source has, and how far it is (customers.syncing).

    The cursor and the counts are written in the transaction that writes the page they tell of.
    """

    tenant_isolated: ClassVar[bool] = True

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    tenant_id = models.BigIntegerField(default=current_tenant_id, editable=False)
    source = models.ForeignKey(
        Source, models.CASCADE, db_constraint=False, db_index=False, related_name="syncs"
    )
    actor = models.CharField(max_length=100)
    created_at = models.DateTimeField(db_default=Now())
    cancelled_at = models.DateTimeField(null=True)

    # ---- The job's ----
    cursor = models.TextField(blank=True)  # Of the next page; empty for the first.
    mark = models.TextField(blank=True)  # A cursor from before, by which a circle is found.
    pages = models.BigIntegerField(default=0)
    read = models.BigIntegerField(default=0)
    created = models.BigIntegerField(default=0)
    updated = models.BigIntegerField(default=0)
    unchanged = models.BigIntegerField(default=0)
    rejected = models.BigIntegerField(default=0)
    error = models.CharField(max_length=500, blank=True)  # Why it ended, or the last try failed.
    throttled_since = models.DateTimeField(null=True)  # The first 429 since the last page.
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            # Two at once would do the same twice.
            models.UniqueConstraint(
                fields=["tenant_id", "source"],
                name="customer_sync_open",
                condition=Q(finished_at__isnull=True),
            ),
        ]
        indexes = [
            models.Index("tenant_id", "source", "id", name="customer_sync_listed"),
        ]

    def __str__(self) -> str:
        return f"sync {self.pk}: {self.status}"

    @property
    def status(self) -> str:
        """As Import.status."""
        if self.finished_at is None:
            return "pending" if self.started_at is None else "running"
        if self.cancelled_at is not None:
            return "cancelled"
        return "failed" if self.error else "finished"


class RejectedItem(models.Model):
    """An item of a sync's page that was not taken, and why. What stood in it is not kept."""

    tenant_isolated: ClassVar[bool] = True

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    tenant_id = models.BigIntegerField(default=current_tenant_id, editable=False)
    of = models.ForeignKey(
        Sync, models.CASCADE, db_constraint=False, db_index=False, related_name="rejected_items"
    )
    number = models.BigIntegerField()  # Of all items that the sync read, from 1.
    page = models.BigIntegerField()  # From 1.
    reason = models.CharField(max_length=500)

    class Meta:
        constraints = [
            models.UniqueConstraint("tenant_id", "of", "number", name="customer_rejected_item"),
        ]

    def __str__(self) -> str:
        return f"item {self.number}: {self.reason}"


class Erasure(models.Model):
    """One customer's erasure, and how far it is (customers.erasing).

    The number and the address are here for as long as something is left to erase: whoever erases
    by them finds them when the customer's row is gone.
    """

    tenant_isolated: ClassVar[bool] = True

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    tenant_id = models.BigIntegerField(default=current_tenant_id, editable=False)
    customer_id = models.UUIDField()
    actor = models.CharField(max_length=100)
    reason = models.CharField(max_length=500)
    suppress = models.BooleanField(default=False)
    created_at = models.DateTimeField(db_default=Now())

    # ---- The job's ----
    phone = models.CharField(max_length=16, blank=True)
    email = models.CharField(max_length=254, blank=True)
    gone_at = models.DateTimeField(null=True)  # The customer's row.
    erased = models.JSONField(default=dict)  # Who erased → how many rows.
    finished_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["tenant_id", "customer_id"],
                name="customer_erasure_open",
                condition=Q(finished_at__isnull=True),
            ),
        ]

    def __str__(self) -> str:
        return f"erasure {self.pk}: {self.status}"

    @property
    def status(self) -> str:
        """`pending`, `running` or `finished`."""
        if self.finished_at is not None:
            return "finished"
        return "pending" if self.gone_at is None else "running"
