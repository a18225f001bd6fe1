"""Campaigns in a database of their own, made at one go by a process of their own.

    python -m tests.chaos.mailing '{"url": "http://127.0.0.1:1", "senders": {"s": [20, 10]}}'

A tenant with an account at that sandbox for each sender, and of as many messages as its counts say
one paused campaign each; it prints their ids. Of the customers each tenth has opted out since. The
last sender is idempotent. Then it is the tenant's hand: for a line `pause <id>`, `resume <id>` or
`cancel <id>` it calls the service, as the app role, and says when that was done.
"""

import json
import sys
import time
import uuid

import django

from campaigns.policy import Tries
from jobs.breaker import Breaker

TENANT = 1_000
TRIES = Tries(attempts=4, base=0.2, cap=1.0, window=600.0)
BREAKER = Breaker(failures=10, pauses=(0.2,))
AT_ONCE = 1_000  # Rows.


def settle(*, url: str, senders: dict[str, list[int]]) -> list[str]:
    from campaigns.models import ProviderAccount
    from campaigns.providers import sealed
    from tenants.context import tenant_context
    from tenants.models import Tenant

    tenant = Tenant(
        id=TENANT, uuid=uuid.uuid4(), slug="t-1000", name="T", plan="free", status="active",
        home="pooled", schema_name="t_1000",
    )  # fmt: skip
    tenant.save(using="operator", force_insert=True)
    with tenant_context(tenant):
        made: list[str] = []
        for sender, counts in senders.items():
            options = {"idempotent": sender == list(senders)[-1], "timeout": 2.0}
            account = ProviderAccount.objects.create(
                name=sender, provider="sandbox", base_url=url, sender=sender,
                credentials=sealed({"key": "k"}), options=options,
            )  # fmt: skip
            made += [str(campaign(account, len(made) + n, m).pk) for n, m in enumerate(counts)]
        return made


def campaign(account, nth: int, count: int):
    from django.utils import timezone

    from campaigns.models import Campaign, Message
    from customers.models import Customer
    from jobs.models import Lane

    now = timezone.now()
    made = Campaign.objects.create(
        name=f"Campaign {nth}", state="paused", account=account, total=count, actor="system:test",
        content={"text": "Hello {{ name }}", "external_name": "", "language": "en"},
        materialised_at=now, started_at=now,
    )  # fmt: skip
    Lane.objects.using("operator").create(
        tenant_id=TENANT, key=made.lane, paused_until="9999-12-31T00:00Z"
    )
    customers = [
        Customer(
            name=f"Ada {n}", phone=f"+4930{nth}{n:06}",
            consent="withdrawn" if n % 10 == 9 else "given",
        )
        for n in range(count)
    ]  # fmt: skip
    Customer.objects.bulk_create(customers, batch_size=AT_ONCE)
    rows = [
        Message(
            campaign=made, lane=made.lane, account_key=account.key, customer_id=one.pk,
            phone=one.phone, params={"name": one.name}, max_attempts=TRIES.attempts,
        )
        for one in customers
    ]  # fmt: skip
    Message.objects.using("operator").bulk_create(rows, batch_size=AT_ONCE)
    return made


def do(what: str, campaign_id: str) -> float:
    """Call a service of campaigns; when it was committed, in seconds since 1970."""
    from django.db import InterfaceError, OperationalError, connections

    from campaigns import services
    from tenants.context import tenant_context
    from tenants.models import Tenant

    said = {"campaign_id": uuid.UUID(campaign_id), "actor": "user:1", "reason": "chaos"}
    while True:
        try:
            tenant = Tenant.objects.using("operator").get(pk=TENANT)
            with tenant_context(tenant):
                getattr(services, what)(**said)
        except (OperationalError, InterfaceError):  # Postgres is on its way back.
            time.sleep(0.1)
        else:
            return time.time()
        finally:
            connections.close_all()


if __name__ == "__main__":
    django.setup()
    print(json.dumps(settle(**json.loads(sys.argv[1]))), flush=True)
    for line in sys.stdin:
        print(do(*line.split()), flush=True)
