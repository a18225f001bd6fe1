"""A tenant's archive: a ZIP with a file of JSON lines for each table, and what is in it.

All of it is read in one transaction (REPEATABLE READ), so that it shows one moment: a message and
the campaign that it belongs to are both there, or neither is. Rows go from the database to the file
one batch at a time, whatever their number.

Where there is not enough time for that, it is written in stretches, each of which shows a moment of
its own. Between them the file is a ZIP too, without its manifest: its comment says how far it is,
and the next stretch goes on behind the key of the last row, in another file of the same table.

What is not in it: secrets and what they are checked by (SLIPWAY["NOT_EXPORTED"]), whatever is
stored as bytes (digests, hashes), signed-in browsers, and the tenant's files.
"""

import hashlib
import os
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import chain
from typing import IO, Any, Literal
from uuid import UUID

import orjson
from django.conf import settings
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg import sql

from config.ids import format_id
from lifecycle import tables
from lifecycle.errors import TenantGone
from lifecycle.tables import Table
from tenants.context import NOWHERE, POOL
from tenants.states import Home

OPERATOR = "operator"
FORMAT = 1  # Of the manifest.
BATCH = 2000  # Rows fetched at once.
LEVEL = 1  # Of the compression: most of what the slowest saves, at a fifth of its time.
BYTES = "bytea"

_TENANT = """
select t.uuid, t.home, t.schema_name, now() from public.tenants_tenant t where t.id = %s
"""
# Two tables say otherwise whose a row is: the tenant's own, and that of people, who belong to no
# tenant alone, and of whom only that goes with it which its owner knows.
_SPECIAL = {
    "tenants_tenant": "select row_to_json(t)::text from public.tenants_tenant t where t.id = %s",
    "tenants_user": """
select row_to_json(r)::text from (
  select u.id, u.email, u.name, u.is_active, u.activated_at, u.created_at
  from public.tenants_user u
  where u.id in (select m.user_id from public.tenants_membership m where m.tenant_id = %s)) r""",
}

# Told after each batch: the table, and how many rows are written in all. What it raises ends it.
Heard = Callable[[str, int], None]
Place = Mapping[str, Any]  # A row's key: column → value.


@dataclass(slots=True)
class Written:
    """What an archive holds, and how far it is.

    File → {"rows", "bytes", "sha256", "taken_at"}: one for each table, or several.
    """

    tenant: UUID
    taken_at: datetime  # The moment that all of it shows, or the first of several.
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    whole: list[str] = field(default_factory=list)  # Tables.
    table: str = ""  # That is written in part,
    place: Place | None = None  # up to this row.
    is_whole: bool = False

    @property
    def rows(self) -> int:
        return sum(int(each["rows"]) for each in self.files.values())

    def new_file(self, table: str) -> str:
        """The name of a table's next file."""
        nth = 1 + sum(name.split(".")[0] == table for name in self.files)
        return f"{table}.jsonl" if nth == 1 else f"{table}.{nth}.jsonl"

    def state(self) -> bytes:
        """What the next stretch must know; a ZIP's comment has room for 64 KB."""
        said = {
            "taken_at": self.taken_at.isoformat(),
            "files": self.files,
            "whole": self.whole,
            "table": self.table,
            "place": self.place,
        }
        return orjson.dumps(said)

    def resume(self, state: bytes) -> None:
        """Go on from what `state` said."""
        said = orjson.loads(state)
        self.taken_at = datetime.fromisoformat(said.pop("taken_at"))
        for name, value in said.items():
            setattr(self, name, value)

    def manifest(self) -> bytes:
        """What stands in manifest.json."""
        said = {
            "format": FORMAT,
            "tenant": format_id("tnt", self.tenant),
            "taken_at": self.taken_at.astimezone(UTC).isoformat(),
            "files": self.files,
            "left_out": sorted(settings.SLIPWAY["NOT_EXPORTED"]),
        }
        return orjson.dumps(said, option=orjson.OPT_INDENT_2)


def write(
    file: IO[bytes],
    *,
    tenant_id: int,
    heard: Heard = lambda table, rows: None,
    enough: Callable[[], bool] = lambda: False,
) -> Written:
    """Write a tenant's archive, or as much of it as `enough` leaves time for.

    `file` is empty, or what an earlier stretch made of it; at least a batch is added.
    Raises TenantGone, and what `heard` raises.
    """
    begun = file.seek(0, os.SEEK_END) > 0
    with _one_moment() as connection:
        with connection.cursor() as cursor:
            cursor.execute(_TENANT, [tenant_id])
            row = cursor.fetchone()
        if row is None:
            raise TenantGone
        uuid, home, schema, now = row
        schemas = [NOWHERE, schema if home == Home.DEDICATED else POOL]
        mode: Literal["a", "w"] = "a" if begun else "w"
        with zipfile.ZipFile(file, mode, zipfile.ZIP_DEFLATED, compresslevel=LEVEL) as archive:
            written = Written(uuid, now)
            if begun:
                written.resume(archive.comment)
            stretch = _Stretch(connection, archive, written, tenant_id, now, heard, enough)
            written.is_whole = stretch.write(schemas)
            archive.comment = b"" if written.is_whole else written.state()
            if written.is_whole:
                archive.writestr("manifest.json", written.manifest())
    return written


@dataclass(slots=True)
class _Stretch:
    """What is written from one look at the database."""

    connection: BaseDatabaseWrapper
    archive: zipfile.ZipFile
    written: Written
    tenant_id: int
    now: datetime
    heard: Heard
    enough: Callable[[], bool]

    def write(self, schemas: Sequence[str]) -> bool:
        """Table after table; whether that is all."""
        for name, table in self._tables(schemas):
            if name in self.written.whole:
                continue
            if not self._write(name, table):
                return False
            self.written.whole.append(name)
            self.written.table, self.written.place = "", None
        return True

    def _tables(self, schemas: Sequence[str]) -> Iterator[tuple[str, Table | None]]:
        yield from ((name, None) for name in _SPECIAL)
        for table in tables.found(self.connection, schemas=schemas):
            if table.name not in _SPECIAL and table.name not in _left_out():
                yield table.name, table

    def _write(self, name: str, table: Table | None) -> bool:
        """A table's rows, from where they were left; whether those are all."""
        written = self.written
        place = written.place if written.table == name else None
        key, query, values = self._asked(name, table, place)
        batches = _lines(self.connection, query, [self.tenant_id, *values])
        if place is not None:
            if (first := next(batches, None)) is None:
                return True  # It was left behind its last row.
            batches = chain([first], batches)
        digest, rows, size, before = hashlib.sha256(), 0, 0, written.rows
        entry, all_of_it = written.new_file(name), True
        with self.archive.open(entry, "w", force_zip64=True) as file:
            for batch in batches:
                lines = "\n".join((*batch, "")).encode()
                digest.update(lines)
                size += file.write(lines)
                rows += len(batch)
                self.heard(name, before + rows)
                if key and self.enough():
                    last, all_of_it = orjson.loads(batch[-1]), False
                    written.table = name
                    written.place = {column: last[column] for column in key}
                    break
        written.files[entry] = {
            "rows": rows,
            "bytes": size,
            "sha256": digest.hexdigest(),
            "taken_at": self.now.astimezone(UTC).isoformat(),
        }
        return all_of_it

    def _asked(
        self, name: str, table: Table | None, place: Place | None
    ) -> tuple[Sequence[str], sql.Composed | str, list[Any]]:
        """A table's key, if it can be left in the middle; the query, and what it is asked with."""
        if table is None:
            return (), _SPECIAL[name], []
        columns = _columns(self.connection, table)
        key = table.key if set(table.key) <= set(columns) else ()
        values = [place[column] for column in key] if place is not None else []
        return key, _query(table, columns, key, goes_on=place is not None), values


@contextmanager
def _one_moment() -> Iterator[BaseDatabaseWrapper]:
    """A connection of its own on which every query sees the database as it is now."""
    own = connections[OPERATOR].copy()
    try:
        own.set_autocommit(False)
        with own.cursor() as cursor:
            cursor.execute("set transaction isolation level repeatable read, read only")
        yield own
    finally:
        own.rollback()  # Nothing was written; a pool wants its connections back idle.
        own.close()


def _columns(connection: BaseDatabaseWrapper, table: Table) -> dict[str, str]:
    """The columns that are told, and their types."""
    left_out = _left_out()
    return {
        name: kind
        for name, kind in tables.columns(connection, table).items()
        if kind != BYTES and f"{table.name}.{name}" not in left_out
    }


def _query(
    table: Table, columns: Mapping[str, str], key: Sequence[str], *, goes_on: bool
) -> sql.Composed:
    """By the primary key: so it is known what comes behind a row."""
    names = sql.SQL(", ").join(map(sql.Identifier, columns))
    by_key = sql.SQL(", ").join(map(sql.Identifier, key))
    typed = sql.SQL(", ").join(sql.SQL("%s::{}").format(sql.SQL(columns[name])) for name in key)
    nothing = sql.SQL("").format()
    ordered = sql.SQL(" order by {}").format(by_key) if key else nothing
    behind = sql.SQL(" and row({}) > row({})").format(by_key, typed) if goes_on else nothing
    return sql.SQL(
        "select row_to_json(r)::text from (select {} from {} where tenant_id = %s{}{}) r"
    ).format(names, table.identifier, behind, ordered)


def _left_out() -> frozenset[str]:
    """Names of tables, and of columns as table.column."""
    return frozenset(settings.SLIPWAY["NOT_EXPORTED"])


def _lines(
    connection: BaseDatabaseWrapper, query: sql.Composed | str, values: Sequence[Any]
) -> Iterator[list[str]]:
    """The rows, a batch at a time: the cursor is the server's."""
    with connection.chunked_cursor() as cursor:
        cursor.execute(query, values)
        while rows := cursor.fetchmany(BATCH):
            yield [text for (text,) in rows]
