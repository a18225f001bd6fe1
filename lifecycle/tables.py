"""Which tables hold tenants' rows: asked of the database's catalogue, so that none is forgotten.

An extension's table is found like ours: by its column tenant_id, in `public`, in `pool` or in a
tenant's own schema.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter

from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg import sql

from tenants.context import NOWHERE

_FOUND = """
select c.oid, n.nspname, c.relname, c.relkind = 'p', array(
  select k.attname::text from pg_index i
  cross join unnest(i.indkey::int2[]) with ordinality as place(attnum, nth)
  join pg_attribute k on k.attrelid = c.oid and k.attnum = place.attnum
  where i.indrelid = c.oid and i.indisprimary order by place.nth)
from pg_class c
join pg_namespace n on n.oid = c.relnamespace
join pg_attribute a on a.attrelid = c.oid and a.attname = 'tenant_id' and not a.attisdropped
where c.relkind in ('r', 'p') and not c.relispartition and n.nspname = any(%s)
order by n.nspname, c.relname
"""
_POINTS = """
select distinct k.conrelid, k.confrelid from pg_constraint k
where k.contype = 'f' and k.conrelid <> k.confrelid
"""
_COLUMNS = """
select a.attname, format_type(a.atttypid, null) from pg_attribute a
where a.attrelid = %s and a.attnum > 0 and not a.attisdropped order by a.attnum
"""


@dataclass(frozen=True, slots=True)
class Table:
    """A table whose rows say by tenant_id whose they are."""

    oid: int
    schema: str
    name: str
    is_partitioned: bool = False  # Its rows lie in partitions, which are reached through it alone.
    key: Sequence[str] = ()  # The columns of its primary key.

    @property
    def label(self) -> str:
        return f"{self.schema}.{self.name}"

    @property
    def identifier(self) -> sql.Identifier:
        return sql.Identifier(self.schema, self.name)


def found(connection: BaseDatabaseWrapper, *, schemas: Sequence[str]) -> list[Table]:
    """The tables of these schemas and of `public`, by name. Partitions are parts of theirs."""
    with connection.cursor() as cursor:
        cursor.execute(_FOUND, [[NOWHERE, *schemas]])
        return [Table(*row) for row in cursor.fetchall()]


def children_first(connection: BaseDatabaseWrapper, tables: Sequence[Table]) -> list[Table]:
    """In the order in which rows can be deleted: whoever points to a row goes before it.

    Tables that point at one another in a circle come as they were given.
    """
    by_oid = {table.oid: table for table in tables}
    with connection.cursor() as cursor:
        cursor.execute(_POINTS)
        points = [(child, parent) for child, parent in cursor.fetchall()]
    graph: dict[int, set[int]] = {oid: set() for oid in by_oid}
    for child, parent in points:
        if child in graph and parent in graph:
            graph[parent].add(child)
    while True:
        try:
            return [by_oid[oid] for oid in TopologicalSorter(graph).static_order()]
        except CycleError as error:
            before, after = error.args[1][:2]
            graph[after].discard(before)


def columns(connection: BaseDatabaseWrapper, table: Table) -> dict[str, str]:
    """The columns of a table and their types, in order."""
    with connection.cursor() as cursor:
        cursor.execute(_COLUMNS, [table.oid])
        return dict(cursor.fetchall())
