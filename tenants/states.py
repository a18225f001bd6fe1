"""Where a tenant stands, and where it lives."""

from django.db import models


class Home(models.TextChoices):
    """Where a tenant's own tables are."""

    POOLED = "pooled"  # In the schema `pool`, beside others', under row-level security.
    DEDICATED = "dedicated"  # In a schema of its own, t_<id>, under the same policies.


class TenantStatus(models.TextChoices):
    """Where a tenant stands. The host middleware answers by it."""

    PROVISIONING = "provisioning"  # Being made; its address shows the set-up page (503).
    ACTIVE = "active"  # In use.
    SUSPENDED = "suspended"  # Closed for now by the platform (403); nothing is lost.
    CLOSING = "closing"  # Given up (410): being undone or, with `closes_at`, in its days of grace.
    CLOSED = "closed"  # Purged (410); its slug stays in quarantine.


# Each move, and the service that makes it.
TRANSITIONS = {
    (TenantStatus.PROVISIONING, TenantStatus.ACTIVE),  # onboarding, step `announce`
    (TenantStatus.PROVISIONING, TenantStatus.CLOSING),  # onboarding, when it is undone
    # onboarding, when nobody came and it is undone; lifecycle.closing.close
    (TenantStatus.ACTIVE, TenantStatus.CLOSING),
    (TenantStatus.CLOSING, TenantStatus.PROVISIONING),  # onboarding, undoing failed and is replayed
    (TenantStatus.ACTIVE, TenantStatus.SUSPENDED),  # services.suspend
    (TenantStatus.SUSPENDED, TenantStatus.ACTIVE),  # services.reopen
    (TenantStatus.SUSPENDED, TenantStatus.CLOSING),  # lifecycle.closing.close
    (TenantStatus.CLOSING, TenantStatus.ACTIVE),  # services.reopen, within the days of grace
    (TenantStatus.CLOSING, TenantStatus.SUSPENDED),  # services.reopen, when it was suspended before
    (TenantStatus.CLOSING, TenantStatus.CLOSED),  # lifecycle.purging, when nothing is left
}
