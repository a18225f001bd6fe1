"""The purge of a tenant whose days of grace are over: the job `tenants.close`.

What it deletes it finds in the world, not in a list: tables in the database's catalogue, files
below the tenant's prefix, its schema. It goes through its phases in small transactions, each of
which can be done again: where it is killed, and how often, makes no difference, since every try
goes through all of them and looks for what is left.

What stays: the audit trail, which holds ids; the Closure; the tenant's own row, scrubbed; and its
address, which nobody else gets before SLIPWAY["CLOSING"]["quarantine"] (lifecycle.quarantine). What
the platform was told by events is the platform's.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from django.db import connections, transaction
from django.db.models import F
from django.db.models.functions import Now
from django.utils import timezone
from psycopg import sql

from config.ids import format_id
from jobs.fence import hold
from jobs.outcomes import Fail, Outcome, Retry, Snooze, Succeeded
from jobs.registry import queues
from jobs.retry import RetryPolicy
from jobs.states import FINISHED
from jobs.steps import Claim
from lifecycle import tables
from lifecycle.closing import tell
from lifecycle.errors import MoveDelayed
from lifecycle.models import Closure
from lifecycle.moving import undoing
from lifecycle.tables import Table
from onboarding import files, ledger, steps
from onboarding.errors import NotOurs
from onboarding.models import PendingOnboarding
from onboarding.steps.schema import mark_of
from tenants import audit, hosts, schemas
from tenants.context import PLATFORM, POOL, tenant_context
from tenants.models import Domain, Membership, Tenant, User
from tenants.services import ClockTimestamp
from tenants.states import Home, TenantStatus

ACTOR = "system:closing"
OPERATOR = "operator"
POLICY = RetryPolicy(attempts=20, base=10.0, cap=3600.0)
# Seconds between the end of the grace and the purge: longer than a process remembers that the
# tenant was open (`close --now`), and than a statement of the app role takes.
SETTLING = 15.0
BUSY = 2.0  # Seconds until it is looked again whether the tenant's last works have ended.
SPARE = 30.0  # Seconds before the deadline in which nothing more is begun.
AT_ONCE = 1000  # Rows in one transaction.
FILES_AT_ONCE = 100  # Files between two looks at the clock.
KEPT = frozenset({"tenants_auditentry", "lifecycle_closure", "tenants_domain"})
WITH_PEOPLE = "tenants_membership"  # Goes last, with those who were in this tenant alone.

_CHUNK = """
delete from {table} where ctid = any(array(
  select ctid from {table} where tenant_id = %s limit %s))
"""
# In another partition another row has the same ctid.
_CHUNK_OF_PARTITIONS = """
delete from {table} where ({key}) in (
  select {key} from {table} where tenant_id = %s limit %s)
"""
_ANY = "select exists (select from {table} where tenant_id = %s)"
_OPEN = "select count(*) from {table} where tenant_id = %s and not state = any(%s)"
_BUSY = "select exists (select from {table} where tenant_id = %s and lease is not null)"


class NotNow(Exception):
    """The rest is for another try, in so many seconds."""

    def __init__(self, why: str, after: float = 0.0) -> None:
        super().__init__(why)
        self.after = after


class NotUndone(Exception):
    """A step of the project's own could not unmake what it made; it is asked again."""


@dataclass(frozen=True, slots=True)
class Purge:
    """One try: who is purged, and the writes that its lease fences."""

    claim: Claim
    closure: UUID
    tenant: Tenant

    def write(self, act: Callable[[], Mapping[str, int]]) -> int:
        """Delete some, in one transaction with the counts of all that were; how many it was.

        Raises NotNow when the time is up, LeaseLost.
        """
        self.look_at_clock()
        with transaction.atomic(using=OPERATOR):
            hold(self.claim, using=OPERATOR)
            counts = act()
            if any(counts.values()):
                self.note(**{name: F(name) + count for name, count in counts.items()})
        return sum(counts.values())

    def hold(self) -> None:
        """Before what is no row is deleted. Raises NotNow when the time is up, LeaseLost."""
        self.look_at_clock()
        with transaction.atomic(using=OPERATOR):
            hold(self.claim, using=OPERATOR)

    def note(self, **columns: object) -> None:
        """Write to the closing's row how far it is."""
        Closure.objects.using(OPERATOR).filter(pk=self.closure).update(**columns)

    def look_at_clock(self) -> None:
        """Raises NotNow when the time of this try is up."""
        if time.monotonic() > self.claim.deadline - SPARE:
            raise NotNow("purged so far; the rest follows")


def run(claim: Claim) -> Outcome:
    """The job `tenants.close`."""
    rows = Closure.objects.using(OPERATOR)
    closure = rows.filter(pk=UUID(claim.data["args"]["closure"]), finished_at=None).first()
    if closure is None:
        return Succeeded()
    tenant = Tenant.objects.using(OPERATOR).filter(pk=closure.tenant_id).first()
    if tenant is None or (tenant.status, tenant.closes_at) != (
        TenantStatus.CLOSING,
        closure.closes_at,
    ):
        return Succeeded()  # It was reopened, or closed anew.
    left = closure.closes_at + timedelta(seconds=SETTLING) - timezone.now()
    if left > timedelta():
        return Snooze(left.total_seconds(), "its grace is not over")
    try:
        _purge(Purge(claim, closure.pk, tenant))
    except NotNow as why:
        return Snooze(why.after, str(why))
    except NotUndone as error:
        return Retry(str(error))
    except NotOurs as error:
        return Fail(str(error))
    return Succeeded()


def _purge(purge: Purge) -> None:
    _begin(purge)
    for name, phase in PHASES.items():
        purge.look_at_clock()
        purge.note(phase=name)
        phase(purge)


def _begin(purge: Purge) -> None:
    """From here on nobody can reopen it: the database's clock says that its grace is over."""
    with transaction.atomic(using=OPERATOR):
        hold(purge.claim, using=OPERATOR)
        rows = Tenant.objects.using(OPERATOR).select_for_update()
        if not rows.filter(pk=purge.tenant.pk, closes_at__lte=ClockTimestamp()).exists():
            raise NotNow("its grace is not over", 1.0)
        Closure.objects.using(OPERATOR).filter(pk=purge.closure, begun_at=None).update(
            begun_at=Now()
        )


# ---- The phases, in their order ----


def _cancel_works(purge: Purge) -> None:
    """Count what was still to be done, and note that it is withdrawn; it goes with the rows.

    Nothing of it was claimed since the tenant was closed. What was under way then must have ended.
    """
    counts = {}
    with transaction.atomic(using=OPERATOR), connections[OPERATOR].cursor() as cursor:
        hold(purge.claim, using=OPERATOR)
        for queue in queues().values():
            table = sql.Identifier(queue.table)
            cursor.execute(sql.SQL(_BUSY).format(table=table), [purge.tenant.pk])
            if cursor.fetchone()[0]:
                raise NotNow(f"{queue.name} are under way", BUSY)
            cursor.execute(
                sql.SQL(_OPEN).format(table=table), [purge.tenant.pk, list(map(str, FINISHED))]
            )
            counts[queue.name] = int(cursor.fetchone()[0])
        rows = Closure.objects.using(OPERATOR).filter(pk=purge.closure, works__isnull=True)
        counts = {name: count for name, count in counts.items() if count}
        if rows.update(works=counts) and counts:
            _record(purge, "tenant.works_cancelled", {"works": counts})


def _end_move(purge: Purge) -> None:
    """No trigger of a move that was under way refuses what is deleted."""
    try:
        undoing.end(tenant_id=purge.tenant.pk)
    except MoveDelayed as delay:
        raise NotNow(str(delay), BUSY) from delay


def _undo_own_steps(purge: Purge) -> None:
    """Have the project's own provisioning steps unmake what they made, the last one first."""
    with tenant_context(purge.tenant.ref):
        row = PendingOnboarding.objects.filter(tenant_id=purge.tenant.pk).first()
        if row is None:
            return
        ctx = steps.context_for(row)
        recorded = ledger.recorded(purge.tenant.pk)
        for step in reversed(steps.own_steps()):
            purge.look_at_clock()
            if not step.applies_to(ctx):
                continue
            try:
                with nullcontext() if step.outside else transaction.atomic():
                    step.undo(ctx, recorded.get(step.name))
            except Exception as error:
                raise NotUndone(f"undo {steps.describe(step, error, ctx)}") from None


def _remove_files(purge: Purge) -> None:
    prefix = files.prefix_of(purge.tenant.pk)
    files.refuse_unless_ours(prefix, _mark(purge.tenant))
    names = list(files.below(prefix))
    for start in range(0, len(names), FILES_AT_ONCE):
        some = names[start : start + FILES_AT_ONCE]
        purge.hold()
        for name in some:  # In no transaction: storage may take its time.
            files.storage().delete(name)
        purge.note(files=F("files") + len(some))


def _drop_schema(purge: Purge) -> None:
    """Whatever its home is now: a move back may have left one."""
    schema = purge.tenant.schema_name
    if mark_of(schema) not in {None, _mark(purge.tenant)}:
        raise NotOurs(f"schema {schema} carries another owner's mark")
    schemas.drop_schema(schema)


def _delete_rows(purge: Purge) -> None:
    connection = connections[OPERATOR]
    for table in tables.children_first(connection, _tables()):
        if table.name == WITH_PEOPLE:
            continue
        purge.note(phase=table.label)
        while purge.write(lambda table=table: {"rows": _delete(table, purge.tenant.pk)}):  # type: ignore[misc]
            pass


def _delete_people(purge: Purge) -> None:
    """The memberships; and whoever belongs to nobody else, and is no operator."""
    mine = Membership.objects.using(OPERATOR).filter(tenant_id=purge.tenant.pk)

    def delete() -> dict[str, int]:
        some = dict(mine.order_by("id").values_list("pk", "user_id")[:AT_ONCE])
        mine.filter(pk__in=some).delete()
        people = User.objects.using(OPERATOR).filter(
            pk__in=some.values(), is_staff=False, is_superuser=False, memberships=None
        )
        alone = len(people)
        people.delete()
        return {"rows": len(some), "people": alone}

    while purge.write(delete):
        pass


def _end(purge: Purge) -> None:
    """Nothing is left: the tenant is closed. Raises NotNow where something came meanwhile."""
    left = [table.label for table in _tables() if _any_left(table, purge.tenant.pk)]
    if left:
        raise NotNow(f"there are new rows in {', '.join(left)}"[:500], 1.0)
    if schemas.exists(purge.tenant.schema_name):
        raise NotNow("its schema is there again", 1.0)
    with transaction.atomic(using=OPERATOR):
        hold(purge.claim, using=OPERATOR)
        rows = Tenant.objects.using(OPERATOR).filter(
            pk=purge.tenant.pk, status=TenantStatus.CLOSING, closes_at=purge.tenant.closes_at
        )
        if not rows.update(
            status=TenantStatus.CLOSED,
            home=Home.POOLED,
            name="",
            external_id="",
            metadata={},
            currency="",
            limits={},
            closed_at=Now(),
        ):
            return
        purge.note(phase="", finished_at=Now())
        done = Closure.objects.using(OPERATOR).get(pk=purge.closure)
        counts = {"rows": done.rows, "files": done.files, "people": done.people}
        _record(purge, "tenant.closed", {"status": TenantStatus.CLOSED, **counts})
        with tenant_context(PLATFORM):
            tell(purge.tenant, "tenant.closed", {}, key=purge.closure, using=OPERATOR)
    domains = Domain.objects.using(OPERATOR).filter(tenant_id=purge.tenant.pk)
    hosts.forget(list(domains.values_list("domain", flat=True)))


PHASES: Mapping[str, Callable[[Purge], None]] = {
    "works": _cancel_works,
    "move": _end_move,
    "steps": _undo_own_steps,
    "files": _remove_files,
    "schema": _drop_schema,
    "rows": _delete_rows,
    "people": _delete_people,
    "end": _end,
}


def _tables() -> list[Table]:
    """Where rows of tenants lie, but for what is kept: in the pool too, wherever this one lived."""
    found = tables.found(connections[OPERATOR], schemas=[POOL])
    return [each for each in found if each.name not in KEPT]


def _delete(table: Table, tenant_id: int) -> int:
    with connections[OPERATOR].cursor() as cursor:
        chunk = _CHUNK_OF_PARTITIONS if table.is_partitioned else _CHUNK
        key = sql.SQL(", ").join(map(sql.Identifier, table.key))
        statement = sql.SQL(chunk).format(table=table.identifier, key=key)
        cursor.execute(statement, [tenant_id, AT_ONCE])
        return int(cursor.rowcount)


def _any_left(table: Table, tenant_id: int) -> bool:
    with connections[OPERATOR].cursor() as cursor:
        cursor.execute(sql.SQL(_ANY).format(table=table.identifier), [tenant_id])
        return bool(cursor.fetchone()[0])


def _mark(tenant: Tenant) -> str:
    """What onboarding's steps left on the things that they made (onboarding.steps.step.Context)."""
    return f"slipway tenant {tenant.uuid}"


def _record(purge: Purge, action: str, after: Mapping[str, object]) -> None:
    audit.record(
        actor=ACTOR,
        action=action,
        target=format_id("tnt", purge.tenant.uuid),
        tenant_id=purge.tenant.pk,
        reason=Closure.objects.using(OPERATOR)
        .values_list("reason", flat=True)
        .get(pk=purge.closure),
        after=after,
        using=OPERATOR,
    )
