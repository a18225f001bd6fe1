"""Campaigns at the sandbox, made past all services, and drainers that send their messages."""

import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID, uuid4

import uvloop
from django.utils import timezone

from campaigns.models import Campaign, Message, ProviderAccount
from campaigns.providers import sealed
from customers.models import Customer
from jobs.engine.drainer import Drainer
from jobs.models import Attempt, Lane
from jobs.registry import queue
from tenants.context import tenant_context
from tests.jobs.conftest import withdraw_everything

KEY = "sandbox-key-that-nobody-may-see"
NUMBERS = itertools.count()  # Of the customers made: each has a telephone of its own.
OPERATOR = "operator"


@dataclass
class Mailing:
    """One campaign, its messages, and who gets them."""

    campaign: Campaign
    account: ProviderAccount
    customers: list[Customer]

    @property
    def messages(self) -> list[Message]:
        rows = Message.objects.using(OPERATOR).filter(campaign_id=self.campaign.pk)
        return list(rows.order_by("id"))

    @property
    def message(self) -> Message:
        (only,) = self.messages
        return only

    @property
    def states(self) -> list[str]:
        return [message.state for message in self.messages]

    def all_are(self, *states: str) -> bool:
        rows = Message.objects.using(OPERATOR).filter(campaign_id=self.campaign.pk)
        return not rows.exclude(state__in=states).exists()

    @property
    def counters(self) -> dict[str, int]:
        row = Campaign.objects.using(OPERATOR).get(pk=self.campaign.pk)
        names = ("sent", "failed", "unknown", "cancelled")
        return {name: getattr(row, name) for name in names if getattr(row, name)}

    @property
    def lane(self) -> Lane | None:
        """That of its account."""
        return Lane.objects.using(OPERATOR).filter(key=self.account.key).first()

    def hasten(self) -> None:
        """Let what waits for its time be due."""
        rows = Message.objects.using(OPERATOR).filter(campaign_id=self.campaign.pk)
        rows.filter(state__in=["failed", "scheduled"]).update(due_at="2020-01-01T00:00Z")

    def open(self) -> None:
        """Let the account's lane be as if nothing had ever been amiss."""
        Lane.objects.using(OPERATOR).filter(key=self.account.key).delete()

    def update(self, **columns: Any) -> None:
        Campaign.objects.using(OPERATOR).filter(pk=self.campaign.pk).update(**columns)


@dataclass
class Post:
    """A tenant's accounts at a sandbox."""

    sandbox: Any
    tenant: Any
    open_destinations: list[tuple[str, int]]

    def account(
        self, profile: dict[str, Any] | None = None, *, idempotent: bool = False, **columns: Any
    ) -> ProviderAccount:
        """One whose sender is treated like this. By itself it accepts at once."""
        sender = uuid4().hex
        self.profile(sender, **({"latency": 0.0, "idempotent": idempotent} | (profile or {})))
        columns = {
            "name": sender,
            "provider": "sandbox",
            "base_url": self.sandbox.url,
            "sender": sender,
            "credentials": sealed({"key": KEY}),
            "options": {"idempotent": idempotent} | columns.pop("options", {}),
        } | columns
        with tenant_context(self.tenant):
            return ProviderAccount.objects.create(**columns)

    @contextmanager
    def opened(self, port: int) -> Iterator[None]:
        """Let messages go to this port of loopback while the block runs."""
        self.open_destinations.append(("127.0.0.1", port))
        yield
        self.open_destinations.pop()

    def profile(self, sender: str, **profile: Any) -> None:
        self.sandbox.set(sender, **profile)

    def ledger(self, account: ProviderAccount) -> dict[str, Any]:
        """What the sandbox says of its sender."""
        return self.sandbox.ledger(account.sender)

    def mailing(
        self, count: int = 1, *, account: ProviderAccount | None = None, **columns: Any
    ) -> Mailing:
        """A running campaign with a message to each of so many new customers."""
        account = account or self.account()
        now = timezone.now()
        columns = {
            "name": "Spring",
            "state": "running",
            "account": account,
            "content": {"text": "Hello {{ name }}", "external_name": "", "language": "en"},
            "total": count,
            "materialised_at": now,
            "started_at": now,
            "actor": "system:test",
        } | columns
        with tenant_context(self.tenant):
            campaign = Campaign.objects.create(**columns)
            customers = Customer.objects.bulk_create(self._customer(n) for n in range(count))
        rows = [self._message(campaign, one, params={"name": one.name}) for one in customers]
        Message.objects.using(OPERATOR).bulk_create(rows)
        return Mailing(campaign, account, customers)

    def test_message(self, mailing: Mailing, phone: str) -> Message:
        """A test of a campaign's message, to a number that the tenant named."""
        campaign = mailing.campaign
        message = self._message(
            campaign, None, phone=phone, test=True, lane=f"campaign-test:{campaign.pk}",
            params={"name": "Ada"},
        )  # fmt: skip
        message.save(using=OPERATOR, force_insert=True)
        return message

    def _customer(self, n: int) -> Customer:
        phone = f"+49301{next(NUMBERS):07}"
        return Customer(name=f"Ada {n}", phone=phone, consent="given")

    def _message(self, campaign: Campaign, customer: Customer | None, **columns: Any) -> Message:
        return Message(
            **{
                "tenant_id": self.tenant.pk,
                "campaign": campaign,
                "lane": campaign.lane,
                "account_key": f"account:{campaign.account_id}",
                "customer_id": customer and customer.pk,
                "phone": customer.phone if customer else "",
                "max_attempts": 4,
            }
            | columns
        )


def ready(sandbox: Any, tenant: Any, monkeypatch: Any, settings: Any) -> Post:
    """A post that is the only one to send anything, and waits for nothing."""
    withdraw_everything()
    monkeypatch.setattr("jobs.engine.drainer.POLL", 0.05)
    settings.WEBHOOK_OPEN_DESTINATIONS = [*settings.WEBHOOK_OPEN_DESTINATIONS, sandbox.pair]
    return Post(sandbox, tenant, settings.WEBHOOK_OPEN_DESTINATIONS)


def attempts_of(message: Message) -> list[Attempt]:
    rows = Attempt.objects.using(OPERATOR).filter(work_id=message.pk)
    return list(rows.order_by("number", "started_at"))


def came_to(message: Message) -> list[str]:
    return [attempt.outcome for attempt in attempts_of(message)]


def fresh(row: Any) -> Any:
    row.refresh_from_db(using=OPERATOR)
    return row


@contextmanager
def sending(*others: str, drainers: int = 1, **changes: Any) -> Iterator[list[Drainer]]:
    """Drainers in this process that send while the block runs, and serve other queues too."""
    died: list[str] = []
    served = {"messages": replace(queue("messages"), **changes)}
    served |= {name: queue(name) for name in others}
    loops = [Drainer(served=served, on_death=died.append) for _ in range(drainers)]
    threads = [threading.Thread(target=uvloop.run, args=[loop.run()]) for loop in loops]
    for thread in threads:
        thread.start()
    try:
        yield loops
    finally:
        for loop in loops:
            loop.stop()
        for thread in threads:
            thread.join()
    assert died == []


def send(mailing: Mailing, until: Callable[[], Any], *others: str, **changes: Any) -> None:
    """Send until something holds."""
    from tests.chaos.conftest import until as wait_until

    with sending(*others, **changes):
        wait_until(until, 10, f"{mailing.states}")


def key_of(message: Message) -> str:
    """What its provider is given as the idempotency key."""
    return str(UUID(str(message.pk)))
