"""Closing a tenant: its days of grace, in which it may be reopened, and then its purge.

From the first moment its pages and keys answer 410 and its work waits (jobs.engine.sql.HELD), as
when it is suspended. A job of the platform's comes when the grace is over (lifecycle.purging); what
was reopened meanwhile (tenants.services.reopen), it leaves alone.
"""

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid5

from django.conf import settings
from django.db import connections, transaction
from django.template.loader import render_to_string

from config.ids import format_id, uuid7
from jobs.services import enqueue
from lifecycle.errors import PlanChanging, TenantGone
from lifecycle.models import Closure, PlanMove
from tenants import audit, hosts, problems, services
from tenants.context import NOWHERE, PLATFORM, PLATFORM_ID, TenantRef, tenant_context
from tenants.models import Membership, Tenant
from tenants.services import OPERATOR, Door
from tenants.states import TenantStatus
from webhooks.services import publish

KIND = "tenants.close"
# The app role may not name the columns that it may not write: Django would name all.
_INSERT = """
insert into lifecycle_closure (id, tenant_id, actor, reason, closes_at) values (%s, %s, %s, %s, %s)
"""


def close(*, tenant_id: int, actor: str, reason: str, door: Door | None = None) -> bool:
    """Close a tenant that is open or suspended, with SLIPWAY["CLOSING"]["grace"] days of grace.

    Says whether it changed anything: one that is closing goes on as it is. Its owners are told by
    mail, the platform's endpoints by `tenant.closing`.
    Raises TenantNotFound, TenantGone, StaleState while it is being made, or undone, and
    PlanChanging.
    """
    grace = timedelta(days=float(settings.SLIPWAY["CLOSING"]["grace"]))
    return _close(tenant_id, grace, actor=actor, reason=reason, door=door or Door())


def close_now(*, tenant_id: int, actor: str, reason: str) -> bool:
    """As `close`, without grace, and of one in its grace too: it is purged as soon as can be.

    Nothing brings it back. The operator's alone; nobody is mailed that it could be reopened.
    """
    door = Door()
    with tenant_context(TenantRef(tenant_id, NOWHERE)), transaction.atomic(using=OPERATOR):
        rows = Tenant.objects.using(OPERATOR).filter(
            pk=tenant_id, status=TenantStatus.CLOSING, closes_at__gt=services.ClockTimestamp()
        )
        if rows.update(closes_at=services.ClockTimestamp()):
            tenant = Tenant.objects.using(OPERATOR).get(pk=tenant_id)
            _note(tenant, actor=actor, reason=reason, using=OPERATOR, before=TenantStatus.CLOSING)
            return True
    return _close(tenant_id, timedelta(), actor=actor, reason=reason, door=door)


def last(tenant_id: int, *, using: str) -> Closure | None:
    """The tenant's last closing, past or not."""
    rows = Closure.objects.using(using).filter(tenant_id=tenant_id)
    return rows.order_by("-id").first()


def _close(tenant_id: int, grace: timedelta, *, actor: str, reason: str, door: Door) -> bool:
    alias = door.alias
    with tenant_context(TenantRef(tenant_id, NOWHERE)), transaction.atomic(using=alias):
        rows = Tenant.objects.using(alias).filter(pk=tenant_id)
        before = rows.values_list("status", flat=True).first()
        if before is None:
            raise problems.TenantNotFound
        if door.close(tenant_id, grace=grace) is None:
            _refuse_unless_closing(rows.first())
            return False
        tenant = rows.get()
        if PlanMove.objects.using(alias).filter(tenant_id=tenant_id, finished_at=None).exists():
            raise PlanChanging("It moves to another home; close it when it has arrived.")
        _note(tenant, actor=actor, reason=reason, using=alias, before=before)
        if grace:
            _mail(tenant, using=alias)
    services.forget(tenant_id, door=door)
    return True


def _refuse_unless_closing(tenant: Tenant | None) -> None:
    if tenant is None:
        raise problems.TenantNotFound
    if tenant.status == TenantStatus.CLOSED:
        raise TenantGone
    if tenant.status != TenantStatus.CLOSING or tenant.closes_at is None:
        raise problems.StaleState(f"It is {tenant.status}.")


def _note(tenant: Tenant, *, actor: str, reason: str, using: str, before: str) -> None:
    """Who closed it and until when it may be reopened; the purge, which is due then; the event."""
    assert tenant.closes_at is not None  # noqa: S101 - it was set just now.
    made = uuid7()
    with connections[using].cursor() as cursor:
        cursor.execute(_INSERT, [made, tenant.pk, actor, reason, tenant.closes_at])
    ends_at = _stamp(tenant.closes_at)
    audit.record(
        actor=actor,
        action="tenant.closing",
        target=format_id("tnt", tenant.uuid),
        tenant_id=tenant.pk,
        reason=reason,
        before={"status": before},
        after={"status": TenantStatus.CLOSING, "closes_at": ends_at},
        using=using,
    )
    with tenant_context(PLATFORM):
        enqueue(
            KIND,
            tenant_id=PLATFORM_ID,
            args={"closure": str(made)},
            lane="closing",
            due_at=tenant.closes_at,
            once=made,
            using=using,
        )
        tell(tenant, "tenant.closing", {"closes_at": ends_at}, key=made, using=using)


def tell(tenant: Tenant, type: str, said: dict[str, object], *, key: UUID, using: str) -> None:
    """Publish to the platform's endpoints alone, in the platform's context: the tenant's own wait.

    The slug is not told: the event outlives the tenant.
    """
    publish(
        tenant_id=PLATFORM_ID,
        type=type,
        payload={
            "tenant_id": format_id("tnt", tenant.uuid),
            "external_id": tenant.external_id or None,
            **said,
        },
        idempotency_key=f"{type}:{key}",
        using=using,
    )


def _mail(tenant: Tenant, *, using: str) -> None:
    """One mail to each owner. The job is the platform's: the tenant's own wait."""
    assert tenant.closes_at is not None  # noqa: S101 - it was set just now.
    words = {
        "tenant_name": tenant.name,
        "tenant_url": hosts.tenant_url(tenant.slug),
        "closes_at": tenant.closes_at,
    }
    subject = render_to_string("lifecycle/closing_subject.txt", words)
    text = render_to_string("lifecycle/closing.txt", words)
    owners = Membership.objects.using(using).filter(
        tenant_id=tenant.pk, role=Membership.Role.OWNER, accepted_at__isnull=False
    )
    for user_id, address in list(owners.values_list("user_id", "user__email")):
        args = {
            "to": [address],
            "subject": " ".join(subject.split()),
            "text": text,
            "headers": {"Auto-Submitted": "auto-generated"},  # RFC 3834: no holiday replies.
        }
        once = uuid5(tenant.uuid, f"closing {_stamp(tenant.closes_at)} {user_id}")
        with tenant_context(PLATFORM):
            enqueue("mail.send", tenant_id=PLATFORM_ID, args=args, once=once, using=using)


def _stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat()
