"""What a provisioning step is: observe, apply, record; and undo.

A step is told everything in its Context and names what it makes from the request id, so that a step
run twice makes one thing. It never writes the sign-up's state.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID, uuid5

from django.conf import settings

from jobs.outcomes import Fail, Retry, Snooze
from onboarding.ledger import Resource
from tenants.context import POOL, TenantRef
from tenants.schemas import schema_name
from tenants.states import Home


def tenant_uuid(root: UUID) -> UUID:
    """The public id of the tenant that a sign-up makes."""
    return uuid5(root, "tenant")


@dataclass(frozen=True, slots=True)
class Context:
    """All that a step may know, read once: steps on the world then need no connection."""

    root: UUID  # The request id: what every name is made from.
    tenant_id: int
    tenant_uuid: UUID
    slug: str
    tenant_name: str
    email: str = field(repr=False)
    plan: str
    home: str
    external_id: str
    metadata: Mapping[str, Any] = field(repr=False)
    locale: str
    time_zone: str
    caller: str
    created_at: datetime

    def named(self, step: str) -> UUID:
        """The id of what a step makes: the same each time it is run."""
        return uuid5(self.root, step)

    @property
    def schema(self) -> str:
        """The schema that this tenant has, or would have, of its own."""
        return schema_name(self.tenant_id)

    @property
    def ref(self) -> TenantRef:
        """The tenant with the home that it will have; before its step `schema` it is nowhere."""
        return TenantRef(self.tenant_id, POOL if self.home == Home.POOLED else self.schema)

    @property
    def host(self) -> str:
        return f"{self.slug}.{settings.TENANT_DOMAIN}"

    @property
    def mark(self) -> str:
        """What things that bear the tenant's number carry, to say whose they are."""
        return f"slipway tenant {self.tenant_uuid}"


NotYet = Retry | Fail | Snooze


class Step(ABC):
    """One thing that a tenant needs.

    `observe` looks at the world, not at the ledger: after a kill it finds what the ledger missed.
    `apply` may be run after it was killed anywhere. `undo` finds nothing to do where nothing is.
    Each raises on failure, and is tried again; `apply` may also say NotYet.
    """

    name: str
    # Whether it talks to anything but our tables. If so it runs with no transaction and no
    # connection; if not, it runs in the transaction that records it.
    outside: bool = False
    # Whether `observe` can see it; some things can only be done again.
    observable: bool = True

    def applies_to(self, ctx: Context) -> bool:
        """Whether this tenant needs it at all."""
        return True

    @abstractmethod
    def observe(self, ctx: Context) -> Resource | None:
        """What is there already; None when it is not, or only half."""

    @abstractmethod
    def apply(self, ctx: Context) -> Resource | NotYet:
        """Make it."""

    def after_commit(self, ctx: Context) -> None:  # noqa: B027 - most steps tell nobody.
        """What may be told once the step is recorded; lost when it is killed just then."""

    @abstractmethod
    def undo(self, ctx: Context, recorded: Resource | None) -> None:
        """Unmake it, whether or not the ledger knew of it."""

    def after_undo(self, ctx: Context) -> None:  # noqa: B027 - as above.
        """What may be told once the step is undone, and no transaction is open any more."""
