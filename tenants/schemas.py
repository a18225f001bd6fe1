"""The schemas that tenants' own tables live in: `pool`, and `t_<id>` for each dedicated tenant.

Everything here runs on the owner's alias; the app role may use a schema but never make one.
"""

import re
from collections.abc import Iterable

from django.apps import apps
from django.conf import settings
from django.core.management import call_command
from django.db import connections
from django.db.migrations.loader import MigrationLoader
from psycopg import sql

from tenants import blueprint
from tenants.context import POOL
from tenants.roles import ANALYTICS, APP, OPERATOR

DEDICATED = re.compile(r"t_[0-9]{1,19}")


def schema_name(tenant_id: int) -> str:
    """The schema that a tenant has, or would have, of its own. Slugs change; this does not."""
    return f"t_{tenant_id}"


def exists(schema: str) -> bool:
    """Whether the database has this schema."""
    with connections["owner"].cursor() as cursor:
        cursor.execute("select 1 from pg_namespace where nspname = %s", [schema])
        return cursor.fetchone() is not None


def dedicated_schemas() -> list[str]:
    """The schemas of all dedicated tenants, from the catalogue: half-made ones too."""
    with connections["owner"].cursor() as cursor:
        cursor.execute(r"select nspname from pg_namespace where nspname ~ '^t_[0-9]+$' order by 1")
        return [name for (name,) in cursor.fetchall()]


def ensure_schema(schema: str, *, verbosity: int = 0) -> None:
    """Make a schema if it is not there, open it to the roles, and bring its tables up to date.

    May be run again after it was killed anywhere: each migration commits with its record.
    """
    _refuse_others(schema)
    if schema == POOL or exists(schema):
        _create(schema)
        migrate_schemas([schema], verbosity=verbosity)
    elif not blueprint.build(schema, create=_create):
        _create(schema)
        with blueprint.learning():
            migrate_schemas([schema], verbosity=verbosity)


def tenant_labels() -> list[str]:
    """The apps whose tables lie in these schemas, in the order that they are migrated in."""
    migrated = MigrationLoader(None, ignore_no_migrations=True).migrated_apps
    found = [apps.get_app_config(path.rpartition(".")[2]).label for path in settings.TENANT_APPS]
    return [label for label in found if label in migrated]


def migrate_schemas(schemas: Iterable[str], *, verbosity: int = 0) -> None:
    """Bring the tenant apps' tables of these schemas up to date."""
    for schema in schemas:
        call_command(
            "migrate",
            tenant=True,
            schema_name=schema,
            interactive=False,
            skip_checks=True,
            verbosity=verbosity,
        )


def drop_schema(schema: str) -> None:
    """Drop a dedicated schema and all in it; nothing happens when there is none."""
    if not DEDICATED.fullmatch(schema):
        raise ValueError(f"{schema!r} is not a dedicated tenant's schema.")
    with connections["owner"].cursor() as cursor:
        cursor.execute(sql.SQL("drop schema if exists {} cascade").format(sql.Identifier(schema)))


def _create(schema: str) -> None:
    name = sql.Identifier(schema)
    with connections["owner"].cursor() as cursor:
        cursor.execute(sql.SQL("create schema if not exists {}").format(name))
        for role in (APP, OPERATOR, ANALYTICS):
            cursor.execute(
                sql.SQL("grant usage on schema {} to {}").format(name, sql.Identifier(role))
            )


def _refuse_others(schema: str) -> None:
    if schema != POOL and not DEDICATED.fullmatch(schema):
        raise ValueError(f"{schema!r} is neither `pool` nor a dedicated tenant's schema.")
