"""What fifty tenants notice of a neighbour's trouble: nothing. By counts; times: `make bench`."""

import itertools
import time
from types import SimpleNamespace

import pytest

from tests.chaos.conftest import until
from tests.webhooks.hooks import Hook, draining
from webhooks.models import Delivery

BYSTANDERS = 50
NEIGHBOURS = 40
PORTIONS = {"slots": 40, "lane_window": 8, "destination_share": 0.25}
SLOW = 3  # Seconds.

_tenants = itertools.count(3_000_000)  # Endpoints and events need no tenant's row.

FLOOD = """
with events as (
  insert into webhooks_event (id, tenant_id, type)
  select uuidv7(), %(tenant)s, 'a.b' from generate_series(1, %(many)s)
  returning id, created_at
), payloads as (
  insert into webhooks_payload (event_id, tenant_id, created_at, data)
  select id, %(tenant)s, created_at, '{}' from events
)
insert into webhooks_delivery (id, tenant_id, event_id, endpoint_id, lane, host, max_attempts)
select uuidv7(), %(tenant)s, id, %(endpoint)s, %(lane)s, %(host)s, 3 from events
"""


@pytest.fixture
def flood(operator):
    """Writes many deliveries of one endpoint's at once."""

    def write(hook: Hook, many: int) -> None:
        endpoint = hook.endpoint
        values = {"tenant": endpoint.tenant_id, "endpoint": endpoint.pk, "many": many}
        operator.execute(FLOOD, values | {"lane": endpoint.lane, "host": endpoint.host})

    return write


@pytest.fixture
def bystanders(hooks) -> list[Hook]:
    return [hooks.endpoint(tenant=somebody()) for _ in range(BYSTANDERS)]


def somebody():
    return SimpleNamespace(pk=next(_tenants))


def publish(hooks, bystanders: list[Hook]) -> None:
    for n, hook in enumerate(bystanders):
        hooks.publish(tenant=SimpleNamespace(pk=hook.endpoint.tenant_id), n=n)


def all_told(bystanders: list[Hook]) -> bool:
    rows = Delivery.objects.using("operator").filter(
        endpoint_id__in=[hook.endpoint.pk for hook in bystanders], state="succeeded"
    )
    return rows.count() == BYSTANDERS


def test_a_flood_for_a_slow_endpoint_gets_its_window_while_fifty_others_are_served(
    hooks, bystanders, flood
):
    slow = hooks.endpoint("slow", SLOW, tenant=somebody())
    flood(slow, 5_000)
    with draining(**PORTIONS):
        until(lambda: len(slow.seen) >= 8, 10)
        began = time.monotonic()
        publish(hooks, bystanders)
        until(lambda: all_told(bystanders), 20)
        windows = 1 + (time.monotonic() - began) // SLOW
        assert len(slow.seen) <= 8 * (windows + 1)
    assert all(hook.states == ["succeeded"] for hook in bystanders)


@pytest.mark.parametrize("dead", ["never answers", "refuses"])
def test_forty_tenants_on_one_dead_host_do_not_keep_fifty_others_waiting(
    hooks, bystanders, flood, dead, free_port, settings
):
    settings.WEBHOOK_OPEN_DESTINATIONS = [
        *settings.WEBHOOK_OPEN_DESTINATIONS,
        ("127.0.0.1", free_port),
    ]
    port = hooks.receiver.ports["deaf"] if dead == "never answers" else free_port
    url = f"http://127.0.0.1:{port}/"
    neighbours = [
        hooks.endpoint(tenant=somebody(), url=url, timeout=float(SLOW), schedule=[3600])
        for _ in range(NEIGHBOURS)
    ]
    for hook in neighbours:
        flood(hook, 20)
    theirs = Delivery.objects.using("operator").filter(
        endpoint_id__in=[hook.endpoint.pk for hook in neighbours]
    )
    with draining(**PORTIONS):
        until(lambda: theirs.exclude(state="pending").count() >= 10, 10)
        began = time.monotonic()
        publish(hooks, bystanders)
        until(lambda: all_told(bystanders), 20)
        if dead == "never answers":  # Those that are refused have ended, and wait to be settled.
            assert theirs.filter(state="processing").count() <= 10  # A quarter of the slots.
            windows = 1 + (time.monotonic() - began) // SLOW
            assert theirs.exclude(state="pending").count() <= 10 * (windows + 1)
