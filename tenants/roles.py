"""The database's roles, one login each, and what a fresh database takes from everyone.

Run once by a superuser: by `manage.py up` for the embedded Postgres, else by `manage.py roles`.
"""

from collections.abc import Mapping
from typing import Any, LiteralString

import psycopg
from psycopg import sql

OWNER = "slipway_owner"  # Owns and migrates everything; passes by RLS, since data migrations must.
APP = "slipway_app"  # Web and tenant code: owns nothing, bound by RLS.
OPERATOR = "slipway_operator"  # Console and engine: passes by RLS, owns nothing.
ANALYTICS = "slipway_analytics"  # Reads everything, writes nothing; for a replica.

ATTRIBUTES: Mapping[str, LiteralString] = {
    OWNER: "login nosuperuser nocreatedb nocreaterole bypassrls",
    APP: "login nosuperuser nocreatedb nocreaterole nobypassrls",
    OPERATOR: "login nosuperuser nocreatedb nocreaterole bypassrls",
    ANALYTICS: "login nosuperuser nocreatedb nocreaterole bypassrls",
}
# UTC spares Django a set_config() on each new connection, which the app role may not call.
SETTINGS: Mapping[str, tuple[LiteralString, ...]] = {
    OWNER: ("timezone = 'UTC'",),
    APP: (
        "timezone = 'UTC'",
        "statement_timeout = '5s'",
        "idle_in_transaction_session_timeout = '60s'",
    ),
    OPERATOR: ("timezone = 'UTC'", "idle_in_transaction_session_timeout = '60s'"),
    ANALYTICS: ("timezone = 'UTC'", "default_transaction_read_only = on"),
}

# What every role could do in a new database, and what would help injected SQL out of its tenant.
REVOKED: tuple[LiteralString, ...] = (
    "revoke execute on function pg_catalog.set_config(text, text, boolean) from public",
    "revoke select on pg_catalog.pg_stat_activity from public",
    "revoke execute on function pg_catalog.pg_stat_get_activity(integer) from public",
    "revoke execute on function pg_catalog.lo_creat(integer) from public",
    "revoke execute on function pg_catalog.lo_create(oid) from public",
    "revoke execute on function pg_catalog.lo_from_bytea(oid, bytea) from public",
    "revoke create on schema public from public",
)


def create_roles(superuser: str, *, passwords: Mapping[str, str] | None = None) -> None:
    """Make the four roles, or bring those that exist in line; `passwords` by role name, if any."""
    with psycopg.connect(superuser, autocommit=True) as connection:
        for role, attributes in ATTRIBUTES.items():
            exists = connection.execute(
                "select 1 from pg_roles where rolname = %s", [role]
            ).fetchone()
            verb = sql.SQL("alter" if exists else "create")
            name = sql.Identifier(role)
            connection.execute(sql.SQL("{} role {} with ").format(verb, name) + sql.SQL(attributes))
            for setting in SETTINGS[role]:
                connection.execute(sql.SQL("alter role {} set ").format(name) + sql.SQL(setting))
            if passwords and role in passwords:
                _set_password(connection, role, passwords[role])


def _set_password(connection: psycopg.Connection[Any], role: str, password: str) -> None:
    """Hash the password here (SCRAM), so that the server's log never shows it."""
    verifier = connection.pgconn.encrypt_password(
        password.encode(), role.encode(), b"scram-sha-256"
    )
    connection.execute(
        sql.SQL("alter role {} password {}").format(
            sql.Identifier(role), sql.Literal(verifier.decode())
        )
    )


def create_database(superuser: str, name: str, *, template: str | None = None) -> bool:
    """Make a database that slipway_owner owns; says whether it was new.

    A copy of a `template` that was made here needs no more than its name.
    """
    with psycopg.connect(superuser, autocommit=True) as connection:
        if connection.execute("select 1 from pg_database where datname = %s", [name]).fetchone():
            return False
        statement = sql.SQL("create database {} owner {}").format(
            sql.Identifier(name), sql.Identifier(OWNER)
        )
        if template:
            statement += sql.SQL(" template {}").format(sql.Identifier(template))
        else:
            statement += sql.SQL(" template template0 encoding 'UTF8'")
        connection.execute(statement)
        connection.execute(
            sql.SQL("revoke temporary on database {} from public").format(sql.Identifier(name))
        )
    if not template:
        _take_from_public(psycopg.conninfo.make_conninfo(superuser, dbname=name))
    return True


def _take_from_public(conninfo: str) -> None:
    with psycopg.connect(conninfo) as connection:
        for statement in REVOKED:
            connection.execute(statement)
        for role in (OWNER, OPERATOR):
            connection.execute(
                sql.SQL(
                    "grant execute on function pg_catalog.set_config(text, text, boolean) to {}"
                ).format(sql.Identifier(role))
            )
        connection.execute(
            sql.SQL(
                "alter default privileges for role {owner} grant select, insert, update, delete"
                " on tables to {operator}"
            ).format(owner=sql.Identifier(OWNER), operator=sql.Identifier(OPERATOR))
        )
        connection.execute(
            sql.SQL(
                "alter default privileges for role {owner} grant usage on sequences to {operator}"
            ).format(owner=sql.Identifier(OWNER), operator=sql.Identifier(OPERATOR))
        )
        connection.execute(
            sql.SQL(
                "alter default privileges for role {owner} grant select on tables to {analytics}"
            ).format(owner=sql.Identifier(OWNER), analytics=sql.Identifier(ANALYTICS))
        )
