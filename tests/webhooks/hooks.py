"""Endpoints at the misbehaving receiver, and drainers that tell them of events."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import uvloop
from django.db import transaction
from standardwebhooks import Webhook

from jobs.engine.drainer import Drainer
from jobs.models import Attempt, DeadLetter, Lane
from jobs.models import Drainer as Drainers
from jobs.registry import queue
from tenants.context import TenantRef, tenant_context
from tests.receiving import Inbox, Receiver
from webhooks import secrets
from webhooks.models import Delivery, Endpoint, Event
from webhooks.services import publish


@dataclass
class Hook:
    """One endpoint, as its tenant and its receiver see it."""

    endpoint: Endpoint
    inbox: Inbox
    secret: str

    @property
    def seen(self) -> list[dict]:
        """What it was sent, in order."""
        return self.inbox.seen

    @property
    def numbers(self) -> list[int]:
        """Of the events that it was sent: publish(n=…)."""
        return [self.verified(request)["data"]["n"] for request in self.seen]

    @property
    def deliveries(self) -> list[Delivery]:
        rows = Delivery.objects.using("operator").filter(endpoint_id=self.endpoint.pk)
        return list(rows.order_by("id"))

    @property
    def delivery(self) -> Delivery:
        (only,) = self.deliveries
        return only

    @property
    def states(self) -> list[str]:
        return [delivery.state for delivery in self.deliveries]

    @property
    def lane(self) -> Lane | None:
        rows = Lane.objects.using("operator")
        return rows.filter(tenant_id=self.endpoint.tenant_id, key=self.endpoint.lane).first()

    def verified(self, request: dict) -> dict:
        """The body of a request, once the reference implementation has verified it."""
        return Webhook(self.secret).verify(request["body"], request["headers"])

    def update(self, **columns: Any) -> None:
        Endpoint.objects.using("operator").filter(pk=self.endpoint.pk).update(**columns)

    def hasten(self) -> None:
        """Let what waits for its time be due."""
        rows = Delivery.objects.using("operator").filter(endpoint_id=self.endpoint.pk)
        rows.filter(state__in=["failed", "scheduled"]).update(due_at="2020-01-01T00:00Z")


@dataclass
class Hooks:
    """A tenant's endpoints and events."""

    receiver: Receiver
    tenant: Any

    def endpoint(self, behaviour: str = "ok", *arguments, tenant=None, **columns: Any) -> Hook:
        """An endpoint whose URL behaves like this (tests/misbehaviour.py)."""
        inbox = self.receiver.new(behaviour, *arguments, port=columns.pop("port", "http"))
        return self.at(inbox, tenant=tenant, **columns)

    def scripted(self, *behaviours: str, **columns: Any) -> Hook:
        """One that behaves like this, one request after the other; the last one stays."""
        inbox = self.receiver.new("scripted")
        self.receiver.script(inbox.token, *behaviours)
        return self.at(inbox, **columns)

    def at(self, inbox: Inbox, *, tenant=None, **columns: Any) -> Hook:
        secret = secrets.make()
        url = columns.pop("url", inbox.url)
        columns = {"secrets": [kept(secret)], "host": url.split("/")[2]} | columns
        endpoint = Endpoint(tenant_id=(tenant or self.tenant).pk, url=url, **columns)
        endpoint.save(using="operator", force_insert=True)
        return Hook(endpoint, inbox, secret)

    def publish(self, *, tenant=None, type: str = "invoice.paid", **data: Any) -> Event:
        tenant = tenant or self.tenant
        with tenant_context(TenantRef(tenant.pk, "pool")), transaction.atomic():
            return publish(tenant_id=tenant.pk, type=type, payload=data)


def kept(secret: str, *, expires_at: str | None = None) -> dict:
    """A secret as an endpoint keeps it."""
    made_at = "2026-01-01T00:00:00+00:00"
    return {"secret": secrets.encrypt(secret), "made_at": made_at, "expires_at": expires_at}


def attempts_of(delivery: Delivery) -> list[Attempt]:
    rows = Attempt.objects.using("operator").filter(work_id=delivery.pk)
    return list(rows.order_by("started_at"))


def came_to(delivery: Delivery) -> list[str]:
    return [attempt.outcome for attempt in attempts_of(delivery)]


def letter_of(delivery: Delivery) -> DeadLetter:
    return DeadLetter.objects.using("operator").get(work_id=delivery.pk, resolved_at=None)


def bury(pid: int) -> None:
    """Declare the drainer of a process that was killed dead, and wait no fifteen seconds for it."""
    Drainers.objects.using("operator").filter(pid=pid).update(dead_at="2020-01-01T00:00Z")


@contextmanager
def draining(*, drainers: int = 1, **changes: Any) -> Iterator[list[Drainer]]:
    """Drainers in this process that deliver while the block runs."""
    died: list[str] = []
    served = {"deliveries": replace(queue("deliveries"), **changes)}
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
