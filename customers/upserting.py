"""Many customers written at once, under row-level security, where COPY does not run.

A row changes the fields that it names and no others. Rows that name the same fields are written by
one statement: which fields it may change must stand in its text.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import orjson
from django.db import connection

from config.ids import uuid7, uuid7_series
from customers.models import Consent
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

# In the order of external ids, so that two of these wait for each other in one direction only. New
# ids are in the order of the rows.
_WRITE = """
with given as materialized (
  select {id} as id, i.*
  from json_to_recordset(%(rows)s::json) i (external_id text{types})
), {before} written as (
  insert into customers_customer as c
    (id, tenant_id, external_id, created_at, updated_at, {columns})
  select i.id, %(tenant)s, i.external_id, now(), now(), {values}
  from given i {after}
  order by i.external_id
  on conflict (tenant_id, external_id) do {update}
  returning (xmax = 0) as created, c.id, c.external_id, c.consent
) {log}
select count(*) filter (where created), count(*) from written
"""
# What consent was, for the log: locked, since nothing tells it once the row is written. The insert
# reads it, so that each row of it is there before its customer is written. An entry may have its
# new customer's own id: that was made a moment ago, and no other entry has it.
_BEFORE = """before as materialized (
  select c.external_id, c.consent from customers_customer c
  join given i on i.external_id = c.external_id
  where c.tenant_id = %(tenant)s order by c.external_id for update of c
),"""
_AFTER = "left join before b on b.external_id = i.external_id"
_LOG = """, logged as (
  insert into customers_consentchange (id, tenant_id, customer_id, before, after, source)
  select case when w.created then w.id else slipway.uuid7() end, %(tenant)s, w.id,
    coalesce(b.consent, 'unknown'), w.consent, %(source)s
  from written w left join before b on b.external_id = w.external_id
  where w.consent <> coalesce(b.consent, 'unknown')
)"""
_UPDATE = """update set {changes}, updated_at = now()
  where ({now}) is distinct from ({then})"""


class Written(NamedTuple):
    """How many rows made a customer, changed one, or said what was known."""

    created: int = 0
    updated: int = 0
    unchanged: int = 0

    def plus(self, other: "Written") -> "Written":
        return Written(*(mine + its for mine, its in zip(self, other, strict=True)))


class Batch(NamedTuple):
    """Rows as the statements take them."""

    groups: Sequence[tuple[Sequence[str], int, str]]  # Columns, how many rows name them, as JSON.
    rows: int  # As they came,
    customers: int  # and how many these tell of.


def prepared(rows: Sequence[Fields]) -> Batch:
    """What `write` needs of these rows; it asks no database, so that another thread may do it.

    Each has an external_id, and fields as CustomerChange.fields() gives them. The later of two rows
    of one customer adds to the first.
    """
    merged = _merged(rows)
    alike: dict[tuple[str, ...], list[Fields]] = {}
    for fields in merged.values():
        alike.setdefault(tuple(fields), []).append(fields)
    groups: dict[tuple[str, ...], list[Fields]] = {}
    for names, found in alike.items():  # Few, though the rows are many.
        named = tuple(name for name in _COLUMNS if name in names)
        groups.setdefault(named, []).extend(found)
    return Batch(
        [(named, len(group), _json(group)) for named, group in sorted(groups.items())],
        len(rows),
        len(merged),
    )


def write(batch: Batch, *, source: str) -> Written:
    """Write the rows in the caller's transaction, by external id.

    `source` is by whose word consent changes.
    """
    written = Written(updated=batch.rows - batch.customers)
    for named, count, body in batch.groups:
        written = written.plus(_write(named, count, body, source))
    return written


def upsert(rows: Sequence[Fields], *, source: str) -> Written:
    """Prepare and write."""
    return write(prepared(rows), source=source)


def _merged(rows: Sequence[Fields]) -> dict[str, Fields]:
    merged: dict[str, Fields] = {}
    for row in rows:
        known = merged.setdefault(row["external_id"], row)
        if known is not row:
            both = {**known, **row}
            if known.get("consent") == Consent.WITHDRAWN:
                both["consent"] = Consent.WITHDRAWN  # As if they had come in two transactions.
            merged[row["external_id"]] = both
    return merged


def _json(rows: Sequence[Fields]) -> str:
    return orjson.dumps(rows, default=str).decode()  # Decimals.


def _write(named: Sequence[str], count: int, body: str, source: str) -> Written:
    values: dict[str, int | str] = {
        "tenant": require_tenant().id,
        "seed": uuid7().hex,
        "rows": body,
        "source": source,
    }
    with connection.cursor() as cursor:
        cursor.execute(_statement(named), values)
        created, touched = cursor.fetchone() or (0, 0)
    return Written(created, touched - created, count - touched)


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
    told = "consent" in named
    return _WRITE.format(
        id=uuid7_series("row_number() over ()", seed="%(seed)s"),
        before=_BEFORE if told else "",
        after=_AFTER if told else "",
        log=_LOG if told else "",
        columns=", ".join(_COLUMNS),
        types="".join(f", {name} {_COLUMNS[name][0]}" for name in named),
        values=_list(
            f"i.{name}" if name in named else default for name, (_, default) in _COLUMNS.items()
        ),
        update=update if named else "nothing",
    )


def _list(parts: Iterable[str]) -> str:
    return ", ".join(parts)
