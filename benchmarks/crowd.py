"""Tenants with endpoints, and what they publish: on the database that the environment names.

Run as a process of its own, since the measuring one belongs to another database:

    python -m benchmarks.crowd endpoints '{"tenants": 20, "each": 5, "urls": ["http://…"]}'
    python -m benchmarks.crowd publish '{"tenants": [1, 2], "events": 100}'
    python -m benchmarks.crowd one '{"tenant": 1, "times": 500}'
    python -m benchmarks.crowd trickle '{"tenants": [1, 2], "times": 10, "gap": 0.02}'

Each prints one line of JSON.
"""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from uuid import uuid4

import django
import orjson

DATA = {
    "invoice": "in_1MtHbELkdIwHu7ixl4OzzPMv",
    "customer": "cus_NeZwdNtLEOXuvB",
    "amount": 4200,
    "currency": "eur",
    "lines": [{"description": f"Line {n} of the invoice", "amount": 1400} for n in range(3)],
    "note": "x" * 200,
}


def endpoints(*, urls: list[str], tenants: int, each: int) -> list[int]:
    """New tenants with `each` endpoints, at the URLs in turn ({n} is the endpoint's number)."""
    from tenants.models import Tenant
    from webhooks import secrets
    from webhooks.models import Endpoint

    secret = [{"secret": secrets.encrypt(secrets.make()), "made_at": "", "expires_at": None}]
    numbers = _numbers(tenants)
    rows = []
    for place in range(tenants * each):
        url = urls[place % len(urls)].format(n=place)
        rows.append(
            Endpoint(
                tenant_id=numbers[place // each], url=url, host=url.split("/")[2], secrets=secret
            )
        )
    Tenant.objects.using("operator").bulk_create(
        Tenant(
            id=number, uuid=uuid4(), slug=f"t-{number}", name=f"T {number}", plan="free",
            status="active", schema_name=f"t_{number}",
        )
        for number in numbers
    )  # fmt: skip
    Endpoint.objects.using("operator").bulk_create(rows)
    return numbers


def publish(*, tenants: list[int], events: int, at_once: bool = False) -> dict[str, float]:
    """`events` of each tenant's, in one call for each; how long these took.

    In one transaction for each call, or with `at_once` in one for all.
    """
    from django.db import transaction

    from webhooks.services import NewEvent, publish_many

    taken, began_at = 0.0, time.time()
    with transaction.atomic() if at_once else nullcontext():
        for tenant in tenants:
            new = [NewEvent("invoice.paid", {**DATA, "n": n}) for n in range(events)]
            began = time.perf_counter()
            with as_tenant(tenant):
                publish_many(tenant_id=tenant, events=new)
            taken += time.perf_counter() - began
    return {"seconds": taken, "began_at": began_at, "ended_at": time.time()}


def one(*, tenant: int, times: int) -> dict[str, list[float]]:
    """One event a transaction, again and again, and by turns one row: the seconds of each."""
    from config.ids import uuid7
    from webhooks.models import Event
    from webhooks.services import publish as publish_one

    published, inserted = [], []
    for n in range(times):
        began = time.perf_counter()
        with as_tenant(tenant):
            publish_one(tenant_id=tenant, type="invoice.paid", payload={**DATA, "n": n})
        between = time.perf_counter()
        with as_tenant(tenant):
            Event.objects.create(id=uuid7(), tenant_id=tenant, type="invoice.paid")
        published.append(between - began)
        inserted.append(time.perf_counter() - between)
    return {"published": published, "inserted": inserted}


def trickle(*, tenants: list[int], times: int, gap: float) -> dict[str, float]:
    """One event of each tenant's after the other: its webhook-id, and when it was published."""
    from config.ids import format_id
    from webhooks.services import publish as publish_one

    published = {}
    for _ in range(times):
        for tenant in tenants:
            with as_tenant(tenant):
                event = publish_one(tenant_id=tenant, type="invoice.paid", payload=DATA)
            published[format_id("evt", event.pk)] = time.time()
            time.sleep(gap)
    return published


@contextmanager
def as_tenant(number: int) -> Iterator[None]:
    """A transaction of a tenant's."""
    from django.db import transaction

    from tenants.context import TenantRef, tenant_context

    with tenant_context(TenantRef(number)), transaction.atomic():
        yield


def _numbers(count: int) -> list[int]:
    from django.db import connections

    with connections["operator"].cursor() as cursor:
        cursor.execute(
            "select nextval('tenants_tenant_id_seq') from generate_series(1, %s)", [count]
        )
        return [row[0] for row in cursor.fetchall()]


if __name__ == "__main__":
    django.setup()
    done = {"endpoints": endpoints, "publish": publish, "one": one, "trickle": trickle}[sys.argv[1]]
    print(orjson.dumps(done(**json.loads(sys.argv[2]))).decode())
