"""The end of a sign-up is an event, and its undoing takes everything of webhooks along."""

from jobs.outcomes import Succeeded
from tenants.context import PLATFORM, PLATFORM_ID, TenantRef, tenant_context
from tests.onboarding import world
from tests.onboarding.test_undo import undo
from tests.webhooks.ears import deliveries_of, listen


def test_tenant_ready_arrives_at_the_tenants_endpoints_and_the_platforms(platform, operator):
    accepted = platform.sign_up()
    tenant_id = world.tenant_id_of(operator, world.request_id_of(accepted))
    mine, platforms = listen(TenantRef(tenant_id)), listen(PLATFORM, "tenant.*")
    world.provision(operator, accepted)
    assert deliveries_of(operator, mine, "e.type, e.tenant_id") == [("tenant.ready", tenant_id)]
    [(type, whose)] = deliveries_of(operator, platforms, "e.type, e.tenant_id")
    assert (type, whose) == ("tenant.ready", PLATFORM_ID)
    told = operator.execute(
        "select data::jsonb ->> 'slug', data::jsonb ->> 'tenant_id' from webhooks_payload p"
        " join webhooks_delivery d on d.event_id = p.event_id and d.tenant_id = p.tenant_id"
        " where d.endpoint_id = any(%s)",
        [[mine.pk, platforms.pk]],
    ).fetchall()
    assert len(told) == 2
    assert len(set(told)) == 1


def test_undoing_leaves_no_endpoint_event_delivery_or_lane(platform, operator):
    accepted = platform.sign_up()
    tenant_id = world.tenant_id_of(operator, world.request_id_of(accepted))
    endpoint = listen(TenantRef(tenant_id))
    operator.execute(
        "insert into jobs_lane (tenant_id, key) values (%s, %s)", [tenant_id, endpoint.lane]
    )
    other = listen(PLATFORM)
    world.provision(operator, accepted)
    found = world.traces(operator, tenant_id)
    for table in ("webhooks_endpoint", "webhooks_event", "webhooks_payload", "webhooks_delivery"):
        assert found[table] == 1
    assert found["jobs_lane"] == 1
    assert undo(operator, tenant_id) == Succeeded()
    assert world.traces(operator, tenant_id) == {}
    # What the platform was told, it was told.
    assert deliveries_of(operator, other) == ["tenant.ready"]
    with tenant_context(PLATFORM):
        assert type(other).objects.filter(pk=other.pk).exists()
