"""What is to be moved, as the catalogue says: a tenant's own tables, those of extensions too."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Any

from lifecycle.errors import MoveDelayed, MoveFailed

_TABLES = """
select c.relname,
  array(select a.attname::text from pg_attribute a
    where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and a.attgenerated = ''
    order by a.attname),
  array(select format_type(a.atttypid, a.atttypmod) from pg_attribute a
    where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and a.attgenerated = ''
    order by a.attname),
  array(select a.attname::text from pg_index i
    cross join unnest(i.indkey::int2[]) with ordinality k(number, place)
    join pg_attribute a on a.attrelid = c.oid and a.attnum = k.number
    where i.indrelid = c.oid and i.indisprimary order by k.place),
  exists (select from pg_index i join pg_index p on p.indrelid = c.oid and p.indisprimary
    where i.indrelid = c.oid and i.indisunique
    and not i.indkey::int2[] @> p.indkey::int2[]),
  array(select distinct p.relname::text from pg_constraint f join pg_class p on p.oid = f.confrelid
    where f.contype = 'f' and f.conrelid = c.oid and p.relnamespace = c.relnamespace)
from pg_class c
where c.relnamespace = %s::regnamespace and c.relkind in ('r', 'p') and not c.relispartition
  and c.relname <> 'django_migrations'
order by c.relname
"""


@dataclass(frozen=True, slots=True)
class Shape:
    """One table, in whichever schema: what its rows are made of, and what they point at."""

    name: str
    columns: tuple[str, ...]  # By name; generated ones make themselves.
    types: tuple[str, ...]
    key: tuple[str, ...]  # Of the primary key, in its order.
    is_unique_besides: bool  # Whether two rows can get in each other's way by more than their key.
    parents: tuple[str, ...]

    def type_of(self, column: str) -> str:
        return self.types[self.columns.index(column)]


def read(cursor: Any, schema: str) -> dict[str, Shape]:
    """The tables of one home.

    Raises MoveFailed when rows of one cannot be told apart, or do not say whose they are.
    """
    cursor.execute(_TABLES, [schema])
    shapes = {
        name: Shape(name, tuple(columns), tuple(types), tuple(key), besides, tuple(parents))
        for name, columns, types, key, besides, parents in cursor.fetchall()
    }
    for shape in shapes.values():
        if not shape.key or "tenant_id" not in shape.columns:
            lacks = "tenant_id" if shape.key else "primary key"
            raise MoveFailed(f"{schema}.{shape.name} has no {lacks}, and cannot be moved.")
    return shapes


def read_both(cursor: Any, source: str, target: str) -> dict[str, Shape]:
    """The tables of two homes.

    Raises MoveDelayed while they are not the same: one was migrated, and the other was not yet.
    """
    old, new = read(cursor, source), read(cursor, target)
    if digest(old) != digest(new):
        odd = [name for name in {*old, *new} if _said(old.get(name)) != _said(new.get(name))]
        raise MoveDelayed(f"{', '.join(sorted(odd))} differ in {source} and {target}: migrate.")
    return old


def digest(shapes: Mapping[str, Shape]) -> str:
    """What changes when a column does."""
    said = repr([_said(shapes[name]) for name in sorted(shapes)])
    return hashlib.md5(said.encode(), usedforsecurity=False).hexdigest()


def units(shapes: Mapping[str, Shape]) -> list[list[Shape]]:
    """The tables in the order in which they are copied: whatever a row points at goes before it.

    What is in one list is copied in one transaction, since its rows may point at one another. The
    order is the same in every process.
    """
    graph = {
        name: [parent for parent in sorted(shape.parents) if parent in shapes and parent != name]
        for name, shape in sorted(shapes.items())
    }
    try:
        return [[shapes[name]] for name in TopologicalSorter(graph).static_order()]
    except CycleError:
        return [list(shapes.values())]


def is_whole(unit: Sequence[Shape]) -> bool:
    """Whether a unit cannot be copied in chunks."""
    return len(unit) > 1 or unit[0].name in unit[0].parents


def _said(shape: Shape | None) -> tuple[Any, ...] | None:
    return (shape.name, shape.columns, shape.types, shape.key) if shape else None
