"""How a dedicated schema is built, learnt once in each process.

Django's `migrate` renders the state of its models before each migration: a third of a second of CPU
for a few tables, in which the other threads of the process stand still. So what statements the
first one took is kept, and run as it is for the next, in one transaction.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from django.conf import settings
from django.db import connections, transaction
from django.db.migrations.loader import MigrationLoader

_KEPT = ("create", "alter", "drop", "grant", "revoke", "comment", 'insert into "django_migrations"')

_learnt: list[tuple[str, Any]] = []


@contextmanager
def learning() -> Iterator[None]:
    """Keep the statements of the block, which migrates a new schema from nothing to its end."""
    statements: list[tuple[str, Any]] = []

    def keep(execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: Any) -> Any:
        if isinstance(sql, str) and sql.lstrip().lower().startswith(_KEPT):
            statements.append((sql, params))
        return execute(sql, params, many, context)

    with connections["owner"].execute_wrapper(keep):
        yield
    if _says_all():
        _learnt[:] = statements


def build(schema: str, *, create: Callable[[str], None]) -> bool:
    """Build a schema that is not there, all or nothing; False when nothing was learnt yet.

    `create` makes the empty schema and opens it to the roles.
    """
    if not _learnt:
        return False
    connection: Any = connections["owner"]
    try:
        with transaction.atomic(using="owner"):
            create(schema)
            connection.set_schema(schema)
            with connection.cursor() as cursor:
                for statement, params in list(_learnt):
                    cursor.execute(statement, params)
    finally:
        connection.set_schema_to_public()
    return True


@cache
def _says_all() -> bool:
    """Whether statements are all there is to the tenant apps' migrations: none runs Python."""
    loader = MigrationLoader(None, ignore_no_migrations=True)
    return all(
        operation.reduces_to_sql
        for migration in loader.disk_migrations.values()
        if migration.app_label in {path.rpartition(".")[2] for path in settings.TENANT_APPS}
        for operation in migration.operations
    )
