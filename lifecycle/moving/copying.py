"""Rows from the old home to the new one: in chunks, and again when they were written meanwhile.

Each transaction reads from one snapshot: first it copies again whatever was written since the last
one, among what is copied already, and then the next chunk. So the new home always is what the old
one was at one moment, as far as it goes: no two rows in it claim what only one may have, and no row
points at one that is not there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, LiteralString

import orjson
from psycopg import sql

from lifecycle.models import Change
from lifecycle.moving.shapes import Shape
from lifecycle.moving.way import OPERATOR, Way

Place = Mapping[str, Any]  # A row's key: column → value.

_KEYS: LiteralString = """
select distinct {columns} from public.lifecycle_change c
cross join lateral jsonb_to_record(c.key) as k({typed})
where c.tenant_id = {tenant} and c."table" = {table} {reached}
"""
_DELETE_GONE: LiteralString = """
delete from {new} d using ({keys}) k where d.tenant_id = {tenant} and {d_is_k}
and not exists (select from {old} s where s.tenant_id = {tenant} and {s_is_k})
"""
# Two rows may have changed what only one of them may have: those to be written make way first, to a
# number that no tenant has.
_PARK: LiteralString = """
update {new} d set tenant_id = -{tenant} from ({keys}) k where d.tenant_id = {tenant} and {d_is_k}
"""
_WRITE: LiteralString = """
insert into {new} as d ({columns}) overriding system value
select {s_columns} from {old} s join ({keys}) k on {s_is_k} where s.tenant_id = {tenant}
on conflict ({key}) do update set ({columns}) = row({excluded})
where d.tenant_id in ({tenant}, -{tenant})
"""
_COPY: LiteralString = """
with chunk as materialized (
  select {columns} from {old} k where tenant_id = {tenant} {beyond} order by {key} {limit}
), copied as (
  insert into {new} ({columns}) overriding system value select {columns} from chunk
  on conflict ({key}) do nothing
)
select count(*) over (), to_jsonb(row_key)::text
from chunk cross join lateral (select {chunk_key}) row_key
order by {chunk_order} limit 1
"""


@dataclass(frozen=True, slots=True)
class Reach:
    """How far the copy goes: tables that are whole, and one up to a place."""

    whole: frozenset[str] = frozenset()
    table: str = ""
    place: Place | None = field(default=None, hash=False)

    def holds(self, shape: Shape) -> bool:
        return shape.name in self.whole or (shape.name == self.table and self.place is not None)


def catch_up(cursor: Any, way: Way, shapes: Sequence[Shape], reach: Reach) -> int:
    """Copy again what was written since, in a snapshot's transaction; how many rows that was.

    `shapes` are in the order of shapes.units. Rows beyond the reach are copied when it comes there.
    """
    cursor.execute(
        'select "table", count(*) from lifecycle_change where tenant_id = %s group by 1',
        [way.tenant_id],
    )
    noted = dict(cursor.fetchall())
    written = [shape for shape in shapes if shape.name in noted and reach.holds(shape)]
    for shape in reversed(written):
        _run(cursor, _DELETE_GONE, way, shape, reach)
    for shape in written:
        if shape.is_unique_besides:
            _run(cursor, _PARK, way, shape, reach)
    for shape in written:
        _run(cursor, _WRITE, way, shape, reach)
        if "tenant_id" in shape.key:  # There it is another row.
            parked = sql.SQL("delete from {} where tenant_id = {}")
            cursor.execute(parked.format(way.new(shape.name), sql.Literal(-way.tenant_id)))
    if noted:
        Change.objects.using(OPERATOR).filter(tenant_id=way.tenant_id).delete()
    return sum(noted.values())


def copy(
    cursor: Any, way: Way, shape: Shape, *, after: Place | None, limit: int | None
) -> tuple[int, Place | None]:
    """Copy a table's next rows: how many, and the key of the last one; None: there was none."""
    order = [sql.SQL("chunk.{} desc").format(sql.Identifier(column)) for column in shape.key]
    keys = [sql.SQL("chunk.{0} as {0}").format(sql.Identifier(column)) for column in shape.key]
    statement = sql.SQL(_COPY).format(
        columns=_names(shape.columns),
        old=way.old(shape.name),
        new=way.new(shape.name),
        tenant=sql.Literal(way.tenant_id),
        beyond=_bound(shape, after, ">") if after is not None else sql.SQL(""),
        key=_names(shape.key),
        limit=sql.SQL("limit {}").format(sql.Literal(limit)) if limit else sql.SQL(""),
        chunk_key=sql.SQL(", ").join(keys),
        chunk_order=sql.SQL(", ").join(order),
    )
    cursor.execute(statement)
    row = cursor.fetchone()
    return (row[0], orjson.loads(row[1])) if row else (0, None)


def count(cursor: Any, way: Way, shapes: Sequence[Shape]) -> int:
    """How many rows are to be copied."""
    total = 0
    for shape in shapes:
        counted = sql.SQL("select count(*) from {} where tenant_id = {}")
        cursor.execute(counted.format(way.old(shape.name), sql.Literal(way.tenant_id)))
        total += cursor.fetchone()[0]
    return total


def _run(cursor: Any, statement: LiteralString, way: Way, shape: Shape, reach: Reach) -> None:
    place = reach.place if shape.name == reach.table else None
    reached = _bound(shape, place, "<=") if place is not None else sql.SQL("")
    typed = [
        sql.SQL("{} {}").format(sql.Identifier(column), sql.SQL(shape.type_of(column)))
        for column in shape.key
    ]
    keys = sql.SQL(_KEYS).format(
        columns=_names(shape.key, of="k"),
        typed=sql.SQL(", ").join(typed),
        tenant=sql.Literal(way.tenant_id),
        table=sql.Literal(shape.name),
        reached=reached,
    )
    cursor.execute(
        sql.SQL(statement).format(
            old=way.old(shape.name),
            new=way.new(shape.name),
            keys=keys,
            tenant=sql.Literal(way.tenant_id),
            key=_names(shape.key),
            columns=_names(shape.columns),
            s_columns=_names(shape.columns, of="s"),
            excluded=_names(shape.columns, of="excluded"),
            d_is_k=_same(shape, "d", "k"),
            s_is_k=_same(shape, "s", "k"),
        )
    )


def _bound(shape: Shape, place: Place, operator: LiteralString) -> sql.Composed:
    """That a row `k` lies before or behind a place."""
    values = [
        sql.SQL("{}::{}").format(sql.Literal(place[column]), sql.SQL(shape.type_of(column)))
        for column in shape.key
    ]
    return sql.SQL("and row({}) {} row({})").format(
        _names(shape.key, of="k"), sql.SQL(operator), sql.SQL(", ").join(values)
    )


def _same(shape: Shape, one: str, other: str) -> sql.Composed:
    pairs = [
        sql.SQL("{} = {}").format(sql.Identifier(one, column), sql.Identifier(other, column))
        for column in shape.key
    ]
    return sql.SQL(" and ").join(pairs)


def _names(columns: Sequence[str], *, of: str | None = None) -> sql.Composed:
    named = [sql.Identifier(of, each) if of else sql.Identifier(each) for each in columns]
    return sql.SQL(", ").join(named)
