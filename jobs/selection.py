"""What a filter finds among the works of one tenant in one queue."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from django.db import connections

from jobs.registry import queue as queue_named
from jobs.states import State

MOST_IDS = 1000


class Selection(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Works of one tenant: all in these `states`, or fewer. What is left out does not matter.

    `since` and `until` bound when they were made: from the one, before the other. `type` is what
    the queue's model calls so (Work.typed); `reason` is the dead letter's.
    """

    queue: str
    tenant_id: int
    states: tuple[State, ...] = (State.DEAD_LETTER,)
    lane: str = ""
    type: str = ""
    reason: str = ""
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


def read(stored: dict[str, Any]) -> Selection:
    """A Selection from its JSON."""
    return msgspec.convert(stored, Selection)


def count(selection: Selection, *, using: str) -> int:
    """How many works it finds."""
    rows = _rows(f"select count(*) {_from(selection)}", selection, using)
    return int(rows[0][0])


def sample(selection: Selection, *, size: int, using: str) -> list[Found]:
    """The first few of them, oldest first."""
    columns = "w.id, w.state, w.lane, w.created_at, w.last_error"
    tail = f"order by {_key(selection)} limit {int(size)}"
    rows = _rows(f"select {columns} {_from(selection)} {tail}", selection, using)
    return [Found(*row) for row in rows]


def after(selection: Selection, *, place: str, most: int, using: str) -> list[UUID]:
    """The next of them by id, behind the one that `place` names; "" is before all."""
    key = _key(selection)
    further = f"and {key} > %(place)s" if place else ""
    statement = f"select {key} {_from(selection)} {further} order by {key} limit {int(most)}"
    return [id_ for (id_,) in _rows(statement, selection, using, place=UUID(place or 32 * "0"))]


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


def _key(selection: Selection) -> str:
    return "l.work_id" if _by_letter(selection) else "w.id"


def _from(selection: Selection) -> str:
    """FROM and WHERE. Only names of ours are put in; the values are parameters."""
    model = queue_named(selection.queue).model
    table = model._meta.db_table
    if _by_letter(selection):
        tables = (
            f"jobs_deadletter l join {table} w on w.tenant_id = l.tenant_id and w.id = l.work_id"
        )
        conditions = ["l.tenant_id = %(tenant)s", "l.queue = %(queue)s", "l.resolved_at is null"]
        conditions += ["l.reason = %(reason)s"] if selection.reason else []
    else:
        tables = f"{table} w"
        conditions = ["w.tenant_id = %(tenant)s"]
    conditions.append("w.state = any(%(states)s)")
    wanted: Sequence[tuple[Any, str]] = (
        (selection.lane, "w.lane = %(lane)s"),
        (selection.type, f"{model.typed or 'null'} = %(type)s"),
        (selection.since, "w.created_at >= %(since)s"),
        (selection.until, "w.created_at < %(until)s"),
        (selection.ids, "w.id = any(%(ids)s)"),
    )
    conditions += [condition for value, condition in wanted if value]
    return f"from {tables} where {' and '.join(conditions)}"


def _rows(statement: str, selection: Selection, using: str, **more: Any) -> list[Any]:
    values = {
        "tenant": selection.tenant_id,
        "queue": selection.queue,
        "states": [str(state) for state in selection.states],
        "lane": selection.lane,
        "type": selection.type,
        "reason": selection.reason,
        "since": selection.since,
        "until": selection.until,
        "ids": list(selection.ids),
        **more,
    }
    with connections[using].cursor() as cursor:
        cursor.execute(statement, values)
        return list(cursor.fetchall())
