"""The audit trail: one entry for each thing that an operator, a key or the system did.

An actor is a short text: "user:<id>", "operator:<user id>", "platform_key:<prefix>",
"api_key:<prefix>", "system:<what>" or "anonymous".
"""

from collections.abc import Mapping
from typing import Any

from structlog.contextvars import get_contextvars

from config.proxies import current_address
from tenants.models import AuditEntry


def record(
    *,
    actor: str,
    action: str,
    target: str,
    tenant_id: int | None = None,
    reason: str = "",
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
    using: str | None = None,
) -> AuditEntry:
    """Write one entry, in the caller's transaction, so that it stands or falls with the deed.

    By which request and from which address it came is known here. A target is "<what>:<its id>", or
    an id of the API's; never a number that only the database knows.
    """
    entry = AuditEntry(
        actor=actor,
        action=action,
        target=target,
        tenant_id=tenant_id,
        reason=reason[:500],
        before=dict(before) if before is not None else None,
        after=dict(after) if after is not None else None,
        request_id=str(get_contextvars().get("request_id", ""))[:64],
        address=current_address(),
    )
    entry.save(force_insert=True, using=using)
    return entry
