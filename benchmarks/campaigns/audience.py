"""How fast a campaign's audience is written: every fifth of a million customers gets a message.

The campaign is made through the API and the worker's jobs do the rest: content, then chunk after
chunk of messages, each a transaction. What is timed is the job that writes them, from its start to
the campaign's `materialised_at`. Beside it, one INSERT … SELECT of the same rows with no checks.
"""

import json
import time
from collections.abc import Iterator
from typing import Any
from urllib.request import Request, urlopen
from uuid import UUID, uuid4

from benchmarks.campaigns.office import Account, Office, office
from benchmarks.size import Size
from benchmarks.stack import Stack
from benchmarks.table import Budget, Row

BUDGET = Budget(least=50_000, unit="rows/s")
PATIENCE = 240.0  # Seconds.
MEANT = {"field": "lifetime_value", "op": "=", "value": 4}  # Every fifth.
TOOK = """
select extract(epoch from c.materialised_at - min(a.started_at)), c.total
from campaigns_campaign c join jobs_job j on j.args->>'campaign' = c.id::text
join jobs_attempt a on a.work_id = j.id
where c.id = %s and j.kind = 'campaigns.materialise' and c.materialised_at is not null
group by c.id
"""
BARE = """
insert into campaigns_message (id, tenant_id, lane, campaign_id, account_key, customer_id, phone,
  params, max_attempts, state)
select uuidv7(), c.tenant_id, 'campaign:x', %(campaign)s, 'account:x', c.id, c.phone,
  jsonb_build_object('name', c.name), 4, 'held'
from pool.customers_customer c where c.tenant_id = %(tenant)s and c.lifetime_value = 4
"""


def measure(stack: Stack, size: Size) -> Iterator[Row]:
    with office(stack, "audience") as place:
        (tenant,) = place.tenants(1, customers=size.audience)
        place.superuser.execute("vacuum analyze pool.customers_customer")
        account = place.account(tenant, {})
        bare = _bare(place, account)
        with (
            stack.web(place.database, workers=1, threads=2) as (port, _),
            stack.worker(place.database, place.environment),
        ):
            campaign = create(stack, port, account, filter=MEANT, quiet_hours=all_day())
            seconds, total = _materialised(place, campaign)
    if total != size.audience // 5:
        raise RuntimeError(f"{total:,} messages, of {size.audience:,} customers.")
    ours, other = total / seconds, total / bare
    name = f"messages made for {total:,} of {size.audience:,} customers"
    yield Row(name, f"{ours:,.0f} rows/s", "", ours, BUDGET)
    yield Row(
        f"{name} / one bare INSERT … SELECT",
        f"{ours:,.0f} rows/s", f"{other:,.0f} rows/s", ours / other,
    )  # fmt: skip


def create(stack: Stack, port: int, account: Account, **wish: Any) -> UUID:
    """A campaign, through the API, of a template that is made for it."""
    headers = {
        "Authorization": f"Bearer {stack.platform_key}",
        "Slipway-Tenant": f"t-{account.tenant}",
        "Content-Type": "application/json",
    }

    def posted(path: str, body: dict[str, Any]) -> Any:
        data = json.dumps(body).encode()
        request = Request(f"http://127.0.0.1:{port}/v1/{path}", data=data, headers=headers)
        with urlopen(request, timeout=60) as answer:
            return json.load(answer)

    template = posted("templates", {"name": uuid4().hex, "text": "Hello {{ name }}"})
    body = {
        "name": "Spring",
        "account_id": f"acc_{account.id}",
        "template_id": template["id"],
        "variables": {"name": {"field": "name"}},
    }
    return UUID(posted("campaigns", body | wish)["id"].removeprefix("cmp_"))


def all_day() -> dict[str, str]:
    """Quiet hours that shut the campaign's lane: nothing is sent meanwhile."""
    hour = time.gmtime().tm_hour
    return {"from": f"{(hour - 1) % 24:02}:00", "until": f"{(hour + 4) % 24:02}:00"}


def _materialised(place: Office, campaign: UUID) -> tuple[float, int]:
    deadline = time.monotonic() + PATIENCE
    while True:
        found = place.superuser.execute(TOOK, [campaign]).fetchone()
        if found:
            return float(found[0]), found[1]
        if time.monotonic() > deadline:
            raise RuntimeError(f"Not materialised after {PATIENCE:g} s.")
        time.sleep(0.05)


def _bare(place: Office, account: Account) -> float:
    """Seconds for the same rows, as no tenant may write them: past all policies, in one go."""
    campaign = account.campaign(0)
    began = time.perf_counter()
    place.superuser.execute(BARE, {"campaign": campaign, "tenant": account.tenant})
    seconds = time.perf_counter() - began
    place.superuser.execute("delete from campaigns_message where campaign_id = %s", [campaign])
    place.superuser.execute("vacuum analyze campaigns_message")
    return seconds
