"""A crowd of tenants that publishes, whatever happens to its database.

    python -m tests.chaos.crowd settle '{"tenants": 2, "urls": [[…], […]]}'
    python -m tests.chaos.crowd publish '{"tenants": [1, 2], "events": 30, "seconds": 5}'

The first makes tenants whose endpoints are at these URLs, the last of each one ordered, and prints
their numbers. The second publishes `events` of each tenant's within about so many seconds. What it
cannot tell whether it was committed it publishes again, under the same idempotency key, as a client
must; it ends when all is committed.
"""

import json
import sys
import time
import uuid

import django

from jobs.breaker import Breaker

SCHEDULE = [0, 1, 1, 1, 1, 1, 1, 1, 1]  # Seconds.
BREAKER = Breaker(failures=10, pauses=(0.1,))


def settle(*, tenants: int, urls: list[list[str]]) -> list[int]:
    from tenants.models import Tenant
    from webhooks import secrets
    from webhooks.models import Endpoint

    numbers = [1_000 + n for n in range(tenants)]
    Tenant.objects.using("operator").bulk_create(
        Tenant(
            id=number, uuid=uuid.uuid4(), slug=f"t-{number}", name=f"T {number}", plan="free",
            status="active", schema_name=f"t_{number}",
        )
        for number in numbers
    )  # fmt: skip
    secret = {"secret": secrets.encrypt(SECRET), "made_at": "", "expires_at": None}
    Endpoint.objects.using("operator").bulk_create(
        Endpoint(
            tenant_id=number,
            url=url,
            host=url.split("/")[2],
            secrets=[secret],
            event_types=["a.b"],  # And not of what becomes of the deliveries themselves.
            schedule=SCHEDULE if "moody" in url else [0],
            ordered=place == len(theirs) - 1,
        )
        for number, theirs in zip(numbers, urls, strict=True)
        for place, url in enumerate(theirs)
    )
    return numbers


SECRET = "whsec_" + "Y2hhb3MgY2hhb3MgY2hhb3MgY2hhb3MgY2hhb3M="


def publish(*, tenants: list[int], events: int, seconds: float) -> int:
    """How many tries it took."""
    tries, began = 0, time.monotonic()
    for n in range(events):
        for tenant in tenants:
            while not _published(tenant, n):
                tries += 1
                time.sleep(0.1)
            tries += 1
        time.sleep(max(0.0, began + seconds * (n + 1) / events - time.monotonic()))
    return tries


def _published(tenant: int, n: int) -> bool:
    from django.db import Error, connections, transaction

    from tenants.context import TenantRef, tenant_context
    from webhooks import services

    try:
        with tenant_context(TenantRef(tenant)), transaction.atomic():
            services.publish(
                tenant_id=tenant, type="a.b", payload={"n": n}, idempotency_key=f"key-{n}"
            )
    except Error:
        connections.close_all()
        return False
    return True


if __name__ == "__main__":
    django.setup()
    print(
        json.dumps({"settle": settle, "publish": publish}[sys.argv[1]](**json.loads(sys.argv[2])))
    )
