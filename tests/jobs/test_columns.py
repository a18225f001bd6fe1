"""What comes with a claim: the work's own columns, and those of other tables."""

from dataclasses import replace
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from jobs import columns
from jobs.models import Job
from jobs.registry import queue
from tenants.context import tenant_context
from webhooks.models import Delivery, Endpoint, Event, Payload

DELIVERIES = replace(queue("telegrams"), name="deliveries", model=Delivery)


@pytest.fixture
def deliver(engine):
    """Makes a delivery of one event to one endpoint, all of one tenant's."""

    def make(tenant=None, **delivery) -> Delivery:
        tenant = tenant or engine.tenant()
        owned = {"tenant_id": tenant}
        now = datetime.now(UTC)
        event = Event(type="invoice.paid", created_at=now, **owned)
        endpoint = Endpoint(
            url="https://example.com/hook",
            host="example.com:443",
            secrets=[{"secret": "s"}],
            schedule=[1, 2],
            **owned,
        )
        payload = Payload(event_id=event.pk, created_at=now, data='{"n":1}', **owned)
        for row in (event, endpoint, payload):
            row.save(force_insert=True, using="operator")
        given = {"event": event, "endpoint": endpoint, "host": endpoint.host} | delivery
        return engine.add(Delivery, tenant=tenant, lane=endpoint.lane, **given)[0]

    yield make
    Delivery.objects.using("operator").update(state="cancelled", lease=None, drainer=None)


def test_a_claim_carries_what_its_model_names_from_other_tables(engine, deliver):
    delivery = deliver()
    (claim,) = engine.claim(DELIVERIES, drainer=engine.drainer())
    assert claim.id == delivery.pk
    assert set(claim.data) == {*Delivery.claimed, *Delivery.carried}
    assert claim.data["endpoint_id"] == delivery.endpoint_id
    assert claim.data["happened_at"] == delivery.event.created_at
    assert claim.data["payload"] == '{"n":1}'
    assert claim.data["url"] == "https://example.com/hook"
    assert claim.data["secrets"] == '[{"secret": "s"}]'
    assert claim.data["timeout"] is None
    assert claim.data["schedule"] == [1, 2]
    assert claim.data["disabled"] is False


def test_a_claim_loses_no_work_whose_payload_is_gone(engine, deliver):
    delivery = deliver()
    Payload.objects.using("operator").filter(event_id=delivery.event_id).delete()
    (claim,) = engine.claim(DELIVERIES, drainer=engine.drainer())
    assert (claim.id, claim.data["payload"]) == (delivery.pk, None)


@pytest.mark.parametrize(
    "joins",
    [
        "join public.webhooks_event e on false",
        "join (select 'one' as type union all select 'two') e on true",
    ],
)
def test_whatever_the_joins_find_each_work_comes_once(engine, deliver, monkeypatch, joins):
    monkeypatch.setattr(Delivery, "carried", {"type": "e.type"})
    monkeypatch.setattr(Delivery, "carried_from", joins)
    delivery = deliver()
    (claim,) = engine.claim(DELIVERIES, drainer=engine.drainer())
    assert claim.id == delivery.pk


def test_undoing_carries_the_same(engine, deliver):
    deliver(state="discarding")
    (claim,) = engine.claim_undo(DELIVERIES.name, drainer=engine.drainer())
    assert claim.data["url"] == "https://example.com/hook"


def test_what_a_claim_would_carry_can_be_asked_beforehand(engine, deliver):
    works = [deliver(), deliver()]
    asked = columns.of_works(DELIVERIES, [*(one.pk for one in works), uuid4()], using="operator")
    claims = engine.claim(DELIVERIES, drainer=engine.drainer())
    assert asked == {claim.id: dict(claim.data) for claim in claims}
    assert len(asked) == 2


def test_a_tenant_asks_for_its_own_works_alone(engine, deliver, tenant):
    mine, other = deliver(tenant.pk), deliver()
    with tenant_context(tenant):
        asked = columns.of_works(DELIVERIES, [mine.pk, other.pk], using="default")
    assert list(asked) == [mine.pk]
    assert asked[mine.pk]["secrets"] == '[{"secret": "s"}]'


def test_a_queue_that_carries_nothing_is_asked_the_same_way(engine):
    (job,) = engine.add(Job, kind="act", args={"a": 1})
    asked = columns.of_works(queue("jobs"), [job.pk], using="operator")
    assert asked == {job.pk: {"kind": "act", "args": {"a": 1}}}
