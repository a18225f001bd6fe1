"""What a drainer does to a sign-up, by hand: for tests that stop and start it where they like."""

import time
from uuid import UUID

import psycopg
from psycopg.rows import dict_row

from jobs.steps import Claim
from onboarding.models import PendingOnboarding


def take(
    operator: psycopg.Connection, request_id: UUID, *, discarding: bool = False, seconds: float = 60
) -> Claim:
    """Claim a sign-up, whoever had it: a new lease, which fences the one before."""
    state = "discarding" if discarding else "processing"
    with operator.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute(
            "update onboarding_pendingonboarding set state = %s, attempts = attempts + 1,"
            " lease = nextval('jobs_lease_seq'), drainer = 0 where id = %s"
            " returning *, now() as now",
            [state, request_id],
        ).fetchone()
        home = cursor.execute(
            "select home, schema_name from tenants_tenant where id = %s", [row["tenant_id"]]
        ).fetchone()
    data = {name: row[name] for name in PendingOnboarding.claimed}
    return _claim("onboarding", row, home, data=data, discarding=discarding, seconds=seconds)


def _claim(
    queue: str, row: dict, home: dict | None, *, data: dict, discarding=False, seconds: float = 60
) -> Claim:
    return Claim(
        queue=queue,
        id=row["id"],
        tenant_id=row["tenant_id"],
        schema=_schema(home),
        lane=row["lane"],
        lease=row["lease"],
        attempt=row["attempts"],
        max_attempts=row["max_attempts"],
        forgiven=row["forgiven"],
        losses=0,
        discarding=discarding,
        created_at=row["created_at"],
        started_at=row["now"],
        drainer=0,
        deadline=time.monotonic() + seconds,
        data=data,
    )


def _schema(home: dict | None) -> str:
    if home is None:
        return "public"
    return home["schema_name"] if home["home"] == "dedicated" else "pool"


def settle(operator: psycopg.Connection, claim: Claim, state: str) -> None:
    """Give it back in another state, as the engine does with an outcome."""
    operator.execute(
        "update onboarding_pendingonboarding set state = %s, lease = null, drainer = null,"
        " finished_at = case when %s in ('succeeded', 'discarded') then now() end"
        " where id = %s and lease = %s",
        [state, state, claim.id, claim.lease],
    )


def settle_job(operator: psycopg.Connection, claim: Claim, state: str) -> None:
    """As `settle`, for a job."""
    operator.execute(
        "update jobs_job set state = %s, lease = null, drainer = null, finished_at = now()"
        " where id = %s and lease = %s",
        [state, claim.id, claim.lease],
    )


def take_job(operator: psycopg.Connection, tenant_id: int, kind: str) -> Claim:
    """Claim a tenant's job, whenever it is due."""
    with operator.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute(
            "update jobs_job set state = 'processing', attempts = attempts + 1, drainer = 0,"
            " lease = nextval('jobs_lease_seq') where tenant_id = %s and kind = %s"
            " returning *, now() as now",
            [tenant_id, kind],
        ).fetchone()
        home = cursor.execute(
            "select home, schema_name from tenants_tenant where id = %s", [tenant_id]
        ).fetchone()
    return _claim("jobs", row, home, data={"kind": row["kind"], "args": row["args"]})
