"""One move as its parts know it: from where to where, and in whose hands."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import psycopg
from django.conf import settings
from django.db import OperationalError, connections, transaction
from psycopg import sql

from config.ids import format_id
from jobs.errors import LeaseLost
from jobs.fence import hold
from jobs.states import State
from jobs.steps import Claim
from lifecycle.errors import MoveDelayed, MoveFailed
from lifecycle.models import PlanMove
from tenants.context import POOL
from tenants.models import Tenant
from tenants.schemas import schema_name
from tenants.states import Home

OPERATOR = "operator"
OWNER = "owner"

# In a move's job, as `undoing.state_of_job` finds it: nobody goes on with it.
NOBODYS = frozenset({State.DEAD_LETTER, State.DISCARDED, State.CANCELLED})
_NEWEST_JOB = """
select state from jobs_job where kind = 'tenants.move' and tenant_id = %s and id >= %s
order by id desc limit 1 for share
"""
_NOT_MOVED = """
select from lifecycle_planmove where id = %s and moved_at is null and finished_at is null for share
"""


@dataclass(frozen=True, slots=True)
class Way:
    """A tenant's way from one schema to another. Parts of SQL are named after it."""

    move: PlanMove
    tenant: Tenant | None  # None: it is gone, and what is left of the move is undone.
    claim: Claim | None = None  # None: nobody's job; what was not moved is undone.

    @property
    def tenant_id(self) -> int:
        return cast("int", self.move.tenant_id)

    @property
    def own(self) -> str:
        """The schema that is the tenant's alone."""
        return schema_name(self.tenant_id)

    @property
    def source(self) -> str:
        return POOL if self.move.home_before == Home.POOLED else self.own

    @property
    def target(self) -> str:
        return POOL if self.move.home_after == Home.POOLED else self.own

    @property
    def mark(self) -> str | None:
        """What the tenant's own schema carries, to say whose it is (onboarding.steps.step)."""
        return f"slipway tenant {self.tenant.uuid}" if self.tenant else None

    @property
    def name(self) -> str:
        """How the audit trail names the tenant."""
        return format_id("tnt", self.tenant.uuid) if self.tenant else f"tenant:{self.tenant_id}"

    def old(self, table: str) -> sql.Identifier:
        return sql.Identifier(self.source, table)

    def new(self, table: str) -> sql.Identifier:
        return sql.Identifier(self.target, table)

    def write(self, **columns: Any) -> None:
        """Say how far the move is, in the caller's transaction."""
        rows = PlanMove.objects.using(OPERATOR).filter(pk=self.move.pk, finished_at=None)
        if not rows.update(**columns):
            raise MoveFailed("The move is over.")
        self.move.refresh_from_db(using=OPERATOR)


def option(name: str) -> Any:
    """One of SLIPWAY["MOVES"]."""
    return settings.SLIPWAY["MOVES"][name]


@contextmanager
def fenced(way: Way) -> Iterator[Any]:
    """A transaction of whoever holds the lease; each statement sees what was committed before it.

    Raises LeaseLost.
    """
    with transaction.atomic(using=OPERATOR), connections[OPERATOR].cursor() as cursor:
        fence(way, using=OPERATOR)
        yield cursor


@contextmanager
def snapshot(way: Way) -> Iterator[Any]:
    """As `fenced`, with one look at the world for all that it reads.

    What it copies then fits together: the rows, and the list of those that were written meanwhile.
    """
    with transaction.atomic(using=OPERATOR), connections[OPERATOR].cursor() as cursor:
        cursor.execute("set transaction isolation level repeatable read")
        fence(way, using=OPERATOR)
        yield cursor


def fence(way: Way, *, using: str) -> None:
    """Keep the move in these hands until the transaction on `using` ends; comes first in it.

    With a claim they are those of whoever has its lease. Without one, nobody's: its job is dead,
    was given up or is gone, and cannot be replayed meanwhile; and the tenant has not moved.
    Raises LeaseLost.
    """
    if way.claim is not None:
        hold(way.claim, using=using)
        return
    with connections[using].cursor() as cursor:
        cursor.execute(_NEWEST_JOB, [way.tenant_id, way.move.pk])
        job = cursor.fetchone()
        cursor.execute(_NOT_MOVED, [way.move.pk])
        if (job is not None and job[0] not in NOBODYS) or cursor.fetchone() is None:
            raise LeaseLost


def require_home(cursor: Any, way: Way, home: str) -> None:
    """Hold the tenant in this home until the transaction ends; before anything there is destroyed.

    A mover that was frozen, and goes on when another has done its work, destroys nothing that way.
    Raises MoveFailed.
    """
    cursor.execute("select home from tenants_tenant where id = %s for share", [way.tenant_id])
    row = cursor.fetchone()
    if row is not None and row[0] != home:
        raise MoveFailed(f"The tenant's home is {row[0]}.")


@contextmanager
def briefly() -> Iterator[None]:
    """Whoever cannot have a lock in time lets others pass. Raises MoveDelayed."""
    try:
        yield
    except OperationalError as error:
        if isinstance(error.__cause__, psycopg.errors.LockNotAvailable):
            raise MoveDelayed("Its tables are too busy for a lock.") from error
        raise
