"""Deliveries in the states that operators find them in, without a drainer."""

from django.db import transaction

from jobs.models import Attempt, DeadLetter
from tenants.context import tenant_context
from tests.people import bearer, tenant_key
from webhooks import secrets
from webhooks.models import Delivery, Endpoint, Event
from webhooks.services import publish

OPERATOR = "operator"


class Desk:
    """One owner's endpoints, deliveries and API."""

    def __init__(self, client, owner) -> None:
        self.client = client
        self.owner = owner
        self.headers = bearer(tenant_key(owner))

    def endpoint(self, **columns) -> Endpoint:
        made = {"at": "2026-01-01T00:00:00+00:00"}
        secret = {"secret": secrets.encrypt(secrets.make()), "made_at": made["at"]}
        columns = {
            "url": "https://hooks.example.org/",
            "host": "hooks.example.org:443",
            "secrets": [secret | {"expires_at": None}],
        } | columns
        endpoint = Endpoint(tenant_id=self.owner.pk, **columns)
        endpoint.save(using=OPERATOR, force_insert=True)
        return endpoint

    def publish(self, type: str = "invoice.paid", **data) -> Event:
        with tenant_context(self.owner), transaction.atomic():
            return publish(tenant_id=self.owner.pk, type=type, payload=data)

    def deliveries(self, event: Event | None = None) -> list[Delivery]:
        rows = Delivery.objects.using(OPERATOR).filter(tenant_id=self.owner.pk)
        rows = rows.filter(event_id=event.pk) if event else rows
        return list(rows.order_by("id"))

    def dead(self, count: int = 1, **data) -> list[Delivery]:
        """Deliveries that ran out of attempts, each of an event of its own."""
        events = [self.publish(n=n, **data) for n in range(count)]
        return [kill(delivery) for event in events for delivery in self.deliveries(event)]

    def get(self, path: str, **headers):
        return self.client.get(f"/v1/{path}", headers=self.headers | headers)

    def post(self, path: str, **body):
        return self.client.post(
            f"/v1/{path}", body, content_type="application/json", headers=self.headers
        )

    def delete(self, path: str):
        return self.client.delete(f"/v1/{path}", headers=self.headers)


def kill(delivery: Delivery, **columns) -> Delivery:
    """As the engine leaves one that ran out of attempts."""
    change(delivery, state="dead_letter", attempts=10, last_error="HTTP 500", **columns)
    DeadLetter(
        tenant_id=delivery.tenant_id,
        queue="deliveries",
        work_id=delivery.pk,
        reason="exhausted",
        error="HTTP 500",
        request={"method": "POST", "url": "https://hooks.example.org/"},
        response={"status": 500, "body": "no"},
    ).save(using=OPERATOR, force_insert=True)
    return delivery


def change(delivery: Delivery, **columns) -> Delivery:
    Delivery.objects.using(OPERATOR).filter(pk=delivery.pk).update(**columns)
    return fresh(delivery)


def fresh(row):
    row.refresh_from_db(using=OPERATOR)
    return row


def letter_of(delivery: Delivery) -> DeadLetter:
    return DeadLetter.objects.using(OPERATOR).get(work_id=delivery.pk)


def attempt(delivery: Delivery, **columns) -> Attempt:
    columns = {
        "number": 1,
        "started_at": "2026-01-01T00:00Z",
        "duration_ms": 12,
        "outcome": "retry",
        "error": "HTTP 500",
        "drainer": 1,
    } | columns
    row = Attempt(tenant_id=delivery.tenant_id, queue="deliveries", work_id=delivery.pk, **columns)
    row.save(using=OPERATOR, force_insert=True)
    return row


def outside(prefix: str, row) -> str:
    return f"{prefix}_{row.pk}"
