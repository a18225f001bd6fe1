"""What happened."""

from django.db import models

from config.ids import uuid7
from tenants.models import TenantOwned


class Event(TenantOwned):
    """Something that happened to a tenant. Written once, in the transaction that made it happen."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    type = models.CharField(max_length=100)  # "tenant.ready"
    payload = models.JSONField()
    idempotency_key = models.CharField(max_length=255, null=True)  # noqa: DJ001 - unique, if any.
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            # The same key publishes once, within its tenant.
            models.UniqueConstraint("tenant", "idempotency_key", name="event_idempotency"),
        ]
        # A tenant's feed.
        indexes = [models.Index(fields=["tenant", "type", "-id"], name="event_type")]

    def __str__(self) -> str:
        return f"{self.type} {self.id}"
