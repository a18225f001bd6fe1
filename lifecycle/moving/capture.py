"""The triggers in the old home: each write there leaves its key (lifecycle/sql/capture.sql).

Making one waits for whoever is writing to that table, and others wait behind it: so it waits for a
moment, and rather comes again.
"""

import time
from collections.abc import Iterable
from typing import Any, LiteralString

from django.db import connections, transaction
from psycopg import sql

from lifecycle.errors import MoveDelayed
from lifecycle.models import Change
from lifecycle.moving.shapes import Shape
from lifecycle.moving.way import OPERATOR, OWNER, Way, briefly

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


def arm(way: Way, shapes: Iterable[Shape]) -> None:
    """Note what is written in the old home from here on. Raises MoveDelayed."""
    for shape in shapes:
        arguments = [str(way.move.pk), str(way.tenant_id), *shape.key]
        for name, statement in zip(_names(way.tenant_id), (_WRITTEN, _DELETED), strict=True):
            _patiently(
                sql.SQL(statement).format(
                    name=sql.Identifier(name),
                    table=way.old(shape.name),
                    tenant=sql.Literal(way.tenant_id),
                    arguments=sql.SQL(", ").join(sql.Literal(each) for each in arguments),
                )
            )


def disarm(tenant_id: int) -> None:
    """Take the triggers away wherever they are, and what they noted. Raises MoveDelayed."""
    with connections[OWNER].cursor() as cursor:
        cursor.execute(_FOUND, [list(_names(tenant_id))])
        found = cursor.fetchall()
    for schema, table, name in found:
        _patiently(
            sql.SQL("drop trigger if exists {} on {}").format(
                sql.Identifier(name), sql.Identifier(schema, table)
            )
        )
    Change.objects.using(OPERATOR).filter(tenant_id=tenant_id).delete()


def _names(tenant_id: int) -> tuple[str, str]:
    return f"slipway_moving_{tenant_id}_written", f"slipway_moving_{tenant_id}_deleted"


def _patiently(statement: Any) -> None:
    for number, seconds in enumerate(_PATIENCE, start=1):
        try:
            with briefly(), transaction.atomic(using=OWNER), connections[OWNER].cursor() as cursor:
                cursor.execute(f"set local lock_timeout = {int(seconds * 1000)}")
                cursor.execute(statement)
                return
        except MoveDelayed:
            if number == len(_PATIENCE):
                raise
            time.sleep(_PAUSE)
