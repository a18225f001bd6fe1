"""webhooks.services.publish: an event stands or falls with the deed that it tells of."""

import pytest
from django.db import ProgrammingError, transaction
from django.db.transaction import TransactionManagementError

from tenants.context import tenant_context
from webhooks.models import Event
from webhooks.services import publish


def publish_in(tenant, **fields):
    with tenant_context(tenant.ref), transaction.atomic():
        return publish(tenant_id=tenant.pk, **{"type": "a.b", "payload": {"n": 1}, **fields})


def events_of(operator, tenant) -> list[tuple]:
    return operator.execute(
        "select type, data::jsonb, idempotency_key from webhooks_event e"
        " join webhooks_payload p on p.event_id = e.id where e.tenant_id = %s",
        [tenant.pk],
    ).fetchall()


def test_it_writes_the_event(tenant, operator):
    event = publish_in(tenant, idempotency_key="k1")
    assert event.pk
    assert events_of(operator, tenant) == [("a.b", {"n": 1}, "k1")]


def test_it_falls_with_the_deed(tenant, operator):
    class Undone(Exception):
        pass

    def deed():
        with tenant_context(tenant.ref), transaction.atomic():
            publish(tenant_id=tenant.pk, type="a.b", payload={})
            raise Undone

    with pytest.raises(Undone):
        deed()
    assert events_of(operator, tenant) == []


def test_it_refuses_to_publish_outside_a_transaction(tenant, operator):
    with pytest.raises(TransactionManagementError), tenant_context(tenant.ref):
        publish(tenant_id=tenant.pk, type="a.b", payload={})
    assert events_of(operator, tenant) == []


def test_it_publishes_once_for_one_key(tenant, operator):
    assert publish_in(tenant, idempotency_key="k1") is not None
    assert publish_in(tenant, idempotency_key="k1", payload={"n": 2}) is None
    assert events_of(operator, tenant) == [("a.b", {"n": 1}, "k1")]


def test_the_keys_of_two_tenants_are_apart(tenant, other_tenant, operator):
    assert publish_in(tenant, idempotency_key="k1") is not None
    assert publish_in(other_tenant, idempotency_key="k1") is not None


def test_without_a_key_each_call_is_an_event(tenant, operator):
    publish_in(tenant)
    publish_in(tenant)
    assert len(events_of(operator, tenant)) == 2


def test_it_publishes_for_no_other_tenant(tenant, other_tenant, operator):
    with (
        pytest.raises(ProgrammingError, match="row-level security"),
        tenant_context(tenant.ref),
        transaction.atomic(),
    ):
        publish(tenant_id=other_tenant.pk, type="a.b", payload={})
    assert events_of(operator, other_tenant) == []


def test_a_tenant_reads_its_own_events_alone(tenant, other_tenant):
    publish_in(tenant)
    with tenant_context(other_tenant.ref):
        assert not Event.objects.exists()
    with tenant_context(tenant.ref):
        assert Event.objects.count() == 1
