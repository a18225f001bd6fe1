"""Which tenant the running code works for.

A ContextVar, so that it follows the code through async tasks and threads that copy their context,
and never leaks from one request to the next. The database backend reads it before each query.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple, Protocol

from tenants.errors import NoTenant

POOL = "pool"  # The schema that pooled tenants share.
NOWHERE = "public"  # The schema of a tenant that has no home yet.


class TenantRef(NamedTuple):
    """All that the database needs to know of a tenant: its number, and the schema it lives in."""

    id: int
    schema: str = POOL


# The platform owns endpoints, events and deliveries as a tenant does. It has no row among the
# tenants; its number is the last that a bigint holds, which no sequence reaches.
PLATFORM_ID = 2**63 - 1
PLATFORM = TenantRef(PLATFORM_ID, NOWHERE)


class HasRef(Protocol):
    """What knows its own TenantRef: the model Tenant."""

    @property
    def ref(self) -> TenantRef: ...


_current: ContextVar[TenantRef | None] = ContextVar("tenant", default=None)


def current_tenant() -> TenantRef | None:
    """The tenant that the code works for now, None when it works for nobody."""
    return _current.get()


def current_tenant_id() -> int | None:
    """The number of the current tenant: the default of every tenant table's tenant_id."""
    ref = _current.get()
    return ref.id if ref else None


def require_tenant() -> TenantRef:
    """The current tenant.

    Raises NoTenant when the code works for nobody.
    """
    ref = _current.get()
    if ref is None:
        raise NoTenant
    return ref


@contextmanager
def tenant_context(tenant: TenantRef | HasRef) -> Iterator[TenantRef]:
    """Work for `tenant` inside the block; the former tenant, or none, is back after it."""
    ref = tenant if isinstance(tenant, TenantRef) else tenant.ref
    token = _current.set(ref)
    try:
        yield ref
    finally:
        _current.reset(token)


@contextmanager
def no_tenant() -> Iterator[None]:
    """Work for nobody inside the block."""
    token = _current.set(None)
    try:
        yield
    finally:
        _current.reset(token)
