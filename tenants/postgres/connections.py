"""Raw connections, for code that must not go through Django's: the engine's bookkeeping."""

from typing import Any

from django.db import connections


def conninfo(alias: str) -> dict[str, Any]:
    """The keyword arguments with which psycopg connects as that alias does."""
    params = connections[alias].get_connection_params()
    for name in ("cursor_factory", "context"):  # Django's own; plain psycopg types suit raw code.
        params.pop(name, None)
    return dict(params)
