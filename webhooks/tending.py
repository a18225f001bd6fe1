"""What endpoints need from time to time: `manage.py tend`, and beat each minute.

All of it can be run again, by several at once, and late: everything that it goes by is in Postgres.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from uuid import UUID

import structlog
from django.conf import settings
from django.db import connections, transaction

from jobs import shutting
from jobs.engine.notices import MOST_NAMED
from jobs.resolving import CHUNK
from jobs.states import State
from tenants.context import NOWHERE, TenantRef, tenant_context
from webhooks import moving, operational
from webhooks.errors import EndpointNotFound
from webhooks.models import Delivery, Endpoint
from webhooks.moving import Move

OPERATOR = "operator"
QUEUE = "deliveries"
# Does what is to be done at one endpoint until a moment of time.monotonic; says how much that was.
Deed = Callable[[TenantRef, UUID, float], int]

log = structlog.get_logger(__name__)

# A lane's key is text: only what is an endpoint's is read as one.
_KEYED = "~ '^endpoint:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'"
_FAILING = """
with lane as materialized (
  select tenant_id, substr(key, 10)::uuid as id from jobs_lane
  where failed_at - failing_since >= make_interval(secs => %(disable_after)s) and key {keyed}
)
select e.tenant_id, e.id from lane
join webhooks_endpoint e on e.tenant_id = lane.tenant_id and e.id = lane.id
where e.disabled_at is null and e.deleted_at is null
"""
_LANE = "d.tenant_id = e.tenant_id and d.lane = 'endpoint:' || e.id"
_ANY = "exists (select from webhooks_delivery d where {lane} and {state})"
_WAITS = " or ".join(  # Two indexes: an OR of their conditions would use neither.
    _ANY.format(lane=_LANE, state=state)
    for state in ("d.state = 'pending'", "d.state in ('scheduled', 'failed')")
)
# The lanes that have such deliveries, whenever they came: a step of the index for each, however
# many they are. By endpoints it would be as many looks as were ever made.
_LANES = """
with recursive step(tenant_id, lane) as (
  (select tenant_id, lane::text from webhooks_delivery where {state}
   order by tenant_id, lane limit 1)
  union all
  select next.* from step cross join lateral (
    select d.tenant_id, d.lane::text from webhooks_delivery d
    where {state} and (d.tenant_id, d.lane) > (step.tenant_id, step.lane)
    order by d.tenant_id, d.lane limit 1) next
),
lane as materialized (
  select tenant_id, substr(lane, 10)::uuid as id from step where lane {{keyed}}
)
select e.tenant_id, e.id from lane
join webhooks_endpoint e on e.tenant_id = lane.tenant_id and e.id = lane.id
"""


def _lanes(state: str, endpoint: str) -> str:
    return _LANES.format(state=state) + f"where {endpoint}\n"


# Published while the endpoint was being disabled, or put aside by a drainer that saw it disabled.
_UNHELD = """
select e.tenant_id, e.id from webhooks_endpoint e
where e.disabled_at is not null and e.deleted_at is null and ({waits})
"""
# Published while it was being enabled: its publisher saw it disabled, and committed after.
_UNRELEASED = _lanes("state = 'held'", "e.disabled_at is null and e.deleted_at is null")
# Given up, but on its way at that moment.
_UNDISCARDED = """
select e.tenant_id, e.id from webhooks_endpoint e
where e.discarded_until is not null and e.deleted_at is null
"""
# Published while it was being deleted.
_UNCANCELLED = " union ".join(
    f"({_lanes(state, 'e.deleted_at is not null')})"
    for state in ("state = 'held'", "state = 'pending'", "state in ('scheduled', 'failed')")
)
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
# What is looked for, and in which order.
_LOOKS = {
    "failing": _FAILING,
    "unheld": _UNHELD,
    "undiscarded": _UNDISCARDED,
    "unreleased": _UNRELEASED,
    "uncancelled": _UNCANCELLED,
    "overflowing": _OVERFLOWING,
}
RUN_SECONDS = 45.0  # Of one run: beat's next comes after a minute.
EACH_SECONDS = 5.0  # Of one endpoint, however much there is: the others have their turn.


@dataclass(slots=True)
class Tended:
    """What was done: endpoints disabled, and deliveries moved; where it failed, and is logged."""

    disabled: int = 0
    held: int = 0
    discarded: int = 0
    released: int = 0
    cancelled: int = 0
    overflowed: int = 0
    errors: int = 0

    def counts(self) -> dict[str, int]:
        return asdict(self)


def tend() -> Tended:
    """Disable what only fails, and put right what the moments of disabling and enabling missed.

    What fails at one endpoint is logged, and keeps nobody else waiting. Another run that is under
    way does all of it already: then nothing is done here.
    """
    done = Tended()
    with _alone() as alone:
        if alone:
            _tend(done, time.monotonic() + RUN_SECONDS)
    if any(done.counts().values()):
        log.info("webhooks_tended", **done.counts())
    return done


def waiting() -> Mapping[str, int]:
    """What `tend` would look at, counted in endpoints."""
    return {name: len(_found(statement)) for name, statement in _LOOKS.items()}


def _tend(done: Tended, run_ends_at: float) -> None:
    for name, statement in _LOOKS.items():
        counted, deed = _DEEDS[name]
        for tenant, endpoint_id in _found(statement):
            now = time.monotonic()
            if now >= run_ends_at:
                log.warning("tending_cut_short", at=name)
                return
            try:
                moved = deed(tenant, endpoint_id, min(run_ends_at, now + EACH_SECONDS))
            except EndpointNotFound:  # Deleted meanwhile.
                continue
            except Exception:
                log.exception("tending_failed", looked=name, endpoint_id=str(endpoint_id))
                done.errors += 1
            else:
                setattr(done, counted, getattr(done, counted) + moved)
    with connections[OPERATOR].cursor() as cursor:
        cursor.execute(_FORGET_LANES)


def _disable(tenant: TenantRef, endpoint_id: UUID, ends_at: float) -> int:
    return operational.disable_if_failing(tenant=tenant, endpoint_id=endpoint_id)


def _finish(move: Move) -> Deed:
    def deed(tenant: TenantRef, endpoint_id: UUID, ends_at: float) -> int:
        with tenant_context(tenant):
            return moving.finish(endpoint_id, move, ends_at=ends_at)

    return deed


def _overflow(tenant: TenantRef, endpoint_id: UUID, ends_at: float) -> int:
    """As moving.finish, but as the operator, who writes dead letters."""
    keep = settings.SLIPWAY["WEBHOOKS"]["held_most"]
    lane, moved = f"endpoint:{endpoint_id}", 0
    rows = Endpoint.objects.using(OPERATOR).select_for_update(no_key=True)
    rows = rows.filter(pk=endpoint_id, disabled_at__isnull=False, deleted_at=None)
    while True:
        with transaction.atomic(using=OPERATOR):
            if rows.first() is None:
                return moved
            held = _oldest_held(tenant, lane)
            count = shutting.overflow(
                queue=QUEUE, tenant_id=tenant.id, lane=lane, keep=keep, most=CHUNK
            )
            if count:
                works = held[: min(count, MOST_NAMED)]
                operational.tell_overflow(
                    tenant=tenant, endpoint_id=endpoint_id, works=works, count=count
                )
        moved += count
        if count < CHUNK or time.monotonic() >= ends_at:
            return moved


def _oldest_held(tenant: TenantRef, lane: str) -> list[UUID]:
    rows = Delivery.objects.using(OPERATOR).filter(tenant_id=tenant.id, lane=lane, state=State.HELD)
    return list(rows.order_by("id").values_list("pk", flat=True)[:MOST_NAMED])


# What is done about what a look finds, and which count says how much that was.
_DEEDS: Mapping[str, tuple[str, Deed]] = {
    "failing": ("disabled", _disable),
    "unheld": ("held", _finish(Move.HOLD)),
    "undiscarded": ("discarded", _finish(Move.DISCARD)),
    "unreleased": ("released", _finish(Move.RELEASE)),
    "uncancelled": ("cancelled", _finish(Move.CANCEL)),
    "overflowing": ("overflowed", _overflow),
}


@contextmanager
def _alone() -> Iterator[bool]:
    """Whether no other run is under way; none begins while the block runs.

    The lock is a transaction's, which a proxy that shares connections leaves whole, on a connection
    of its own: what is done meanwhile is many transactions.
    """
    own = connections[OPERATOR].copy()
    try:
        own.set_autocommit(False)
        with own.cursor() as cursor:
            cursor.execute("select pg_try_advisory_xact_lock(hashtextextended('webhooks.tend', 7))")
            alone = bool(cursor.fetchone()[0])
        yield alone
    finally:
        own.close()


def _found(statement: str) -> list[tuple[TenantRef, UUID]]:
    """The endpoints that a statement names. Their tenants' homes make no difference here."""
    known = settings.SLIPWAY["WEBHOOKS"]
    values = {name: known[name] for name in ("disable_after", "held_most")}
    with connections[OPERATOR].cursor() as cursor:
        cursor.execute(statement.format(lane=_LANE, waits=_WAITS, keyed=_KEYED), values)
        return [(TenantRef(tenant_id, NOWHERE), id_) for tenant_id, id_ in cursor.fetchall()]
