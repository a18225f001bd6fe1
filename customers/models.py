"""A tenant's customers: the people it speaks to."""

from typing import ClassVar

from django.db import models
from django.db.models import Q

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
        ]

    def __str__(self) -> str:
        return str(self.pk)
