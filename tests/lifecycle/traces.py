"""Where in the world something of a tenant is still to be found: every table, file and key."""

from collections.abc import Iterator

import psycopg

from config.redis import client
from tenants.context import PLATFORM_ID
from tests.onboarding import world

_TABLES = """
select n.nspname, c.relname, exists (
  select from pg_attribute a where a.attrelid = c.oid and a.attname = 'tenant_id')
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where c.relkind = 'r' and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
order by 1, 2
"""
# What docs/lifecycle.md says that stays: table → which of the words it may show.
STAYS = {
    "tenants_auditentry": {"number", "uuid"},
    "lifecycle_closure": {"number"},
    "tenants_tenant": {"number", "slug", "uuid"},
    "tenants_domain": {"number", "slug"},
}


def found(superuser: psycopg.Connection, words: dict[str, str], number: int) -> set[tuple]:
    """(table, word) for each word that some row shows, and ("…", "number") for the number.

    The platform's own rows are the platform's.
    """
    return set(_rows(superuser, words, number)) | set(_world(superuser, words, number))


def undocumented(superuser: psycopg.Connection, words: dict[str, str], number: int) -> set[tuple]:
    """Those that no documentation says may stay."""
    return {
        (place, word)
        for place, word in found(superuser, words, number)
        if word not in STAYS.get(place.rpartition(".")[2], set())
    }


def _rows(superuser: psycopg.Connection, words: dict[str, str], number: int) -> Iterator[tuple]:
    for schema, table, has_tenant in superuser.execute(_TABLES).fetchall():
        place, named = f'"{schema}"."{table}"', f"{schema}.{table}"
        not_platforms = f"tenant_id is distinct from {PLATFORM_ID}" if has_tenant else "true"
        for word, text in words.items():
            if superuser.execute(
                f"select exists (select from {place} r where {not_platforms}"
                " and strpos(lower(r::text), lower(%s)) > 0)",
                [text],
            ).fetchone()[0]:
                yield named, word
        column = "tenant_id" if has_tenant else "id" if table == "tenants_tenant" else None
        if (
            column
            and superuser.execute(
                f"select exists (select from {place} r where r.{column} = %s)", [number]
            ).fetchone()[0]
        ):
            yield named, "number"


def _world(superuser: psycopg.Connection, words: dict[str, str], number: int) -> Iterator[tuple]:
    schema = "select 1 from pg_namespace where nspname = %s"
    if superuser.execute(schema, [f"t_{number}"]).fetchone():
        yield "pg_namespace", "schema"
    if world.files_of(number):
        yield "storage", "files"
    for key in client().scan_iter(count=1000):
        shown = repr((key, _value(key))).lower()
        for word, text in words.items():
            if text.lower() in shown:
                yield f"redis {key.decode(errors='replace')}", word


def _value(key: bytes) -> object:
    redis = client()
    read = {b"string": redis.get, b"hash": redis.hgetall, b"set": redis.smembers}
    return read.get(redis.type(key), lambda key: b"")(key)
