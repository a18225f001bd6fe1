"""GET /healthz: the process answers. GET /readyz: what it needs answers too."""

from functools import cache

import redis
import structlog
from django.apps import apps
from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, DatabaseError, ProgrammingError, connections
from django.db.migrations.loader import MigrationLoader
from django.http import HttpRequest, HttpResponse

from config import redis as shared_redis
from config.api import answer

_log = structlog.get_logger(__name__)

_DAYS_AHEAD = """
select parent, coalesce(min(n) filter (where not slipway.has_partition(
  ('public.' || parent)::regclass, now() + n * interval '24 hours')), 31) - 1
from unnest(%s::text[]) parent, generate_series(0, 30) n group by parent
"""


def healthz(request: HttpRequest) -> HttpResponse:
    """The process is alive. Touches nothing: a database that is down is no reason to restart us."""
    return answer({"status": "ok"}, headers={"Cache-Control": "no-store"})


def readyz(request: HttpRequest) -> HttpResponse:
    """200 when requests can be served, 503 when not.

    Without Redis, a worker, today's partitions or an open gate they can.
    """
    checks = {**_database(), "redis": _redis()}
    ready = checks["database"] == checks["migrations"] == "ok"
    return answer(
        {"status": "ready" if ready else "not ready", "checks": checks},
        status=200 if ready else 503,
        headers={"Cache-Control": "no-store"},
    )


def _database() -> dict[str, str]:
    try:
        if not migrated():
            return {"database": "ok", "migrations": "missing"}
        return {
            "database": "ok",
            "migrations": "ok",
            "worker": "ok" if has_worker() else "none",
            "restored": "held" if is_held() else "ok",
            "partitions": "ok" if min(days_ahead().values(), default=0) >= 0 else "degraded",
        }
    except ProgrammingError:  # Nothing has been migrated: the function itself is not there.
        return {"database": "ok", "migrations": "missing"}
    except DatabaseError as error:
        _log.error("The database does not answer", error=type(error).__name__)
        return {"database": "down", "migrations": "unknown"}


def _redis() -> str:
    try:
        shared_redis.client(timeout=0.5).ping()
    except redis.RedisError:
        return "degraded"
    return "ok"


def migrated() -> bool:
    """Whether public and the pool have every migration of this code. Raises DatabaseError.

    The app role sees what is applied through a function: the tables of record are not its own.
    """
    with connections[DEFAULT_DB_ALIAS].cursor() as cursor:
        cursor.execute("select schema, app, name from slipway.applied_migrations()")
        return _needed() <= set(cursor.fetchall())


def has_worker() -> bool:
    """Whether a drainer has said in the last 15 seconds that it lives. Raises DatabaseError."""
    with connections[DEFAULT_DB_ALIAS].cursor() as cursor:
        cursor.execute("select slipway.drainers_alive()")
        return bool(cursor.fetchone()[0])


def is_held() -> bool:
    """Whether drainers wait for `manage.py restored`. Raises DatabaseError."""
    with connections[DEFAULT_DB_ALIAS].cursor() as cursor:
        cursor.execute("select slipway.gate_held()")
        return bool(cursor.fetchone()[0])


def days_ahead(*, using: str = DEFAULT_DB_ALIAS) -> dict[str, int]:
    """How many days after today each partitioned table has a partition for, without a gap.

    At most 30; 0 is today's only, -1 not even that. Raises DatabaseError.
    """
    with connections[using].cursor() as cursor:
        cursor.execute(_DAYS_AHEAD, [list(settings.SLIPWAY["PARTITIONED"])])
        return dict(cursor.fetchall())


@cache
def _needed() -> frozenset[tuple[str, str, str]]:
    loader = MigrationLoader(None, ignore_no_migrations=True)
    tenant_apps = {
        apps.get_app_config(name.rpartition(".")[2]).label for name in settings.TENANT_APPS
    }
    return frozenset(
        ("pool" if app in tenant_apps else "public", app, name)
        for app, name in loader.disk_migrations
    )
