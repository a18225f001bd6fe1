"""Which alias a query goes to, and what is migrated where."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from django.conf import settings
from django_tenants.routers import TenantSyncRouter

_as_operator: ContextVar[bool] = ContextVar("as_operator", default=False)
_lent: ContextVar[bool] = ContextVar("lent", default=False)


@contextmanager
def as_operator() -> Iterator[None]:
    """Send every query of the block to the operator's alias, which passes by RLS.

    Only the console, the engine's services and commands may; a web process that was started without
    the operator's URL has no such alias, and cannot.
    """
    if "operator" not in settings.DATABASES:
        raise LookupError("OPERATOR_DATABASE_URL is not set: this process has no operator's alias.")
    token = _as_operator.set(True)
    try:
        yield
    finally:
        _as_operator.reset(token)


@contextmanager
def as_app() -> Iterator[None]:
    """What an operator does by a tenant's own services: as the app role again, under RLS.

    Inside as_operator(), on the console's behalf alone: the audit trail names the operator, which
    the app role by itself may not (tenants.audit).
    """
    lent = _lent.set(is_operator())
    token = _as_operator.set(False)
    try:
        yield
    finally:
        _as_operator.reset(token)
        _lent.reset(lent)


def is_lent() -> bool:
    """Whether the running code is inside as_app(), for an operator."""
    return _lent.get()


def is_operator() -> bool:
    """Whether the running code is inside as_operator()."""
    return _as_operator.get()


class TenantRouter(TenantSyncRouter):  # type: ignore[misc]
    """The app role's alias for everything, unless as_operator(); migrations on `owner` alone."""

    def db_for_read(self, model: Any, **hints: Any) -> str | None:
        return "operator" if _as_operator.get() else None

    db_for_write = db_for_read

    def allow_relation(self, first: Any, second: Any, **hints: Any) -> bool:
        return True  # All aliases are logins to one database.
