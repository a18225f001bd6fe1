"""What is the platform's business is told to its endpoints too, and nothing else is."""

import pytest
from django.db import ProgrammingError, connection, transaction

from config.ids import format_id
from tenants.context import PLATFORM, PLATFORM_ID, tenant_context
from tests.webhooks.ears import deliveries_of, listen, publish_in
from tests.webhooks.published import asked, statements, told_to_the_platform
from webhooks import catalogue
from webhooks.models import Event
from webhooks.services import NewEvent, publish, publish_many


def test_the_platform_hears_what_is_its_business_and_the_tenant_too(tenant, operator):
    mine = listen(tenant.ref)
    platforms = listen(PLATFORM, "tenant.*", "endpoint.disabled", ordered=True)
    deaf = listen(PLATFORM, "delivery.*")
    publish_in(tenant, type="tenant.ready", payload={"plan": "free"})
    publish_in(tenant, type="endpoint.disabled", payload={"tenant_id": "tnt_another"})
    publish_in(tenant, type="a.b")
    assert deliveries_of(operator, mine) == ["tenant.ready", "endpoint.disabled", "a.b"]
    whose = format_id("tnt", tenant.uuid)
    assert told_to_the_platform(operator, tenant) == [
        ("tenant.ready", {"plan": "free", "tenant_id": whose}),
        ("endpoint.disabled", {"tenant_id": whose}),  # Whatever it said it was.
    ]
    told = deliveries_of(operator, platforms, "e.type, d.seq, d.state, d.tenant_id, d.lane")
    lane = f"endpoint:{platforms.pk}"
    assert told == [
        ("tenant.ready", 1, "pending", PLATFORM_ID, lane),
        ("endpoint.disabled", 2, "pending", PLATFORM_ID, lane),
    ]
    assert deliveries_of(operator, deaf) == []


def test_a_repeated_event_is_told_to_the_platform_once(tenant, operator):
    for _ in range(2):
        publish_in(tenant, type="tenant.ready", idempotency_key="ready")
    assert len(told_to_the_platform(operator, tenant)) == 1


def test_many_are_told_to_the_platform_in_one_statement_a_chunk(tenant, operator):
    platforms = listen(PLATFORM, ordered=True)
    events = [NewEvent("tenant.ready", {"n": n}) for n in range(50)]
    with tenant_context(tenant.ref), transaction.atomic(), asked() as captured:
        publish_many(tenant_id=tenant.pk, events=events)
    assert len(statements(captured)) == 2
    assert deliveries_of(operator, platforms, "d.seq") == list(range(1, 51))


def test_the_platforms_own_events_are_told_it_once(operator):
    platforms = listen(PLATFORM, "endpoint.disabled")
    with tenant_context(PLATFORM), transaction.atomic():
        publish(tenant_id=PLATFORM_ID, type="endpoint.disabled", payload={})
    assert deliveries_of(operator, platforms) == ["endpoint.disabled"]


def test_a_project_adds_types_that_the_platform_hears(tenant, operator, settings):
    settings.SLIPWAY = settings.SLIPWAY | {"PLATFORM_EVENTS": ["tenant.upgraded"]}
    publish_in(tenant, type="tenant.upgraded")
    assert [type for type, _ in told_to_the_platform(operator, tenant)] == ["tenant.upgraded"]


TELL = """
select slipway.tell_platform(
  array[gen_random_uuid()], array[%s], array['{}'::jsonb], '019a0000-0000-7', 1)
"""


def tell(ref, type: str) -> int:
    with tenant_context(ref), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(TELL, [type])
        return cursor.fetchone()[0]


@pytest.mark.other_guard
@pytest.mark.parametrize("type", ["invoice.paid", "x", "tenant.ready.x", "tenantx.ready", "a\n"])
def test_injected_sql_tells_the_platform_nothing_else(tenant, operator, type):
    listen(PLATFORM)
    with pytest.raises(ProgrammingError, match="hears of its own"):
        tell(tenant.ref, type)
    assert told_to_the_platform(operator, tenant) == []
    assert tell(tenant.ref, "tenant.ready") >= 1  # The control.


@pytest.mark.other_guard
def test_nobody_tells_the_platform_of_nobody(app_connection):
    with pytest.raises(Exception, match="Only what happens to a tenant"):
        app_connection.execute(TELL, ["tenant.ready"])


@pytest.mark.other_guard
def test_injected_sql_writes_no_event_of_the_platforms(tenant, operator):
    with tenant_context(tenant.ref):
        assert not Event.objects.filter(tenant_id=PLATFORM_ID).exists()
        with pytest.raises(ProgrammingError, match="row-level security"), transaction.atomic():
            Event.objects.create(tenant_id=PLATFORM_ID, type="tenant.ready")


def test_every_type_that_the_platform_hears_passes_the_database(tenant):
    for type in catalogue.platform_events():
        tell(tenant.ref, type)
