"""What endpoints need from time to time: `manage.py tend`, and beat each minute.

All of it can be run again, by several at once, and late: everything that it goes by is in Postgres.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any
from uuid import UUID

import structlog
from django.conf import settings
from django.db import connections

from jobs import shutting
from tenants.context import NOWHERE, TenantRef, tenant_context
from webhooks import moving, operational
from webhooks.errors import EndpointNotFound
from webhooks.models import Endpoint
from webhooks.moving import Move

OPERATOR = "operator"
QUEUE = "deliveries"

log = structlog.get_logger(__name__)

# A lane's key is text: only what is an endpoint's is read as one.
_FAILING = """
with lane as materialized (
  select tenant_id, substr(key, 10) as id from jobs_lane
  where failed_at - failing_since >= make_interval(secs => %(disable_after)s)
    and key ~ '^endpoint:[0-9a-f]{{8}}(-[0-9a-f]{{4}}){{3}}-[0-9a-f]{{12}}$'
)
select e.tenant_id, e.id from lane
join webhooks_endpoint e on e.tenant_id = lane.tenant_id and e.id = lane.id::uuid
where e.disabled_at is null and e.deleted_at is null
"""
_LANE = "d.tenant_id = e.tenant_id and d.lane = 'endpoint:' || e.id"
_ANY = "exists (select from webhooks_delivery d where {lane} and {state})"
_HOLDS = _ANY.format(lane=_LANE, state="d.state = 'held'")
_WAITS = " or ".join(  # Two indexes: an OR of their conditions would use neither.
    _ANY.format(lane=_LANE, state=state)
    for state in ("d.state = 'pending'", "d.state in ('scheduled', 'failed')")
)
# Published while the endpoint was being disabled, or put aside by a drainer that saw it disabled.
_UNHELD = """
select e.tenant_id, e.id from webhooks_endpoint e
where e.disabled_at is not null and e.deleted_at is null and ({waits})
"""
# Published while it was being enabled. What a job is about to release, or to discard, is its own.
_UNRELEASED = """
select e.tenant_id, e.id from webhooks_endpoint e
where e.disabled_at is null and e.deleted_at is null and e.updated_at > now() - interval '1 hour'
  and {holds}
  and not exists (select from jobs_job j where j.tenant_id = e.tenant_id
    and j.lane = 'move:' || e.id and j.finished_at is null)
"""
# Published while it was being deleted.
_UNCANCELLED = """
select e.tenant_id, e.id from webhooks_endpoint e
where e.deleted_at > now() - interval '1 day' and ({waits} or {holds})
"""
_OVERFLOWING = """
select e.tenant_id, e.id from webhooks_endpoint e
where e.disabled_at is not null and e.deleted_at is null
  and exists (select from webhooks_delivery d where {lane} and d.state = 'held'
    order by d.id offset %(held_most)s limit 1)
"""
_FORGET_LANES = """
delete from jobs_lane l using webhooks_endpoint e
where e.deleted_at between now() - interval '2 days' and now() - interval '1 hour'
  and l.tenant_id = e.tenant_id and l.key = 'endpoint:' || e.id
"""


@dataclass(slots=True)
class Tended:
    """What was done: endpoints disabled, and deliveries moved."""

    disabled: int = 0
    held: int = 0
    released: int = 0
    cancelled: int = 0
    overflowed: int = 0

    def counts(self) -> dict[str, int]:
        return asdict(self)


def tend() -> Tended:
    """Disable what only fails, and put right what the moments of disabling and enabling missed."""
    done = Tended()
    for tenant, endpoint_id in _found(_FAILING):
        try:
            done.disabled += operational.disable_if_failing(tenant=tenant, endpoint_id=endpoint_id)
        except EndpointNotFound:
            continue
    for tenant, endpoint_id in _found(_UNHELD):
        done.held += shutting.hold(**_lane(tenant, endpoint_id))
    for tenant, endpoint_id in _found(_UNRELEASED):
        done.released += shutting.release(**_lane(tenant, endpoint_id))
    for tenant, endpoint_id in _found(_UNCANCELLED):
        with tenant_context(tenant):
            endpoint = Endpoint.objects.get(pk=endpoint_id)
            done.cancelled += moving.finish(endpoint, Move.CANCEL)
    keep = settings.SLIPWAY["WEBHOOKS"]["held_most"]
    for tenant, endpoint_id in _found(_OVERFLOWING):
        done.overflowed += shutting.overflow(**_lane(tenant, endpoint_id), keep=keep)
    with connections[OPERATOR].cursor() as cursor:
        cursor.execute(_FORGET_LANES)
    if any(done.counts().values()):
        log.info("webhooks_tended", **done.counts())
    return done


def waiting() -> Mapping[str, int]:
    """What `tend` would look at, counted in endpoints."""
    looks = {
        "failing": _FAILING,
        "unheld": _UNHELD,
        "unreleased": _UNRELEASED,
        "uncancelled": _UNCANCELLED,
        "overflowing": _OVERFLOWING,
    }
    return {name: len(_found(statement)) for name, statement in looks.items()}


def _found(statement: str) -> list[tuple[TenantRef, UUID]]:
    """The endpoints that a statement names. Their tenants' homes make no difference here."""
    known = settings.SLIPWAY["WEBHOOKS"]
    values = {name: known[name] for name in ("disable_after", "held_most")}
    with connections[OPERATOR].cursor() as cursor:
        cursor.execute(statement.format(lane=_LANE, waits=_WAITS, holds=_HOLDS), values)
        return [(TenantRef(tenant_id, NOWHERE), id_) for tenant_id, id_ in cursor.fetchall()]


def _lane(tenant: TenantRef, endpoint_id: UUID) -> dict[str, Any]:
    return {"queue": QUEUE, "tenant_id": tenant.id, "lane": f"endpoint:{endpoint_id}"}
