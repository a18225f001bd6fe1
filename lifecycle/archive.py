"""A tenant's archive: a ZIP with a file of JSON lines for each table, and what is in it.

All of it is read in one transaction (REPEATABLE READ), so that it shows one moment: a message and
the campaign that it belongs to are both there, or neither is. Rows go from the database to the file
one batch at a time, whatever their number.

What is not in it: secrets and what they are checked by (SLIPWAY["NOT_EXPORTED"]), whatever is
stored as bytes (digests, hashes), signed-in browsers, and the tenant's files.
"""

import hashlib
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import IO, Any
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


@dataclass(slots=True)
class Written:
    """What an archive holds: the moment that it shows, and file → {"rows", "bytes", "sha256"}."""

    tenant: UUID
    taken_at: datetime
    files: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        return sum(int(each["rows"]) for each in self.files.values())

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


def write(file: IO[bytes], *, tenant_id: int, heard: Heard = lambda table, rows: None) -> Written:
    """Write a tenant's archive. Raises TenantGone, and what `heard` raises."""
    with _one_moment() as connection:
        with connection.cursor() as cursor:
            cursor.execute(_TENANT, [tenant_id])
            row = cursor.fetchone()
        if row is None:
            raise TenantGone
        uuid, home, schema, taken_at = row
        written = Written(uuid, taken_at)
        schemas = [NOWHERE, schema if home == Home.DEDICATED else POOL]
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=LEVEL) as archive:
            for name, query in _queries(connection, schemas):
                lines = _lines(connection, query, tenant_id)
                _write(archive, name, lines, written, heard)
            archive.writestr("manifest.json", written.manifest())
    return written


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


def _queries(
    connection: BaseDatabaseWrapper, schemas: Sequence[str]
) -> Iterator[tuple[str, sql.Composed | str]]:
    """Each table's name, and what reads a tenant's rows of it as JSON."""
    yield from _SPECIAL.items()
    for table in tables.found(connection, schemas=schemas):
        if table.name not in _SPECIAL and table.name not in _left_out():
            yield table.name, _query(table, _columns(connection, table))


def _columns(connection: BaseDatabaseWrapper, table: Table) -> list[str]:
    left_out = _left_out()
    columns = tables.columns(connection, table).items()
    return [
        name for name, kind in columns if kind != BYTES and f"{table.name}.{name}" not in left_out
    ]


def _query(table: Table, columns: Sequence[str]) -> sql.Composed:
    """Oldest first, where an index leads that way: partitions would have to be sorted."""
    ordered = "id" in columns and not table.is_partitioned
    return sql.SQL(
        "select row_to_json(r)::text from (select {} from {} where tenant_id = %s{}) r"
    ).format(
        sql.SQL(", ").join(map(sql.Identifier, columns)),
        table.identifier,
        sql.SQL(" order by id" if ordered else ""),
    )


def _left_out() -> frozenset[str]:
    """Names of tables, and of columns as table.column."""
    return frozenset(settings.SLIPWAY["NOT_EXPORTED"])


def _lines(
    connection: BaseDatabaseWrapper, query: sql.Composed | str, tenant_id: int
) -> Iterator[list[str]]:
    """The rows, a batch at a time: the cursor is the server's."""
    with connection.chunked_cursor() as cursor:
        cursor.execute(query, [tenant_id])
        while rows := cursor.fetchmany(BATCH):
            yield [text for (text,) in rows]


def _write(
    archive: zipfile.ZipFile,
    table: str,
    batches: Iterable[list[str]],
    written: Written,
    heard: Heard,
) -> None:
    digest, rows, size, before = hashlib.sha256(), 0, 0, written.rows
    with archive.open(f"{table}.jsonl", "w", force_zip64=True) as file:
        for batch in batches:
            lines = "\n".join((*batch, "")).encode()
            digest.update(lines)
            size += file.write(lines)
            rows += len(batch)
            heard(table, before + rows)
    written.files[f"{table}.jsonl"] = {"rows": rows, "bytes": size, "sha256": digest.hexdigest()}
