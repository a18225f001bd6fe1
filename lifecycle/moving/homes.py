"""The new home before the move, and the old one after it."""

from typing import Any

from django.db import connections, transaction
from django.db.models import F
from psycopg import sql

from lifecycle.errors import MoveFailed
from lifecycle.moving import shapes
from lifecycle.moving.shapes import Shape
from lifecycle.moving.way import OWNER, Way, briefly, fence, fenced, option, require_home
from tenants import schemas
from tenants.context import POOL

_MARK = "select obj_description(oid, 'pg_namespace') from pg_namespace where nspname = %s"


def make(way: Way) -> None:
    """The new home's tables, empty of the tenant. May be run again after it was killed anywhere.

    Raises MoveFailed when the schema is somebody else's, and LeaseLost.
    """
    empty(way)
    if way.target == POOL:
        return
    with fenced(way):
        pass
    # Not held meanwhile: it may take a minute, in transactions of its own. What one who lost the
    # lease makes here destroys nothing, has no mark, and goes when the next one makes it.
    schemas.ensure_schema(way.target)
    with transaction.atomic(using=OWNER), connections[OWNER].cursor() as cursor:
        fence(way, using=OWNER)
        statement = sql.SQL("comment on schema {} is {}")
        cursor.execute(statement.format(sql.Identifier(way.target), sql.Literal(way.mark)))


def empty(way: Way) -> None:
    """Take out of the new home what an earlier try left there: nobody lives there yet."""
    if way.target == POOL:
        while _delete_some(way, way.target, at_home=way.move.home_before):
            pass
    else:
        drop(way, at_home=way.move.home_before)


def drop(way: Way, *, at_home: str) -> None:
    """Drop the tenant's own schema, while the tenant is at home elsewhere.

    Raises MoveFailed when it is not, and when the schema carries another owner's mark; LeaseLost.
    """
    with (
        briefly(),
        transaction.atomic(using=OWNER),
        connections[OWNER].cursor() as cursor,
    ):
        cursor.execute("set local lock_timeout = '2s'")
        fence(way, using=OWNER)
        require_home(cursor, way, at_home)
        cursor.execute(_MARK, [way.own])
        row = cursor.fetchone()
        if row is None:
            return
        if way.mark is not None and row[0] not in {None, way.mark}:
            raise MoveFailed(f"Schema {way.own} carries another owner's mark.")
        schemas.drop_schema(way.own)


def clear_some(way: Way) -> bool:
    """Delete the next rows of the old home; whether that was the end of them."""
    if way.source == POOL:
        return not _delete_some(way, way.source, at_home=way.move.home_after)
    drop(way, at_home=way.move.home_after)
    return True


def _delete_some(way: Way, schema: str, *, at_home: str) -> int:
    """Delete a chunk of the tenant's rows in a schema where it is not at home; how many it was."""
    with fenced(way) as cursor:
        require_home(cursor, way, at_home)
        for table in _children_first(cursor, schema):
            deleted = _delete_chunk(cursor, way, schema, table)
            if deleted:
                way.write(cleared=F("cleared") + (deleted if way.move.moved_at else 0))
                return deleted
    return 0


def _delete_chunk(cursor: Any, way: Way, schema: str, table: Shape) -> int:
    statement = sql.SQL(
        "delete from {0} where tenant_id = {1} and ctid = any(array("
        "select ctid from {0} where tenant_id = {1} limit {2}))"
    )
    named = sql.Identifier(schema, table.name)
    chunk = sql.Literal(option("chunk"))
    cursor.execute(statement.format(named, sql.Literal(way.tenant_id), chunk))
    deleted: int = cursor.rowcount
    return deleted


def _children_first(cursor: Any, schema: str) -> list[Shape]:
    found = shapes.read(cursor, schema)
    return [shape for unit in reversed(shapes.units(found)) for shape in unit]
