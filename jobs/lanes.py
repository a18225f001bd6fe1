"""Holding a lane back, and letting it go: what an operator or a breaker says about it."""

from datetime import datetime

from django.db import transaction

from jobs.errors import ReasonMissing
from jobs.models import Lane
from tenants import audit

OPERATOR = "operator"


def pause(*, key: str, tenant_id: int, until: datetime, actor: str, reason: str) -> None:
    """Claim nothing from a lane before `until`. What already runs goes on.

    Raises ReasonMissing.
    """
    if not reason.strip():
        raise ReasonMissing("Say why: the audit trail keeps it.")
    with transaction.atomic(using=OPERATOR):
        Lane.objects.using(OPERATOR).update_or_create(
            key=key,
            tenant_id=tenant_id,
            defaults={"paused_until": until, "paused_why": reason[:200]},
        )
        _record(key, "lane.paused", actor, reason, tenant_id, {"until": until.isoformat()})


def resume(*, key: str, tenant_id: int, actor: str, reason: str = "") -> None:
    """Claim from a lane again; drainers see it with their next look."""
    with transaction.atomic(using=OPERATOR):
        lane = Lane.objects.using(OPERATOR).filter(tenant_id=tenant_id, key=key)
        lane.update(paused_until=None, paused_why="")
        _record(key, "lane.resumed", actor, reason, tenant_id, {"until": None})


def _record(
    key: str,
    action: str,
    actor: str,
    reason: str,
    tenant_id: int,
    after: dict[str, str | None],
) -> None:
    audit.record(
        actor=actor,
        action=action,
        target=f"lane:{key}"[:100],
        tenant_id=tenant_id,
        reason=reason,
        after=after,
        using=OPERATOR,
    )
