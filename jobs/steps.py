"""What a step is: it does the work's I/O, returns an outcome and writes no state of the work."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from jobs.outcomes import Fail, Outcome
from tenants.context import TenantRef


@dataclass(frozen=True, slots=True)
class Claim:
    """One work in the hands of one drainer: what a step is given.

    `lease` fences every write (jobs.fence); `attempt` counts from 1 and never repeats for a work;
    `deadline` is by time.monotonic(); `destination` is the column that Work.destination names.
    `data` holds the model's `claimed` columns, and what it has `carried` with them.
    """

    queue: str
    id: UUID
    tenant_id: int
    schema: str  # "public" while the tenant has no row yet.
    lane: str
    lease: int
    attempt: int
    max_attempts: int  # As it was said; the policy that is in force decides.
    forgiven: int  # Of the attempts, those that no policy counts.
    losses: int
    discarding: bool  # Undo it, instead of doing it.
    created_at: datetime
    started_at: datetime  # By the database's clock.
    drainer: int
    deadline: float
    throttled_since: datetime | None = None  # The first 429 since it was made or replayed.
    destination: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def tenant(self) -> TenantRef:
        return TenantRef(self.tenant_id, self.schema)


# Async steps run on the drainer's loop and must not block it; the others run on a thread.
Step = Callable[[Claim], Outcome] | Callable[[Claim], Awaitable[Outcome]]


async def run(claim: Claim) -> Outcome:
    """The step of queue `jobs`: that of the job's kind."""
    from jobs.engine.calling import call
    from jobs.registry import kinds

    kind = kinds().get(claim.data["kind"])
    if kind is None:
        # Its code may come back with the next deployment: an operator replays it then.
        return Fail(f"unknown kind {claim.data['kind']!r}")
    return await call(kind.step, claim)
