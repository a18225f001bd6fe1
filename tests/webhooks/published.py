"""What publishing wrote, as it really is there, and by how many statements."""

from django.db import connection
from django.test.utils import CaptureQueriesContext

from config.ids import format_id
from tenants.context import PLATFORM_ID


def events_of(operator, tenant) -> list[tuple]:
    return operator.execute(
        "select type, data::jsonb, idempotency_key from webhooks_event e"
        " join webhooks_payload p on p.event_id = e.id where e.tenant_id = %s",
        [tenant.pk],
    ).fetchall()


def events_and_deliveries(operator, tenant) -> tuple[int, int, int]:
    return operator.execute(
        "select (select count(*) from webhooks_event where tenant_id = %(t)s),"
        " (select count(*) from webhooks_payload where tenant_id = %(t)s),"
        " (select count(*) from webhooks_delivery where tenant_id = %(t)s)",
        {"t": tenant.pk},
    ).fetchone()


def told_to_the_platform(operator, tenant) -> list[tuple]:
    """The platform's events that are about this tenant."""
    return operator.execute(
        "select type, data::jsonb from webhooks_event e"
        " join webhooks_payload p on p.event_id = e.id and p.tenant_id = e.tenant_id"
        " where e.tenant_id = %s and data::jsonb ->> 'tenant_id' = %s order by e.id",
        [PLATFORM_ID, format_id("tnt", tenant.uuid)],
    ).fetchall()


def asked() -> CaptureQueriesContext:
    return CaptureQueriesContext(connection)


def statements(captured) -> list[str]:
    return [query["sql"] for query in captured if "enter_tenant" not in query["sql"]]
