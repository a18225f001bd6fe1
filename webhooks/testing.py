"""The test event: `webhook.test`, to one endpoint, for somebody who wants to see it arrive."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson
from django.db import connection

from config.ids import format_id, uuid7
from jobs.services import wake_after_commit
from tenants.context import require_tenant
from webhooks.models import Endpoint
from webhooks.policy import scheduled

TYPE = "webhook.test"

# It has no number of an ordered lane: a test that fails blocks nothing.
_INSERT = """
with event as (
  insert into webhooks_event (id, tenant_id, type) values (%(event)s, %(tenant)s, %(type)s)
  returning id, tenant_id, created_at
),
said as (
  insert into webhooks_payload (event_id, tenant_id, created_at, data)
  select id, tenant_id, created_at, %(data)s from event
)
insert into webhooks_delivery
  (id, tenant_id, event_id, endpoint_id, lane, host, max_attempts, test)
select %(delivery)s, tenant_id, id, %(endpoint)s, %(lane)s, %(host)s, %(attempts)s, true
from event
"""


@dataclass(frozen=True, slots=True)
class Test:
    """A test event on its way."""

    event_id: UUID
    delivery_id: UUID


def send(endpoint: Endpoint) -> Test:
    """Write the event and its one delivery, in the caller's transaction."""
    test = Test(uuid7(), uuid7())
    data = {"endpoint_id": format_id("ep", endpoint.pk), "message": "It works."}
    values: dict[str, Any] = {
        "event": test.event_id,
        "delivery": test.delivery_id,
        "tenant": require_tenant().id,
        "type": TYPE,
        "data": orjson.dumps(data).decode(),
        "endpoint": endpoint.pk,
        "lane": endpoint.lane,
        "host": endpoint.host,
        "attempts": scheduled(endpoint.schedule).attempts,
    }
    with connection.cursor() as cursor:
        cursor.execute(_INSERT, values)
    wake_after_commit("deliveries", tenant_id=require_tenant().id)
    return test
