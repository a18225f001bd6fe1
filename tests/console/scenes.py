"""What the pictures of the console's pages show: a dead letter of a shop whose gateway fails."""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

# Seconds after the first try, its milliseconds, status and what the receiver said.
TRIES = (
    (0, 184, 503, "upstream connect error or disconnect before headers"),
    (5, 201, 503, "upstream connect error or disconnect before headers"),
    (305, 1_920, 502, "bad gateway"),
    (2_110, 212, 503, "upstream connect error or disconnect before headers"),
)
WHY = "HTTP 503"
PAYLOAD = (
    '{"order_id": "ord_10248", "total": {"amount": 12900, "currency": "EUR"},'
    ' "lines": [{"sku": "rope-12mm", "quantity": 40}], "customer": {"external_id": "c-311"}}'
)


def make_letter(tenant: int, endpoint: Any) -> None:
    """A delivery of the tenant's to one of its endpoints, with its tries and its letter."""
    from django.utils import timezone

    from config.ids import uuid7
    from jobs.models import Attempt, DeadLetter
    from webhooks.models import Delivery, Event

    first = timezone.now() - timedelta(seconds=TRIES[-1][0] + 150)
    event, work = uuid7(), uuid7()
    using = {"using": "operator", "force_insert": True}
    Event(
        id=event, tenant_id=tenant, type="order.paid", kept_payload=PAYLOAD, created_at=first
    ).save(**using)
    Delivery(
        id=work, tenant_id=tenant, lane=f"endpoint:{endpoint}", max_attempts=len(TRIES),
        attempts=len(TRIES), state="dead_letter", last_error=WHY, event_id=event,
        endpoint_id=endpoint, host="hooks.example.com:443", due_at=first, created_at=first,
    ).save(**using)  # fmt: skip
    for number, (after, took, status, said) in enumerate(TRIES, 1):
        at = first + timedelta(seconds=after)
        Attempt(
            tenant_id=tenant, queue="deliveries", work_id=work, number=number, started_at=at,
            duration_ms=took, outcome="retry" if number < len(TRIES) else "failed",
            error=f"HTTP {status}", drainer=1, request=request(event, at),
            response=response(status, said, at),
        ).save(**using)  # fmt: skip
    DeadLetter(
        tenant_id=tenant, queue="deliveries", work_id=work, reason="exhausted", error=WHY,
        request=request(event, at), response=response(status, said, at), created_at=at,
    ).save(**using)  # fmt: skip


def request(event: Any, at: datetime) -> dict[str, Any]:
    return {
        "method": "POST",
        "url": "https://hooks.example.com/in",
        "headers": {
            "user-agent": "Slipway/0.1.0",
            "content-type": "application/json",
            "webhook-id": f"evt_{event}",
            "webhook-timestamp": str(int(at.timestamp())),
            "webhook-signature": "v1,secret",
        },
        "body_bytes": 254,
        "body_sha256": "",
    }


def response(status: int, said: str, at: datetime) -> dict[str, Any]:
    return {
        "status": status,
        "headers": {
            "date": f"{at:%a, %d %b %Y %H:%M:%S} GMT",
            "server": "envoy",
            "content-type": "application/json",
            "x-request-id": "6f2c1f0e",
        },
        "body": f'{{"error": "{said}", "retryable": true}}',
        "truncated": False,
        "address": "203.0.113.7",
    }


def photograph(page: Any, home: str, theme: str, place: Path) -> None:
    """The list of dead letters, one of them, its last attempt, the page that asks, a tenant."""

    def take(name: str) -> None:
        page.screenshot(path=place / f"console-{name}-{theme}.png")

    page.goto(f"{home}jobs/deadletter/?resolved=no&queue=deliveries")
    take("list")
    page.locator("#result_list tbody th a").first.click()  # The newest is ours.
    letter = page.url
    take("letter")
    page.locator(".acts a.act-replay").click()
    page.fill("[name=reason]", "their gateway is back; ticket 4802")
    take("confirm")
    page.goto(letter)
    page.locator(".timeline a").last.click()
    # Without the frame: the request and its response are what it is about.
    page.locator("#content").screenshot(path=place / f"console-attempt-{theme}.png")
    page.goto(letter)
    page.locator("#content a[href*='/tenants/tenant/']").first.click()
    take("tenant")
