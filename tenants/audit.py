"""The audit trail: one entry for each thing that an operator, a key or the system did.

An actor is a short text: "user:<id>", "operator:<user id>", "platform_key:<prefix>",
"api_key:<prefix>", "system:<what>" or "anonymous".
"""

import json
import time
from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, connection
from structlog.contextvars import get_contextvars

from config.proxies import current_address
from tenants.models import AuditEntry
from tenants.postgres import token
from tenants.routers import is_lent

OPERATORS = "operator:"  # How the actors begin that the app role may not name.
VOUCHED = 60.0  # Seconds for which the database believes an entry.


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
    if is_lent() and actor.startswith(OPERATORS) and using in (None, DEFAULT_DB_ALIAS):
        _vouch_for(entry)
    else:
        entry.save(force_insert=True, using=using)
    return entry


def _vouch_for(entry: AuditEntry) -> None:
    """Write an operator's entry as the app role, which may not pass for one (sql/vouched.sql)."""
    said = {
        "id": str(entry.pk),
        "tenant_id": entry.tenant_id,
        "actor": entry.actor,
        "action": entry.action,
        "target": entry.target,
        "reason": entry.reason,
        "before": entry.before,
        "after": entry.after,
        "request_id": entry.request_id,
        "address": entry.address,
        "expires": time.time() + VOUCHED,
    }
    text = json.dumps(said)
    key = settings.CONTEXT_KEY
    with connection.cursor() as cursor:
        cursor.execute(
            "select slipway.record_for_operator(%s, %s, %s)",
            [text, token.key_id(key), token.vouch(key, text)],
        )
