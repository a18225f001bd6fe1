"""The connection: before each query it makes the database agree with tenants.context.

One round trip sets search_path and signed context, and only when wanted and applied differ. What is
applied is remembered on the psycopg connection itself, so that pooled connections stay honest.
"""

import select
import time
from typing import Any, NamedTuple

import psycopg
from django.conf import settings
from django.db.utils import DatabaseError
from django_tenants.postgresql_backend import base
from django_tenants.utils import quote_schema_name
from psycopg.pq import TransactionStatus

from tenants.context import NOWHERE, TenantRef, current_tenant
from tenants.errors import UnsafeRole
from tenants.postgres import token
from tenants.postgres.operations import DatabaseOperations

TOKEN_SECONDS = 900
# A context is signed and entered anew after this, long before it expires: code that works on for
# minutes learns that its tenant moved to another home (slipway.home_of).
RENEW_SECONDS = 30
CLOCK_SECONDS = 600  # How long a reading of the database's clock is trusted.


class Applied(NamedTuple):
    """What a connection was last told; `until` is by this machine's monotonic clock."""

    ref: TenantRef | None
    until: float


CLEAN = Applied(None, float("inf"))
UNKNOWN = Applied(TenantRef(-1), 0.0)


class DatabaseWrapper(base.DatabaseWrapper):  # type: ignore[misc]
    """django-tenants' wrapper; the app role's follows tenants.context, not set_tenant()."""

    ops_class = DatabaseOperations
    _role_is_safe = False  # Looked at once a process.
    _clock: tuple[float, float] | None = None  # (database minus monotonic, read at), a process.

    @property
    def follows_context(self) -> bool:
        """Whether this is the app role's connection, which RLS binds."""
        return bool(self.settings_dict.get("SLIPWAY_ROLE") == "app")

    def get_new_connection(self, conn_params: dict[str, Any]) -> psycopg.Connection[Any]:
        connection = super().get_new_connection(conn_params)
        # A restarted server leaves dead connections in the pool; looking costs no round trip.
        while self.pool and _is_dead(connection):
            connection.close()
            self.pool.putconn(connection)
            connection = super().get_new_connection(conn_params)
        if self.follows_context and not DatabaseWrapper._role_is_safe:
            refuse_unsafe_role(connection)
            connection.rollback()  # Looking began a transaction; Django is not to find one.
            DatabaseWrapper._role_is_safe = True
        return connection  # type: ignore[no-any-return]

    def close(self) -> None:
        if self.connection is not None and self.follows_context and self.pool:
            self._leave_clean()
        super().close()

    def close_if_unusable_or_obsolete(self) -> None:
        """Django's, before and after each request, for a connection that its thread keeps."""
        if self.connection is not None and not self.pool:
            if self.follows_context:
                self._leave_clean()
            if _is_dead(self.connection):
                self.close()
        super().close_if_unusable_or_obsolete()

    def rollback(self) -> None:
        self._forget()  # A rolled-back set_config is undone by the server.
        super().rollback()

    def commit(self) -> None:
        # The server answers COMMIT of a failed transaction with ROLLBACK, and says nothing.
        if self._transaction_status() == TransactionStatus.INERROR:
            self._forget()
        super().commit()

    def savepoint_rollback(self, sid: str) -> None:
        try:
            super().savepoint_rollback(sid)
        finally:
            self._forget()

    def _handle_search_path(self, cursor: Any = None) -> None:
        if not self.follows_context:
            super()._handle_search_path(cursor)
            return
        if self._setting_search_path:  # The debug cursor asks for one more cursor while it logs.
            return
        wanted = current_tenant()
        applied: Applied = getattr(self.connection, "slipway_applied", CLEAN)
        if applied.ref == wanted and time.monotonic() < applied.until:
            return
        if self._transaction_status() == TransactionStatus.INERROR:
            return  # Nothing runs before a rollback, which forgets what is applied.
        self._enter(wanted, cursor)

    def _enter(self, wanted: TenantRef | None, cursor: Any = None) -> None:
        self._forget()
        if cursor is None:
            with self.connection.cursor() as own:
                self._enter(wanted, own)
            return
        path = _search_path(wanted)
        context = self._sign(wanted) if wanted else ""
        self._setting_search_path = True
        try:
            cursor.execute("select slipway.enter_tenant(%s, %s)", [path, context])
        finally:
            self._setting_search_path = False
        until = time.monotonic() + RENEW_SECONDS
        self.connection.slipway_applied = Applied(wanted, until) if wanted else CLEAN

    def _sign(self, ref: TenantRef) -> str:
        pid = 0 if settings.DATABASE_PROXIED else self.connection.info.backend_pid
        expires_at = int(self._database_time()) + TOKEN_SECONDS
        return token.sign(settings.CONTEXT_KEY, tenant_id=ref.id, expires_at=expires_at, pid=pid)

    def _database_time(self) -> float:
        """Unix seconds by the database's clock, read once in a while and carried on from there."""
        now = time.monotonic()
        if DatabaseWrapper._clock is None or now - DatabaseWrapper._clock[1] > CLOCK_SECONDS:
            row = self.connection.execute("select extract(epoch from clock_timestamp())").fetchone()
            DatabaseWrapper._clock = (float(row[0]) - now, now)
        return DatabaseWrapper._clock[0] + now

    def _leave_clean(self) -> None:
        """Take the tenant off a connection that goes back to the pool, or waits for a request."""
        try:
            if self._transaction_status() != TransactionStatus.IDLE:
                self.connection.rollback()
                self._forget()
            if getattr(self.connection, "slipway_applied", CLEAN) != CLEAN:
                self._enter(None)
        except (DatabaseError, psycopg.Error):
            self.connection.close()  # The pool throws a closed connection away.

    def _forget(self) -> None:
        if (
            self.connection is not None
            and getattr(self.connection, "slipway_applied", CLEAN) != CLEAN
        ):
            self.connection.slipway_applied = UNKNOWN

    def _transaction_status(self) -> TransactionStatus | None:
        if self.connection is None or self.connection.closed:
            return None
        return TransactionStatus(self.connection.info.transaction_status)


def _search_path(ref: TenantRef | None) -> str:
    if ref is None or ref.schema == NOWHERE:
        return NOWHERE
    return f"{quote_schema_name(ref.schema)}, {NOWHERE}"


def refuse_unsafe_role(connection: psycopg.Connection[Any]) -> None:
    """Stop before the first query when row-level security would not bind this login.

    Raises UnsafeRole.
    """
    row = connection.execute(
        "select current_user, rolsuper, rolbypassrls,"
        " exists (select from pg_class where relowner = r.oid)"
        " from pg_roles r where rolname = current_user"
    ).fetchone()
    name, superuser, bypasses, owns = row or ("", True, True, True)
    if superuser or bypasses or owns:
        connection.close()
        what = "a superuser" if superuser else "free of RLS" if bypasses else "an owner of tables"
        raise UnsafeRole(
            f"DATABASE_URL signs in as {name}, which is {what}. Use the app role, slipway_app."
        )


def _is_dead(connection: psycopg.Connection[Any]) -> bool:
    """Whether the server has hung up: its socket then has something to read, the end."""
    if connection.closed:
        return True
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return bool(poll.poll(0))
