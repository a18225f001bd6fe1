"""A tenant's move in a test's hands: asked for by the API, done step by step."""

from contextlib import contextmanager

import psycopg
from django.db import transaction

from customers.models import Customer
from jobs.models import Job
from jobs.outcomes import Snooze, Succeeded
from jobs.registry import kind
from lifecycle.models import PlanMove
from lifecycle.moving import running
from tenants.context import tenant_context
from tenants.models import Tenant
from tests.customers.desk import Desk
from tests.people import bearer, platform_key

OPERATOR = "operator"


class Removal:
    """One tenant, the platform's API, and the drainer's part played by the test."""

    def __init__(self, client, tenant, engine, operator: psycopg.Connection) -> None:
        self.client, self.number, self.engine, self.operator = client, tenant.pk, engine, operator
        self.slug = tenant.slug
        self.desk = Desk(client, tenant, engine)
        self.platform = bearer(platform_key())

    @property
    def tenant(self) -> Tenant:
        return Tenant.objects.using(OPERATOR).get(pk=self.number)

    @property
    def move(self) -> PlanMove:
        return PlanMove.objects.using(OPERATOR).filter(tenant_id=self.number).latest("id")

    @property
    def job(self) -> Job:
        return Job.objects.using(OPERATOR).get(pk=self.move.pk)

    @property
    def path(self) -> str:
        return f"/v1/tenants/{self.slug}/plan"

    def ask(self, plan: str, reason: str = "They pay now."):
        return self.client.post(
            self.path, {"plan": plan, "reason": reason}, content_type="application/json",
            headers=self.platform,
        )  # fmt: skip

    def told(self):
        return self.client.get(self.path, headers=self.platform).json()

    def run_once(self):
        """Claim the move's job, if it may run, and do a stretch of it; what that came to."""
        Job.objects.using(OPERATOR).filter(
            tenant_id=self.number, kind="tenants.move", state__in=["scheduled", "failed"]
        ).update(state="pending")
        came = None
        while came is None and (claims := self.engine.claim("jobs", drainer=self.engine.drainer())):
            for claim in claims:  # Others' too, which earlier tests left.
                outcome = kind(claim.data["kind"]).step(claim)
                self.engine.settle((claim, outcome))
                if (claim.data["kind"], claim.tenant_id) == ("tenants.move", self.number):
                    came = outcome
        return came

    def until(self, phase: str, meanwhile=lambda: None) -> None:
        """Go on, one transaction at a time, until the move stands at a phase."""
        for _ in range(100):
            if self.move.phase == phase:
                return
            outcome = self.run_once()
            assert outcome == Succeeded() or isinstance(outcome, Snooze), outcome
            meanwhile()
        raise AssertionError(f"It stands at {self.move.phase}.")

    def through(self):
        """Go on until it is at its end, or stops; what that came to."""
        outcome = Snooze(0.0, "")
        while outcome == Snooze(0.0, outcome.reason):
            outcome = self.run_once()
            if not isinstance(outcome, Snooze):
                break
        return outcome

    def rows(self, schema: str, table: str = "customers_customer") -> dict:
        """A home's customers, past row-level security."""
        found = self.operator.execute(
            f"select id, name, external_id, phone from {schema}.{table} where tenant_id = %s",
            [self.number],
        )
        return {row[0]: row[1:] for row in found.fetchall()}

    @property
    def home(self) -> str:
        return self.tenant.search_schema

    def has_schema(self) -> bool:
        found = self.operator.execute(
            "select 1 from pg_namespace where nspname = %s", [f"t_{self.number}"]
        )
        return found.fetchone() is not None

    def triggers(self) -> int:
        found = self.operator.execute(
            "select count(*) from pg_trigger where tgname like %s",
            [f"slipway_moving_{self.number}_%"],
        )
        return found.fetchone()[0]

    def write(self, **fields) -> Customer:
        with tenant_context(self.tenant):
            return Customer.objects.create(**fields)

    @contextmanager
    def writing(self):
        """The tenant's own code, in a transaction."""
        with tenant_context(self.tenant), transaction.atomic():
            yield Customer.objects


def step_by_step(monkeypatch) -> None:
    """Let each run of the job end after one transaction."""
    monkeypatch.setattr(running, "STRETCH", 0.0)
