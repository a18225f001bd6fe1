"""The triggers in the old home: each write there leaves its key (lifecycle/sql/capture.sql).

Making one waits for whoever is writing to that table, and others wait behind it: so it waits for a
moment, and rather comes again.
"""

import time
from collections.abc import Iterable, Sequence
from typing import Any, LiteralString

from django.db import connections, transaction
from psycopg import sql

from lifecycle.errors import MoveDelayed
from lifecycle.models import Change
from lifecycle.moving.shapes import Shape
from lifecycle.moving.way import OPERATOR, OWNER, Way, briefly, fence, fenced

# Seconds for each try. The last is longer than Postgres lets autovacuum keep anybody waiting.
_PATIENCE = (0.2, 0.4, 1.5)
_PAUSE = 0.5

_WRITTEN: LiteralString = """
create or replace trigger {name} after insert or update on {table}
for each row when (new.tenant_id = {tenant}) execute function slipway.capture_move({arguments})
"""
_DELETED: LiteralString = """
create or replace trigger {name} after delete on {table}
for each row when (old.tenant_id = {tenant}) execute function slipway.capture_move({arguments})
"""
_FOUND = """
select n.nspname, c.relname, t.tgname from pg_trigger t
join pg_class c on c.oid = t.tgrelid join pg_namespace n on n.oid = c.relnamespace
where t.tgname = any(%s) and t.tgparentid = 0 order by 1, 2, 3
"""
# pg_trigger.tgargs: each argument ends with a zero byte; the first is the move's id.
_ARMED = r"""
select count(*) from pg_trigger t
join pg_class c on c.oid = t.tgrelid
where t.tgname = any(%s) and t.tgenabled in ('O', 'A') and c.relnamespace = %s::regnamespace
and c.relname = any(%s) and split_part(encode(t.tgargs, 'escape'), '\000', 1) = %s
"""


def arm(way: Way, shapes: Iterable[Shape]) -> None:
    """Note what is written in the old home from here on. Raises MoveDelayed, LeaseLost."""
    for shape in shapes:
        arguments = [str(way.move.pk), str(way.tenant_id), *shape.key]
        for name, statement in zip(_names(way.tenant_id), (_WRITTEN, _DELETED), strict=True):
            _patiently(
                sql.SQL(statement).format(
                    name=sql.Identifier(name),
                    table=way.old(shape.name),
                    tenant=sql.Literal(way.tenant_id),
                    arguments=sql.SQL(", ").join(sql.Literal(each) for each in arguments),
                ),
                way,
            )


def is_armed(cursor: Any, way: Way, shapes: Sequence[Shape]) -> bool:
    """Whether both triggers of this move are on every table, until the transaction ends.

    The locks keep out whoever would drop, replace or disable one. Raises MoveDelayed.
    """
    tables = [sql.SQL("{}").format(way.old(shape.name)) for shape in shapes]
    if not tables:
        return True
    with briefly():
        cursor.execute(
            sql.SQL("lock table {} in row exclusive mode").format(sql.SQL(", ").join(tables))
        )
    names = [shape.name for shape in shapes]
    cursor.execute(_ARMED, [list(_names(way.tenant_id)), way.source, names, str(way.move.pk)])
    count: int = cursor.fetchone()[0]
    return count == 2 * len(tables)


def disarm(way: Way) -> None:
    """Take the triggers away wherever they are, and what they noted.

    Raises MoveDelayed, and LeaseLost when the move is in other hands by now.
    """
    _take_away(way.tenant_id, way)
    with fenced(way):
        _forget(way.tenant_id)


def disarm_for_good(tenant_id: int) -> None:
    """As `disarm`, when the tenant goes, whoever believes to move it. Raises MoveDelayed."""
    _take_away(tenant_id, None)
    _forget(tenant_id)


def _take_away(tenant_id: int, way: Way | None) -> None:
    with connections[OWNER].cursor() as cursor:
        cursor.execute(_FOUND, [list(_names(tenant_id))])
        found = cursor.fetchall()
    for schema, table, name in found:
        _patiently(
            sql.SQL("drop trigger if exists {} on {}").format(
                sql.Identifier(name), sql.Identifier(schema, table)
            ),
            way,
        )


def _forget(tenant_id: int) -> None:
    Change.objects.using(OPERATOR).filter(tenant_id=tenant_id).delete()


def _names(tenant_id: int) -> tuple[str, str]:
    return f"slipway_moving_{tenant_id}_written", f"slipway_moving_{tenant_id}_deleted"


def _patiently(statement: Any, way: Way | None) -> None:
    """Run it as the owner, in a transaction of whoever holds the move's lease."""
    for number, seconds in enumerate(_PATIENCE, start=1):
        try:
            with briefly(), transaction.atomic(using=OWNER), connections[OWNER].cursor() as cursor:
                cursor.execute(f"set local lock_timeout = {int(seconds * 1000)}")
                if way is not None:
                    fence(way, using=OWNER)
                cursor.execute(statement)
                return
        except MoveDelayed:
            if number == len(_PATIENCE):
                raise
            time.sleep(_PAUSE)
