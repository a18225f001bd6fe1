"""What a filter finds among the works of one tenant in one queue."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from django.db import connections

from jobs.models import Replay
from jobs.registry import queue as queue_named
from jobs.states import State

MOST_IDS = 1000
LOOKED_AT = 10_000  # Works in one statement.

_LOOK = """
with looked as materialized (select {looked}),
found as (select {key} as id from {works} where {conditions} order by {key} limit {most})
select array(select id from found order by id), (select count(*) from looked),
  (select {key} from looked {alias} order by {key} desc limit 1)
"""

_SHOWN = """
select w.id, w.state, w.lane, w.created_at, w.last_error from {table} w
where w.tenant_id = %(tenant)s and w.id = any(%(some)s) order by w.id
"""

_LEFT_OUT = """
select w.id, case when false then ''{reasons} else 'other' end from {table} w
where w.tenant_id = %(tenant)s and w.id = any(%(some)s) and ({condition}) is not true
"""


class Selection(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Works of one tenant: all in these `states`, or fewer. What is left out does not matter.

    `since` and `until` bound when they were made: from the one, before the other. `type` is what
    the queue's model calls so (Work.typed); `reason` is the dead letter's; `error` is in the last
    error, in whatever case.
    """

    queue: str
    tenant_id: int
    states: tuple[State, ...] = (State.DEAD_LETTER,)
    lane: str = ""
    type: str = ""
    reason: str = ""
    error: str = ""
    since: datetime | None = None
    until: datetime | None = None
    ids: tuple[UUID, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """For a JSON column."""
        plain: dict[str, Any] = msgspec.to_builtins(self)
        return plain


@dataclass(frozen=True, slots=True)
class Found:
    """One work, as a sample shows it."""

    id: UUID
    state: str
    lane: str
    created_at: datetime
    last_error: str


@dataclass(frozen=True, slots=True)
class Looked:
    """Some works, and the place where the next look goes on; None when there are no more."""

    ids: Sequence[UUID]
    place: str | None


def read(stored: dict[str, Any]) -> Selection:
    """A Selection from its JSON."""
    return msgspec.convert(stored, Selection)


def look(selection: Selection, *, place: str, most: int, using: str) -> Looked:
    """The next of them by id, behind the one that `place` names; "" is before all.

    Looks at no more than LOOKED_AT works: a statement takes as long with a million as with ten.
    """
    statement = _LOOK.format(most=int(most), **_parts(selection, place))
    rows = _rows(statement, selection, using, place=UUID(place or 32 * "0"))
    ((ids, looked_at, last),) = rows
    if len(ids) == most:
        return Looked(ids, str(ids[-1]))
    return Looked(ids, str(last) if looked_at == LOOKED_AT else None)


def sample(selection: Selection, ids: Sequence[UUID], *, using: str) -> list[Found]:
    """What is to be shown of these, oldest first."""
    statement = _SHOWN.format(table=queue_named(selection.queue).table)
    return [Found(*row) for row in _rows(statement, selection, using, some=list(ids))]


def left_out(
    selection: Selection, ids: Sequence[UUID], *, action: str, using: str
) -> dict[UUID, str]:
    """Which of these cannot be replayed, and why: a word of the model's `unreplayable`.

    Or cannot be tried at once: all of those wait for a time that was meant.
    """
    model = queue_named(selection.queue).model
    retry = action == Replay.Action.RETRY
    why_not = {"not_tried": "true"} if retry else model.unreplayable
    reasons = "".join(f" when {when} then '{why}'" for why, when in why_not.items())
    condition = model.retriable_if if retry else model.replayable_if
    statement = _LEFT_OUT.format(table=model._meta.db_table, reasons=reasons, condition=condition)
    return dict(_rows(statement, selection, using, some=list(ids)))


def tenants_of(queue: str) -> list[int]:
    """Every tenant that has a dead letter in this queue: for an operator's act on all of them."""
    statement = """
        select distinct tenant_id from jobs_deadletter
        where queue = %s and resolved_at is null order by tenant_id
    """
    with connections["operator"].cursor() as cursor:
        cursor.execute(statement, [queue])
        return [tenant_id for (tenant_id,) in cursor.fetchall()]


def _by_letter(selection: Selection) -> bool:
    """Whether open letters lead to the works: a handful, in an index of their own."""
    return tuple(selection.states) == (State.DEAD_LETTER,)


def _path(selection: Selection) -> tuple[str, Any] | None:
    """What leads to a lane's works, past all others of the tenant's."""
    model = queue_named(selection.queue).model
    return model.of_lane(selection.lane, selection.states) if selection.lane else None


def _key(selection: Selection) -> str:
    return "l.work_id" if _by_letter(selection) else "w.id"


def _parts(selection: Selection, place: str) -> dict[str, str]:
    """What _LOOK is made of. Only names of ours are put in; the values are parameters."""
    model = queue_named(selection.queue).model
    table, key = model._meta.db_table, _key(selection)
    conditions = ["w.state = any(%(states)s)"]
    if _by_letter(selection):
        source = "l.work_id from jobs_deadletter l"
        first = ["l.tenant_id = %(tenant)s", "l.queue = %(queue)s", "l.resolved_at is null"]
        first += ["l.reason = %(reason)s"] if selection.reason else []
        works = f"looked l join {table} w on w.id = l.work_id and w.tenant_id = %(tenant)s"
        order = key
    else:
        source, first, works = f"w.* from {table} w", ["w.tenant_id = %(tenant)s"], "looked w"
        first += [path[0]] if (path := _path(selection)) else []
        # By this order the key of all tenants' works cannot be walked, whatever is planned.
        order = f"{key} nulls first"
    first += [f"{key} > %(place)s"] if place else []
    first += [f"{key} = any(%(ids)s)"] if selection.ids else []
    wanted: Sequence[tuple[Any, str]] = (
        (selection.lane, "w.lane = %(lane)s"),
        (selection.type, f"{model.typed or 'null'} = %(type)s"),
        (selection.error, "position(lower(%(error)s) in lower(w.last_error)) > 0"),
        (selection.since, "w.created_at >= %(since)s"),
        (selection.until, "w.created_at < %(until)s"),
    )
    conditions += [condition for value, condition in wanted if value]
    return {
        "key": key,
        "alias": key[0],
        "looked": f"{source} where {' and '.join(first)} order by {order} limit {LOOKED_AT}",
        "works": works,
        "conditions": " and ".join(conditions),
    }


def _rows(statement: str, selection: Selection, using: str, **more: Any) -> list[Any]:
    values = {
        "tenant": selection.tenant_id,
        "queue": selection.queue,
        "states": [str(state) for state in selection.states],
        "lane": selection.lane,
        "of_lane": (_path(selection) or ("", None))[1],
        "type": selection.type,
        "reason": selection.reason,
        "error": selection.error,
        "since": selection.since,
        "until": selection.until,
        "ids": list(selection.ids),
        **more,
    }
    with connections[using].cursor() as cursor:
        cursor.execute(statement, values)
        return list(cursor.fetchall())
