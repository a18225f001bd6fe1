"""Many customers written at once, under row-level security, where COPY does not run.

A row changes the fields that it names and no others. Rows that name the same fields are written by
one statement: which fields it may change must stand in its text.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import orjson
from django.db import connection

from config.ids import uuid7
from tenants.context import require_tenant

Fields = Mapping[str, Any]

# Column → its type, and what a new customer has where the row says nothing.
_COLUMNS = {
    "name": ("text", "''"),
    "phone": ("text", "''"),
    "email": ("text", "''"),
    "attributes": ("jsonb", "'{}'"),
    "lifetime_value": ("numeric", "0"),
    "last_purchase_at": ("timestamptz", "null"),
    "consent": ("text", "'unknown'"),
}
# An opt-out stands until the customer says otherwise: no file says so for them.
_CONSENT = "case c.consent when 'withdrawn' then c.consent else excluded.consent end"

# In the order of external ids, so that two of these wait for each other in one direction only.
_WRITE = """
with written as (
  insert into customers_customer as c
    (id, tenant_id, external_id, created_at, updated_at, {columns})
  select i.id, %s, i.external_id, now(), now(), {values}
  from json_to_recordset(%s::json) i (id uuid, external_id text, {types})
  order by i.external_id
  on conflict (tenant_id, external_id) do {update}
  returning (xmax = 0) as created)
select count(*) filter (where created), count(*) from written
"""
_UPDATE = """update set {changes}, updated_at = now()
  where ({now}) is distinct from ({then})"""


class Written(NamedTuple):
    """How many rows made a customer, changed one, or said what was known."""

    created: int = 0
    updated: int = 0
    unchanged: int = 0

    def plus(self, other: "Written") -> "Written":
        return Written(*(mine + its for mine, its in zip(self, other, strict=True)))


def upsert(rows: Sequence[Fields]) -> Written:
    """Write the rows in the caller's transaction, by external id; the later of two rows adds to it.

    Each has an external_id, and fields as CustomerChange.fields() gives them.
    """
    merged: dict[str, dict[str, Any]] = {}
    for row in rows:
        merged.setdefault(row["external_id"], {}).update(row)
    alike: dict[tuple[str, ...], list[Fields]] = {}
    for fields in merged.values():
        alike.setdefault(tuple(name for name in _COLUMNS if name in fields), []).append(fields)
    written = Written(updated=len(rows) - len(merged))
    for named, group in sorted(alike.items()):
        written = written.plus(_write(named, group))
    return written


def _write(named: Sequence[str], rows: Sequence[Fields]) -> Written:
    body = orjson.dumps([{**row, "id": uuid7()} for row in rows], default=str)
    with connection.cursor() as cursor:
        cursor.execute(_statement(named), [require_tenant().id, body.decode()])
        created, touched = cursor.fetchone() or (0, 0)
    return Written(created, touched - created, len(rows) - touched)


def _statement(named: Sequence[str]) -> str:
    """The statement for rows that name these columns."""
    then = {name: f"excluded.{name}" for name in named} | (
        {"consent": _CONSENT} if "consent" in named else {}
    )
    update = _UPDATE.format(
        changes=", ".join(f"{name} = {value}" for name, value in then.items()),
        now=", ".join(f"c.{name}" for name in then),
        then=", ".join(then.values()),
    )
    return _WRITE.format(
        columns=", ".join(_COLUMNS),
        types=_list(f"{name} {kind}" for name, (kind, _) in _COLUMNS.items()),
        values=_list(
            f"i.{name}" if name in named else default for name, (_, default) in _COLUMNS.items()
        ),
        update=update if named else "nothing",
    )


def _list(parts: Iterable[str]) -> str:
    return ", ".join(parts)
