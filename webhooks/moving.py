"""What becomes of an endpoint's unfinished deliveries when the endpoint changes.

The first AT_ONCE are moved in the transaction of the change, so that for nearly everybody that is
all; the job `webhooks.move` does the rest, chunk by chunk. How far it has come is what the
endpoint's counts say. What is being delivered meanwhile is left alone: it finishes.

A job carries no decision: the endpoint's row says what is to become of its deliveries, and each
chunk reads it under its lock. So a job that was overtaken by another change does what that one
wants, or nothing, however many run beside each other.

Locks are taken in one order: the job's own row, the endpoint's, deliveries by their ids, the lane.
Whoever publishes takes the endpoint's before it writes deliveries too; whoever settles, claims or
replays takes deliveries and lanes, and never an endpoint's after them.
"""

import math
import time
from enum import StrEnum
from operator import itemgetter
from typing import Any
from uuid import UUID

from django.db import DEFAULT_DB_ALIAS, connection, transaction

from config.ids import format_id
from jobs import shutting
from jobs.fence import hold
from jobs.outcomes import Outcome, Snooze, Succeeded
from jobs.services import enqueue
from jobs.states import Priority
from jobs.steps import Claim
from tenants import audit
from tenants.context import require_tenant, tenant_context
from webhooks.errors import TooManyUnfinished
from webhooks.models import Endpoint

AT_ONCE = 1000
MOST_IN_ORDER = 10_000  # Numbered in one statement: half a second.
RUN_SECONDS = 60.0  # Of one run of the job; then it makes room for others.


class Move(StrEnum):
    """What is done to deliveries, and in which state their endpoint must be for it."""

    HOLD = "hold"  # What waits is held: the endpoint is disabled.
    RELEASE = "release"  # What is held may run: it is enabled.
    DISCARD = "discard"  # What waits is cancelled, up to Endpoint.discarded_until.
    CANCEL = "cancel"  # All that waits is cancelled: it is deleted.
    RETARGET = "retarget"  # What waits goes to another host.
    UNORDER = "unorder"  # Numbers are taken away: order matters no more.


# Each sort by its own partial index.
_PENDING = "select id from webhooks_delivery where {lane} and state = 'pending'"
_WAITING = "select id from webhooks_delivery where {lane} and state in ('scheduled', 'failed')"
_HELD = "select id from webhooks_delivery where {lane} and state = 'held'"
_RUNNING = "select id from webhooks_delivery where {lane} and state = 'processing'"
_LANE = "tenant_id = %(tenant)s and lane = %(lane)s"
_NUMBERED = """
select id from webhooks_delivery where {lane} and seq is not null
  and state not in ('succeeded', 'discarded', 'cancelled')
"""
_CHOSEN = "select id from webhooks_delivery where id in ({arms})"
_UNNUMBER = """
with chosen as materialized (
  select id from webhooks_delivery where {lane} and seq is not null
    and state not in ('succeeded', 'discarded', 'cancelled') order by id for update
)
update webhooks_delivery d set seq = null from chosen where d.id = chosen.id
"""
# Materialised: a nested loop would look for the limited rows again, past those that it has moved.
_MOVE = """
with chosen as materialized ({which} order by id limit {{most}} for update)
update webhooks_delivery d set {changes} from chosen where d.id = chosen.id
"""


def _chosen(*sorts: str, condition: str = "") -> str:
    arms = " union all ".join(
        f"({sort.format(lane=_LANE)} {condition} limit {{most}})" for sort in sorts
    )
    return _CHOSEN.format(arms=arms)


# Move → (which, what is set). Locked in the order of ids, and looked at again once locked.
_STATEMENTS = {
    Move.CANCEL: (
        _chosen(_PENDING, _WAITING, _HELD)
        + " and state in ('pending', 'scheduled', 'failed', 'held')",
        "state = 'cancelled', finished_at = now()",
    ),
    Move.DISCARD: (
        _chosen(_PENDING, _WAITING, _HELD, condition="and id <= %(until)s")
        + " and state in ('pending', 'scheduled', 'failed', 'held')",
        "state = 'cancelled', finished_at = now()",
    ),
    Move.RETARGET: (
        _chosen(_PENDING, _WAITING, _HELD, _RUNNING, condition="and host <> %(host)s"),
        "host = %(host)s",
    ),
    Move.UNORDER: (
        _NUMBERED.format(lane=_LANE),
        "seq = null",
    ),
}


# Done, unless one is on its way that may fail and wait for its next try: webhooks.tending sees.
_DISCARDED = """
update webhooks_endpoint e set discarded_until = null where e.id = %(endpoint)s and not exists (
  select from webhooks_delivery where {lane} and state = 'processing' and id <= %(until)s)
"""
_NEWEST = """
select id from (
  (select id from webhooks_delivery where {lane} and state = 'held' order by id desc limit 1)
  union all
  (select id from webhooks_delivery where {lane} and state in ('scheduled', 'failed')
   order by id desc limit 1)
  union all
  select newest.id from unnest(%(priorities)s::smallint[]) of (priority) cross join lateral (
    select id from webhooks_delivery where {lane} and state = 'pending'
      and priority = of.priority order by id desc limit 1) newest) waiting
order by id desc limit 1
"""


def begin(endpoint: Endpoint, move: Move, *, actor: str, reason: str = "") -> int:
    """Make a move in the transaction that changed `endpoint`; how many deliveries that was at once.

    The endpoint's row is locked, and in its new state.
    """
    moved = _chunk(endpoint, move)
    if moved >= AT_ONCE:
        args = {
            "endpoint_id": str(endpoint.pk),
            "move": str(move),
            "actor": actor,
            "reason": reason,
        }
        enqueue(
            "webhooks.move",
            tenant_id=require_tenant().id,
            args=args,
            lane=f"move:{endpoint.pk}",  # In nobody else's way.
        )
    return moved


def run(claim: Claim) -> Outcome:
    """The job `webhooks.move`: go on with a move for as long as the endpoint still asks for it."""
    args = claim.data["args"]
    move, endpoint_id = Move(args["move"]), UUID(args["endpoint_id"])
    ends_at = time.monotonic() + RUN_SECONDS
    moved = 0
    with tenant_context(claim.tenant):
        while time.monotonic() < ends_at:
            with transaction.atomic():
                hold(claim)
                count = _chunk_if_wanted(endpoint_id, move)
                moved += count or 0
                if count is not None and count < AT_ONCE:
                    _record(endpoint_id, move, moved, args)
            if count is None or count < AT_ONCE:
                return Succeeded()
    return Snooze(0, f"{moved} deliveries moved, more to come")


def finish(endpoint_id: UUID, move: Move, *, ends_at: float = math.inf) -> int:
    """Go on with a move as the job does, a transaction a chunk, until it is made or wanted no more.

    Ends at `ends_at` (time.monotonic) all the same. Says how many deliveries were moved.
    """
    moved = 0
    while True:
        with transaction.atomic():
            count = _chunk_if_wanted(endpoint_id, move)
        moved += count or 0
        if count is None or count < AT_ONCE or time.monotonic() >= ends_at:
            return moved


def put_in_order(endpoint: Endpoint) -> None:
    """Number the unfinished deliveries in the order of their events.

    The endpoint's row is locked from publishers too: what they wrote is there, and who publishes
    meanwhile draws a number after these. Dead ones are left out, and lose the number that they may
    have from before: they would block the lane at once. Raises TooManyUnfinished.
    """
    sorts = _chosen(_PENDING, _WAITING, _HELD, _RUNNING, condition="and not test")
    statement = sorts.format(most=MOST_IN_ORDER + 1) + " order by id for update"
    statement = statement.replace("select id from", "select id, event_id from", 1)
    with connection.cursor() as cursor:
        cursor.execute(statement, _values(endpoint))
        # By the event: the deliveries of one bulk share the beginnings of their ids.
        ids = [id_ for id_, _ in sorted(cursor.fetchall(), key=itemgetter(1))]
        if len(ids) > MOST_IN_ORDER:
            raise TooManyUnfinished(f"At most {MOST_IN_ORDER} deliveries can be put in order.")
        cursor.execute(_UNNUMBER.format(lane=_LANE), _values(endpoint))
        cursor.execute(
            "update webhooks_delivery d set seq = %s + n.place - 1"
            " from unnest(%s::uuid[]) with ordinality n(id, place) where d.id = n.id",
            [endpoint.next_seq, ids],
        )
    endpoint.next_seq += len(ids)


def newest_waiting(endpoint: Endpoint) -> UUID | None:
    """The newest delivery that waits now, in whatever state: what comes after it was not meant."""
    with connection.cursor() as cursor:
        values = _values(endpoint) | {"priorities": Priority.values}
        cursor.execute(_NEWEST.format(lane=_LANE), values)
        row = cursor.fetchone()
    return row[0] if row else None


def _chunk_if_wanted(endpoint_id: UUID, move: Move) -> int | None:
    """Move up to AT_ONCE deliveries; None when the endpoint, once locked, asks for no such move."""
    rows = Endpoint.objects.select_for_update(no_key=True)
    endpoint = rows.filter(pk=endpoint_id).first()
    if endpoint is None or not _is_wanted(endpoint, move):
        return None
    return _chunk(endpoint, move)


def _is_wanted(endpoint: Endpoint, move: Move) -> bool:
    """Whether the endpoint is still as the move wants it: another change may have come since."""
    deleted, disabled = endpoint.deleted_at is not None, endpoint.disabled_at is not None
    match move:
        case Move.CANCEL:
            return deleted
        case Move.HOLD:
            return disabled and not deleted
        case Move.RELEASE:
            return not disabled and not deleted
        case Move.DISCARD:
            return endpoint.discarded_until is not None and not deleted
        case Move.UNORDER:
            return not endpoint.ordered
    return True


def _chunk(endpoint: Endpoint, move: Move) -> int:
    """Move up to AT_ONCE deliveries of a locked endpoint; how many they were."""
    lane: dict[str, Any] = {"queue": "deliveries", "tenant_id": endpoint.tenant_id}
    lane["lane"] = endpoint.lane
    if move is Move.HOLD:
        return shutting.hold(**lane, most=AT_ONCE, using=DEFAULT_DB_ALIAS)
    if move is Move.RELEASE:
        # What was given up stays so, whoever releases what beside it.
        given_up = endpoint.discarded_until
        return shutting.release(**lane, most=AT_ONCE, above=given_up, using=DEFAULT_DB_ALIAS)
    which, changes = _STATEMENTS[move]
    statement = _MOVE.format(changes=changes, which=which).format(most=AT_ONCE)
    values = _values(endpoint) | {
        "endpoint": endpoint.pk,
        "host": endpoint.host,
        "until": endpoint.discarded_until,
    }
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        moved = int(cursor.rowcount)
        if move is Move.DISCARD and moved < AT_ONCE:
            cursor.execute(_DISCARDED.format(lane=_LANE), values)
    return moved


def _values(endpoint: Endpoint) -> dict[str, Any]:
    return {"tenant": require_tenant().id, "lane": endpoint.lane}


def _record(endpoint_id: UUID, move: Move, moved: int, args: dict[str, Any]) -> None:
    """One entry says that it is done; each change was audited when it was made.

    Of an operator's too: but a job's arguments are no proof of who asked for it.
    """
    operators = args["actor"].startswith(audit.OPERATORS)
    audit.record(
        actor="system:webhooks.move" if operators else args["actor"],
        action="endpoint.deliveries_moved",
        target=format_id("ep", endpoint_id),
        tenant_id=require_tenant().id,
        reason=args["reason"],
        after={"move": str(move), "count": moved},
    )
