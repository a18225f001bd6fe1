"""The fence for what steps write themselves: nothing by a drainer that lost the work.

    with transaction.atomic():
        hold(claim)
        …  # The step's own writes.

A written-off or thawed step may go on running while somebody else does its work again.
"""

from uuid import UUID

from django.db import DEFAULT_DB_ALIAS, connections

from jobs.errors import LeaseLost
from jobs.registry import queue
from jobs.steps import Claim

# Operator and owner are in no tenant's context: they name the tenant themselves.
_AS_OPERATOR = """
select exists (
  select 1 from {table} w where w.id = %s and w.lease = %s and w.tenant_id = %s
    and w.state in ('processing', 'discarding') for share)
"""


def hold(claim: Claim, *, using: str = DEFAULT_DB_ALIAS) -> None:
    """Lock the claimed work in the current transaction, which rescue then waits for.

    Comes first in the transaction (lock order: drainer, work, lane, business row).
    Raises LeaseLost when the claim no longer holds it.
    """
    if not connections[using].in_atomic_block:
        raise RuntimeError("hold() fences one transaction; open it first.")
    table = queue(claim.queue).table
    statement = f"select slipway.hold_{table}(%s, %s)"
    values: list[UUID | int] = [claim.id, claim.lease]
    if using != DEFAULT_DB_ALIAS:
        statement = _AS_OPERATOR.format(table=table)
        values.append(claim.tenant_id)
    with connections[using].cursor() as cursor:
        cursor.execute(statement, values)
        row = cursor.fetchone()
    if not row or not row[0]:
        raise LeaseLost
