"""What `manage.py tenants` finds and shows."""

from typing import Any

from django.db import connections
from psycopg import sql

from config.ids import format_id
from jobs.registry import queues
from jobs.states import FINISHED
from lifecycle import closing, plans, tables
from lifecycle.models import Export
from tenants.auth import split_reference
from tenants.context import POOL
from tenants.models import Membership, Tenant
from tenants.problems import TenantNotFound
from tenants.serializers import tenant_as_json
from tenants.services import OPERATOR

_COUNT = "select count(*) from {table} where tenant_id = %s"
_OPEN = "select count(*) from {table} where tenant_id = %s and not state = any(%s)"


def tenant_of(reference: str) -> Tenant:
    """By slug, or by id. Raises LookupError."""
    uuid, slug = None, reference
    if reference.startswith("tnt_"):
        uuid, slug = split_reference(reference)  # type: ignore[assignment]
    rows = Tenant.objects.using(OPERATOR)
    rows = rows.filter(uuid=uuid) if uuid else rows.filter(slug=slug)
    found: Tenant | None = rows.first()
    if found is None:
        raise TenantNotFound(f"There is no tenant {reference!r}.")
    return found


def listed(status: str | None, plan: str | None, *, limit: int) -> list[dict[str, Any]]:
    """Tenants, newest first."""
    rows = Tenant.objects.using(OPERATOR).order_by("-id")
    rows = rows.filter(status=status) if status else rows
    rows = rows.filter(plan=plan) if plan else rows
    return list(rows.values("slug", "plan", "home", "status")[:limit])


def shown(tenant: Tenant) -> dict[str, Any]:
    """As the API shows it, and what is under way with it."""
    members = Membership.objects.using(OPERATOR).filter(tenant_id=tenant.pk)
    move = plans.latest(tenant_id=tenant.pk, using=OPERATOR)
    closure = closing.last(tenant.pk, using=OPERATOR)
    exports = Export.objects.using(OPERATOR).filter(tenant_id=tenant.pk).order_by("-id")[:5]
    more: dict[str, Any] = {
        "schema": tenant.search_schema,
        "members": members.count(),
        "open_works": _open_works(tenant.pk),
        "plan_move": f"{move} ({move.phase})" if move else None,
        "exports": [f"{format_id('exp', one.pk)} {one.status}" for one in exports],
        "purge": closure.phase or None if closure and closure.begun_at else None,
    }
    return {**tenant_as_json(tenant), **more}


def rows_of(tenant: Tenant) -> dict[str, int]:
    """Table → how many of its rows are this tenant's; those that have some."""
    schemas = {POOL, tenant.search_schema}
    counts: dict[str, int] = {}
    with connections[OPERATOR].cursor() as cursor:
        for table in tables.found(connections[OPERATOR], schemas=sorted(schemas)):
            cursor.execute(sql.SQL(_COUNT).format(table=table.identifier), [tenant.pk])
            if count := int(cursor.fetchone()[0]):
                counts[table.label] = count
    return counts


def plain(value: Any) -> str:
    """A value on one line, for people."""
    if value is None or value == [] or value == {}:
        return "-"
    if isinstance(value, dict):
        return ", ".join(f"{name} {plain(each)}" for name, each in value.items())
    if isinstance(value, (list, tuple)):
        return (", " if isinstance(value, list) else "/").join(map(plain, value))
    return " ".join(str(value).split())


def _open_works(tenant_id: int) -> dict[str, int]:
    """Queue → how many works are not at their end."""
    finished, counts = list(map(str, FINISHED)), {}
    with connections[OPERATOR].cursor() as cursor:
        for queue in queues().values():
            table = sql.Identifier(queue.table)
            cursor.execute(sql.SQL(_OPEN).format(table=table), [tenant_id, finished])
            if count := int(cursor.fetchone()[0]):
                counts[queue.name] = count
    return counts
