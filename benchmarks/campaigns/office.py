"""Where campaigns are measured: a database, a sandbox that receives, and tenants who send.

Customers, accounts, campaigns and messages are written straight into the tables: what is measured
is what comes after. Times of sending are read from the sandbox's ledger, which is nobody's claim.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.request import Request, urlopen
from uuid import UUID, uuid4

import psutil
import psycopg

from benchmarks.stack import ROOT, Stack, free_port, wait_for, wait_until_answers

PATIENCE = 240.0  # Seconds for one measurement.
CUSTOMERS = """
insert into pool.customers_customer (id, tenant_id, name, phone, email, attributes, lifetime_value,
  consent, created_at, updated_at)
select uuidv7(), %(tenant)s, 'Customer ' || n, '+49' || (%(tenant)s * 10000000 + n),
  'c' || n || '@example.com', jsonb_build_object('city', (array['Ulm', 'Berlin'])[1 + n %% 2]),
  n %% 5, 'given', now(), now()
from generate_series(1, %(count)s) n
"""
ACCOUNT = """
insert into campaigns_provideraccount (id, tenant_id, name, provider, base_url, sender, credentials,
  options, rate, max_in_flight, mode, status, paused_reason)
values (%(id)s, %(tenant)s, %(sender)s, 'sandbox', %(url)s, %(sender)s, %(credentials)s, '{}',
  %(rate)s, %(slots)s, %(mode)s, 'active', '')
"""
CAMPAIGN = """
insert into campaigns_campaign (id, tenant_id, name, state, account_id, filter, brief, generator,
  variables, content, time_zone, on_unknown, reason, actor, total, materialised_at, started_at)
values (%(id)s, %(tenant)s, 'Spring', 'running', %(account)s, '{"all": []}', '{}', 'template', '{}',
  '{"text": "Hello {{ name }}", "external_name": "", "language": "en"}', 'UTC', 'hold', '',
  'system:benchmarks', %(count)s, now(), now())
"""
MESSAGES = """
insert into campaigns_message (id, tenant_id, lane, campaign_id, account_key, customer_id, phone,
  params, max_attempts)
select uuidv7(), c.tenant_id, 'campaign:' || %(campaign)s, %(campaign)s, 'account:' || %(account)s,
  c.id, c.phone, jsonb_build_object('name', c.name), 4
from pool.customers_customer c where c.tenant_id = %(tenant)s and not exists (
  select from campaigns_message m where m.tenant_id = c.tenant_id
  and m.campaign_id = %(campaign)s and m.phone = c.phone)
order by c.id limit %(count)s
returning id
"""
HOLD = """
insert into jobs_lane (tenant_id, key, paused_until) values (%s, %s, %s)
on conflict (tenant_id, key) do update set paused_until = excluded.paused_until
"""
DONE = "select count(*) from campaigns_message where campaign_id = %s and finished_at is not null"
LASTED = """
select extract(epoch from max(m.finished_at) - min(a.started_at))
from campaigns_message m join jobs_attempt a on a.tenant_id = m.tenant_id and a.work_id = m.id
where m.campaign_id = %s
"""


class Office:
    """A database of its own, a sandbox, and what processes need to find both."""

    def __init__(self, stack: Stack, database: str, port: int) -> None:
        from campaigns.providers import sealed

        self.stack = stack
        self.database = database
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.environment = {
            **stack.environment(database),
            "WEBHOOK_OPEN_DESTINATIONS": f"127.0.0.1:{port}",
        }
        self.superuser = stack.connect(database, "postgres")
        self._credentials = sealed({"key": "benchmarks"})

    # ---- Who sends ----

    def tenants(self, many: int, *, customers: int) -> list[int]:
        """New tenants with so many customers each."""
        command = [sys.executable, "-m", "benchmarks.crowd", "endpoints"]
        options = {"tenants": many, "each": 0, "urls": []}
        made = subprocess.run(
            [*command, json.dumps(options)],
            cwd=ROOT, env=os.environ | self.environment, stdout=subprocess.PIPE, check=True,
        )  # fmt: skip
        numbers: list[int] = json.loads(made.stdout)
        for number in numbers:
            self.superuser.execute(CUSTOMERS, {"tenant": number, "count": customers})
        self.superuser.execute("analyze pool.customers_customer")
        return numbers

    def account(
        self,
        tenant: int,
        profile: dict[str, Any],
        *,
        rate: float | None = None,
        slots: int | None = None,
        mode: str = "adaptive",
    ) -> "Account":
        """An account of a tenant's, and how the sandbox treats its sender."""
        account = Account(self, tenant, uuid4(), uuid4().hex)
        self.ask("PUT", f"/control/accounts/{account.sender}", profile)
        self.superuser.execute(
            ACCOUNT,
            {
                "id": account.id, "tenant": tenant, "sender": account.sender, "url": self.url,
                "credentials": self._credentials, "rate": rate, "slots": slots, "mode": mode,
            },
        )  # fmt: skip
        return account

    # ---- Who works ----

    @contextmanager
    def drainer(self, **variables: str) -> Iterator[psutil.Process]:
        """`manage.py drain`, claiming when this returns."""
        command = (sys.executable, "manage.py", "drain")
        with self.stack.process(*command, **self.environment | variables) as process:
            registered = f"select exists (select from jobs_drainer where pid = {process.pid})"
            wait_for(self.superuser, registered, process)
            yield process

    # ---- What came of it ----

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """What the sandbox's control answers."""
        data = None if body is None else json.dumps(body).encode()
        request = Request(f"{self.url}{path}", data=data, method=method)
        with urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def one(self, query: str, *values: Any) -> Any:
        row = self.superuser.execute(query, values).fetchone()
        return row[0] if row else None


class Account:
    """A tenant's account at the sandbox."""

    def __init__(self, office: Office, tenant: int, id: UUID, sender: str) -> None:
        self.office, self.tenant, self.id, self.sender = office, tenant, id, sender

    def campaign(self, messages: int, *, of: int | None = None) -> UUID:
        """A running campaign; `of` more messages than these are yet to come (add)."""
        made = uuid4()
        values = {"id": made, "tenant": self.tenant, "account": self.id}
        self.office.superuser.execute(CAMPAIGN, values | {"count": of or messages})
        if messages:
            self.add(made, messages)
        return made

    def add(self, campaign: UUID, messages: int) -> list[UUID]:
        """Messages of a campaign to more customers, in one transaction, and the hint after it."""
        from jobs import hints

        values = {"campaign": campaign, "tenant": self.tenant, "account": self.id}
        rows = self.office.superuser.execute(MESSAGES, values | {"count": messages}).fetchall()
        if len(rows) != messages:
            raise RuntimeError(f"The tenant has {len(rows)} customers, not {messages}.")
        hints.send("messages", self.tenant)
        return [row[0] for row in rows]

    def hold(self, campaign: UUID, held: bool) -> None:
        """Have a campaign's messages wait, or go on."""
        from jobs import hints

        until = "2100-01-01" if held else None
        self.office.superuser.execute(HOLD, [self.tenant, f"campaign:{campaign}", until])
        hints.send("messages")

    def ledger(self) -> dict[str, Any]:
        found: dict[str, Any] = self.office.ask("GET", f"/control/ledger?sender={self.sender}")
        return found

    def arrivals(self) -> dict[str, float]:
        """When each message was accepted first, in seconds since 1970, by its id."""
        came: dict[str, float] = {}
        url = f"{self.office.url}/control/ledger.jsonl?sender={self.sender}"
        with urlopen(url, timeout=60) as lines:
            for line in map(json.loads, lines):
                came.setdefault(line["key"], line["at"])
        return came

    def wait_finished(self, campaign: UUID, messages: int) -> float:
        """Seconds from the first try to the last settled message, once all are."""
        deadline = time.monotonic() + PATIENCE
        while (done := self.office.one(DONE, campaign)) < messages:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{done} of {messages} messages after {PATIENCE:g} s.")
            time.sleep(0.1)
        return float(self.office.one(LASTED, campaign))


@contextmanager
def office(stack: Stack, name: str) -> Iterator[Office]:
    """An office, while the block runs."""
    port = free_port()
    command = (sys.executable, "-m", "campaigns.sandbox", "--port", str(port))
    with stack.database(name) as database, stack.process(*command) as sandbox:
        wait_until_answers(f"http://127.0.0.1:{port}/healthz", sandbox)
        place = Office(stack, database, port)
        try:
            yield place
        finally:
            place.superuser.close()


def write_customers(superuser: psycopg.Connection[Any], tenant: int, many: int) -> None:
    """More of a tenant's customers than `tenants` should make one after the other."""
    superuser.execute(CUSTOMERS, {"tenant": tenant, "count": many})
    superuser.execute("vacuum analyze pool.customers_customer")
