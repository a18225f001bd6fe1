"""Whether both homes hold the same: by count and checksum of every table.

A table's checksum is the sum of its rows' hashes (hashtextextended, 64 bits), which is the same in
whatever order they lie.
"""

from collections.abc import Mapping, Sequence
from typing import Any, LiteralString

from psycopg import sql

from lifecycle.errors import MoveFailed
from lifecycle.moving.shapes import Shape
from lifecycle.moving.way import Way

Checks = dict[str, dict[str, Any]]

_SUM: LiteralString = """
select count(*), coalesce(sum(hashtextextended(row({columns})::text, 0)), 0)::text
from {table} where tenant_id = {tenant}
"""
# age() counts backwards from now, and so goes on where transactions' numbers begin anew. Nobody can
# tell Postgres how few rows are that young: the offset keeps it from joining all of the new home.
_FRESH: LiteralString = """
select count(*) from {old} s left join lateral (
  select {d_columns} from {new} d where d.tenant_id = {tenant} and {same} offset 0
) d on true
where s.tenant_id = {tenant} and age(s.xmin) <= age({horizon}::xid)
and (d.tenant_id is null or row({s_columns})::text is distinct from row({d_columns})::text)
"""
_COUNT: LiteralString = "select count(*) from {} where tenant_id = {}"


def whole(cursor: Any, way: Way, shapes: Sequence[Shape]) -> Checks:
    """What every table comes to, the same in both homes. Raises MoveFailed where it is not."""
    checks, odd = {}, []
    for shape in shapes:
        old = _sum(cursor, way, way.old(shape.name), shape)
        new = _sum(cursor, way, way.new(shape.name), shape)
        checks[shape.name] = old
        if old != new:
            odd.append(f"{shape.name}: {_said(old)} before, {_said(new)} after")
    if odd:
        raise MoveFailed(f"The copy is not the same. {'; '.join(odd)}.")
    return checks


def fresh(cursor: Any, way: Way, shapes: Sequence[Shape], *, horizon: str) -> None:
    """Whether both homes hold the same, when they did at `horizon`, for tenants of many rows.

    It looks at every row that was written since, whether or not the triggers noted it, and counts
    for those that were deleted. Raises MoveFailed.
    """
    odd = []
    cursor.execute("set local jit = off")  # It would take its time for what is guessed, not there.
    for shape in shapes:
        statement = sql.SQL(_FRESH).format(
            old=way.old(shape.name),
            new=way.new(shape.name),
            tenant=sql.Literal(way.tenant_id),
            horizon=sql.Literal(horizon),
            same=sql.SQL(" and ").join(
                sql.SQL("s.{0} = d.{0}").format(sql.Identifier(column)) for column in shape.key
            ),
            s_columns=_columns(shape, "s"),
            d_columns=_columns(shape, "d"),
        )
        cursor.execute(statement)
        unlike = cursor.fetchone()[0]
        old = _count(cursor, way, way.old(shape.name))
        new = _count(cursor, way, way.new(shape.name))
        if unlike or old != new:
            odd.append(f"{shape.name}: {unlike} rows differ, {old} before, {new} after")
    if odd:
        raise MoveFailed(f"The copy is not the same. {'; '.join(odd)}.")


def _sum(cursor: Any, way: Way, table: sql.Identifier, shape: Shape) -> dict[str, Any]:
    cursor.execute(
        sql.SQL(_SUM).format(
            columns=_columns(shape), table=table, tenant=sql.Literal(way.tenant_id)
        )
    )
    rows, checksum = cursor.fetchone()
    return {"rows": rows, "checksum": checksum}


def _count(cursor: Any, way: Way, table: sql.Identifier) -> int:
    cursor.execute(sql.SQL(_COUNT).format(table, sql.Literal(way.tenant_id)))
    count: int = cursor.fetchone()[0]
    return count


def _columns(shape: Shape, of: str | None = None) -> sql.Composed:
    names = [sql.Identifier(of, name) if of else sql.Identifier(name) for name in shape.columns]
    return sql.SQL(", ").join(names)


def _said(check: Mapping[str, Any]) -> str:
    return f"{check['rows']} rows ({check['checksum']})"
