"""Raw connections, for code that must not go through Django's: the engine's bookkeeping."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.conf import settings
from django.db import connections


def conninfo(alias: str) -> dict[str, Any]:
    """The keyword arguments with which psycopg connects as that alias does."""
    params = connections[alias].get_connection_params()
    for name in ("cursor_factory", "context"):  # Django's own; plain psycopg types suit raw code.
        params.pop(name, None)
    return dict(params)


@contextmanager
def prepared(connection: Any) -> Iterator[None]:
    """Statements in here are prepared on their connection, which halves what the database does.

    For a hot statement that is always the same and needs no plan by its values, such as an insert.
    A proxy that shares connections may not know what was prepared: there it changes nothing.
    """
    raw = connection.connection
    raw.prepare_threshold = None if settings.DATABASE_PROXIED else 0
    try:
        yield
    finally:
        raw.prepare_threshold = None
