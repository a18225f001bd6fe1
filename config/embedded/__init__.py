"""A real Postgres and a real Valkey from wheels, for a machine that has neither.

Both live under one state directory (`.slipway/`), listen on Unix sockets only, and run as
children of the process that started them: they end when it ends, even by SIGKILL. Where they will
listen follows from the directory alone, so that settings can be computed before anything runs.

As root, Postgres runs as `nobody`, since it refuses to run as root; the directories above its own
get the search bit for others (o+x, never o+r) where they lack it, and a log line says which.
"""

from pathlib import Path

from config.embedded.postgres import Postgres
from config.embedded.secrets import stored_secrets
from config.embedded.server import EmbeddedError
from config.embedded.valkey import Valkey

__all__ = ["DATABASE", "EmbeddedError", "Postgres", "Valkey", "environment"]

DATABASE = "slipway"


def environment(state_dir: Path) -> dict[str, str]:
    """The variables that a deployment would set, for the servers and secrets under state_dir.

    Starts nothing. The first call makes the directory and the secrets; later ones read them.
    """
    postgres = Postgres(state_dir / "postgres")
    return {
        **stored_secrets(state_dir),
        "DATABASE_URL": postgres.conninfo(DATABASE, "slipway_app"),
        "OPERATOR_DATABASE_URL": postgres.conninfo(DATABASE, "slipway_operator"),
        "OWNER_DATABASE_URL": postgres.conninfo(DATABASE, "slipway_owner"),
        "REDIS_URL": Valkey(state_dir / "valkey").url,
    }
