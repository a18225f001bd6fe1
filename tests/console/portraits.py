"""Pictures of the console for the docs, from a Slipway that runs: docs/img/console-*.png.

    PORT=8640 SLIPWAY_STATE_DIR=/tmp/shown manage.py up
    PORT=8640 SLIPWAY_STATE_DIR=/tmp/shown python -m tests.console.portraits \
        operator@slipway.localhost PASSWORD docs/img

It writes a month of numbers into that Slipway's rollup, some tenants, and works of every kind:
never let it near one that is in use.
"""

import math
import os
import random
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

from tests.chromium import launched
from tests.console import scenes

TENANTS = (
    "harbour-supplies",
    "northwind",
    "acme",
    "lumen-labs",
    "kestrel",
    "old-mill",
    "tidewater",
    "juniper",
)
# Works an hour at the day's height, milliseconds at the middle, how wide that spreads.
QUEUES = {
    "onboarding": (40, 240, 1.2),
    "jobs": (900, 90, 2.0),
    "deliveries": (14_000, 180, 1.9),
    "messages": (6_000, 320, 1.5),
}


def main() -> None:
    import django

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    django.setup()
    email, password, place = sys.argv[1:4]
    random.seed(7)
    tenants = make_tenants()
    make_trouble(tenants)
    write_numbers(tenants)
    take(email, password, Path(place))


def make_tenants() -> list[int]:
    from tenants.models import Domain, Tenant
    from tenants.routers import as_operator

    with as_operator():
        for place, slug in enumerate(TENANTS):
            number = 70_000 + place
            if Tenant.objects.filter(slug=slug).exists():
                continue
            Tenant(
                id=number,
                uuid=uuid4(),
                slug=slug,
                name=slug.replace("-", " ").title(),
                plan="free",
                home="pooled",
                status="active",
                schema_name=f"t_{number}",
            ).save(force_insert=True)
            Domain(domain=f"{slug}.slipway.localhost", tenant_id=number, is_primary=True).save(
                force_insert=True
            )
        return list(Tenant.objects.filter(slug__in=TENANTS).values_list("pk", flat=True))


def write_numbers(tenants: list[int]) -> None:
    from console.models import Hour, Minute

    now = datetime.now(UTC).replace(second=0, microsecond=0)
    hour = now.replace(minute=0)
    for table, first, step, many in (
        (Hour, hour - timedelta(days=30), timedelta(hours=1), 30 * 24),
        (Minute, now - timedelta(minutes=75), timedelta(minutes=1), 75),
    ):
        table.objects.using("operator").filter(at__gte=first).delete()
        share = step / timedelta(hours=1)
        rows = [
            table(**row(first + n * step, name, tenants, share))
            for n in range(many)
            for name in QUEUES
        ]
        table.objects.using("operator").bulk_create(
            rows,
            update_conflicts=True,
            unique_fields=["at", "queue"],
            update_fields=NUMBERS,
        )


NUMBERS = ("depth", "oldest", "made", "traced", "untraced", "ended", "took", "busiest")


def row(at: datetime, name: str, tenants: list[int], share: float) -> dict:
    height, middle, spread = QUEUES[name]
    of_day = 0.35 + 0.65 * math.exp(-(((at.hour + at.minute / 60 - 14) / 5) ** 2))
    works = int(height * of_day * share * random.uniform(0.8, 1.2))
    storm = name == "deliveries" and at.day % 9 == 3 and 9 <= at.hour < 12
    dead = int(works * (0.03 if storm else 0.0006)) if name != "onboarding" else 0
    weights = [1 / (place + 1) for place in range(len(tenants))]
    waiting = int(works * (0.2 if storm else 0.004))
    return {
        "at": at,
        "queue": name,
        "depth": {
            "pending": int(works * random.uniform(0.001, 0.006)) + (4_000 if storm else 0),
            "processing": int(works * 0.002) + random.randint(0, 3),
            "failed": waiting,
            "dead_letter": len(ERRORS) + 1 if name == "deliveries" else 0,
        },
        "oldest": {"pending": random.randint(1, 6) + (700 if storm else 0)},
        "made": works,
        "traced": works,
        "untraced": [],
        "ended": {"succeeded": works - dead, "dead_letter": dead},
        "took": took(works - dead, middle * (4 if storm else 1), spread),
        "busiest": {
            str(tenant): int(works * weight / sum(weights))
            for tenant, weight in zip(tenants, weights, strict=True)
        },
    }


def took(works: int, middle: float, spread: float) -> dict[str, int]:
    from console.spread import bucket

    found: dict[str, int] = {}
    for _ in range(40):
        name = str(bucket(middle * spread ** random.gauss(0, 1)))
        found[name] = found.get(name, 0) + max(1, works // 40)
    return found


ENDPOINT = """
insert into webhooks_endpoint (id, tenant_id, url, host, description, event_types, custom_headers,
  secrets, ordered, disabled_reason, created_at, updated_at)
values (%s, %s, 'https://hooks.example.com/in', 'hooks.example.com:443', 'Warehouse', '{}', '',
  '[]', false, '', now(), now())
"""
EVENT = """
insert into webhooks_event (id, tenant_id, type, created_at, fingerprint)
values (%s, %s, 'order.paid', %s, '')
"""
ERRORS = (
    *["HTTP 503"] * 14,
    *["Timed out: no answer within 15 s"] * 7,
    *["TLS: the certificate has expired"] * 2,
)


def make_trouble(tenants: list[int]) -> None:
    from django.db import connections

    from config.ids import uuid7
    from jobs.models import DeadLetter
    from webhooks.models import Delivery

    now = datetime.now(UTC)
    if DeadLetter.objects.using("operator").filter(queue="deliveries").exists():
        return
    with connections["operator"].cursor() as cursor:
        endpoints = [(uuid7(), tenant) for tenant in tenants[:3]]
        cursor.executemany(ENDPOINT, endpoints)
        for place, error in enumerate(ERRORS):
            at = now - timedelta(minutes=7 * place + 3)
            endpoint, tenant = endpoints[place % 3]
            event, work = uuid7(), uuid7()
            cursor.execute(EVENT, [event, tenant, at])
            Delivery(
                id=work,
                tenant_id=tenant,
                lane=f"endpoint:{endpoint}",
                max_attempts=10,
                attempts=10,
                state="dead_letter",
                last_error=error,
                event_id=event,
                endpoint_id=endpoint,
                host="hooks.example.com:443",
                due_at=at,
                created_at=at,
            ).save(using="operator", force_insert=True)
            DeadLetter(
                tenant_id=tenant,
                queue="deliveries",
                work_id=work,
                reason="exhausted",
                error=error,
                created_at=at,
            ).save(using="operator", force_insert=True)
        hold_back(tenants, now)
    scenes.make_letter(tenants[0], endpoints[0][0])


def hold_back(tenants: list[int], now: datetime) -> None:
    from jobs.models import Lane

    Lane(
        tenant_id=tenants[1],
        key=f"endpoint:{uuid4()}",
        operator_paused_until=now + timedelta(hours=2),
        operator_why="their migration; ticket 4711",
    ).save(using="operator", force_insert=True)
    Lane(
        tenant_id=tenants[4],
        key=f"endpoint:{uuid4()}",
        failures=9,
        failing_since=now - timedelta(minutes=40),
        failed_at=now,
    ).save(using="operator", force_insert=True)


def take(email: str, password: str, place: Path) -> None:
    """The overviews first: Slipway counts too, once a minute, and not what was written here."""
    place.mkdir(parents=True, exist_ok=True)
    home = f"http://127.0.0.1:{os.environ.get('PORT', '8000')}/console/"
    with launched() as browser:
        pages = {
            name: photograph_overview(browser, home, email, password, place / f"console-{name}.png")
            for name in ("light", "dark", "phone")
        }
        for name in ("light", "dark"):
            scenes.photograph(pages[name], home, name, place)


def photograph_overview(browser: Any, home: str, email: str, password: str, path: Path) -> Any:
    """Its page, signed in."""
    is_phone = path.stem.endswith("phone")
    context = browser.new_context(
        color_scheme="dark" if path.stem.endswith("dark") else "light",
        viewport={"width": 390, "height": 844} if is_phone else {"width": 1360, "height": 1000},
        device_scale_factor=2 if is_phone else 1,
    )
    page = context.new_page()
    page.on("console", lambda message: sys.stderr.write(f"{message.text}\n"))
    page.goto(home)
    page.fill("[name=username]", email)
    page.fill("[name=password]", password)
    page.click("[type=submit]")
    page.goto(f"{home}?range={'1h' if is_phone else '24h'}")
    page.screenshot(path=path)
    return page


if __name__ == "__main__":
    main()
