"""Campaigns from within: services called, jobs and messages done one by one when a test says so."""

from collections import Counter
from contextlib import contextmanager
from datetime import timedelta

from django.utils import timezone

from campaigns import services
from campaigns.models import Campaign, Message, Skip
from campaigns.wishes import Wish
from customers.models import Customer
from jobs.engine import rescue
from jobs.models import Job, Lane
from jobs.registry import kind, queue
from jobs.states import State
from jobs.steps import Claim
from tenants.context import tenant_context
from tests.campaigns import brought
from tests.jobs.conftest import Engine

OPERATOR = "operator"
ACTOR = "api_key:test"
COUNTED = {
    "succeeded": "sent", "dead_letter": "failed", "unknown": "unknown",
    "cancelled": "cancelled", "discarded": "cancelled", "discarding": "cancelled",
}  # fmt: skip


class Clock:
    """The time as the code under test sees it; the database keeps its own."""

    def __init__(self, real) -> None:
        self.real, self.ahead, self.at = real, timedelta(), None

    def __call__(self):
        return self.at or self.real() + self.ahead

    def pass_(self, **span) -> None:
        self.ahead += timedelta(**span)


class Workshop:
    """One tenant's campaigns; the account and the template that they have are made at first use."""

    def __init__(self, tenant, engine: Engine) -> None:
        self.tenant, self.engine = tenant, engine
        self.account = brought.account(tenant)
        self.template = brought.template(tenant, "Hello {{ name }}")

    # ---- Customers ----

    def add(self, *rows):
        with tenant_context(self.tenant):
            return Customer.objects.bulk_create([Customer(**row) for row in rows])

    def add_many(self, count, **fields):
        return self.add(
            *(
                {"name": f"C{n}", "phone": f"+4930{100000 + n}", "consent": "given", **fields}
                for n in range(count)
            )
        )

    # ---- Campaigns ----

    def wish(self, **fields) -> Wish:
        plain = {
            "name": "Spring", "account_id": self.account.pk, "filter": brought.ALL,
            "template_id": self.template.pk, "variables": {"name": {"field": "name"}},
        }  # fmt: skip
        return Wish(**plain | fields)

    def create(self, *, key=None, **fields) -> Campaign:
        with tenant_context(self.tenant):
            return services.create(wish=self.wish(**fields), actor=ACTOR, key=key)[0]

    def do(self, name, campaign, **arguments):
        """Call a service for a campaign."""
        with tenant_context(self.tenant):
            return getattr(services, name)(campaign_id=campaign.pk, actor=ACTOR, **arguments)

    def running(self, count=3, **fields) -> Campaign:
        """A campaign that sends, with so many messages."""
        self.add_many(count)
        campaign = self.create(**fields)
        self.work()
        return self.fresh(campaign)

    def fresh(self, campaign) -> Campaign:
        return Campaign.objects.using(OPERATOR).get(pk=campaign.pk)

    def messages(self, campaign, **fields):
        rows = Message.objects.using(OPERATOR).filter(campaign_id=campaign.pk, **fields)
        return rows.order_by("id")

    def skips(self, campaign) -> dict[str, int]:
        rows = Skip.objects.using(OPERATOR).filter(campaign_id=campaign.pk)
        return dict(Counter(rows.values_list("reason", flat=True)))

    def lane(self, campaign) -> Lane | None:
        return Lane.objects.using(OPERATOR).filter(key=campaign.lane).first()

    def is_shut(self, campaign) -> bool:
        lane = self.lane(campaign)
        return lane is not None and lane.paused_until is not None

    def counted(self, campaign) -> dict[str, int]:
        """The counters as the messages themselves say."""
        rows = self.messages(campaign, test=False)
        found = Counter(
            COUNTED.get(state, "open") for state in rows.values_list("state", flat=True)
        )
        names = ("sent", "failed", "unknown", "cancelled")
        return {name: found[name] for name in names} | {"total": found.total()}

    def counters(self, campaign) -> dict[str, int]:
        """The counters as the campaign's row says."""
        row = self.fresh(campaign)
        return {
            name: getattr(row, name) for name in ("sent", "failed", "unknown", "cancelled", "total")
        }

    # ---- Jobs ----

    def jobs(self, *kinds):
        rows = Job.objects.using(OPERATOR).filter(tenant_id=self.tenant.pk)
        return rows.filter(kind__in=kinds) if kinds else rows

    def waiting(self) -> list[str]:
        """The kinds of the jobs that are not done."""
        rows = self.jobs().filter(state__in=[State.PENDING, State.SCHEDULED, State.FAILED])
        return sorted(rows.values_list("kind", flat=True))

    def claims(self) -> list[Claim]:
        """The tenant's next jobs, in this test's hands."""
        return self.engine.claim("jobs", drainer=self.engine.drainer())

    def claim(self, name: str) -> Claim:
        """The tenant's next job of this kind, of which there is one."""
        (claim,) = (claim for claim in self.claims() if claim.data["kind"] == name)
        return claim

    def work(self) -> list[str]:
        """Do the jobs that may run until there is none; which kinds they were."""
        done = []
        self.due()
        while claims := self.claims():
            for claim in claims:
                self.settle(claim)
                done.append(claim.data["kind"])
        return done

    def settle(self, claim: Claim):
        """Do one job, and settle what it came to."""
        outcome = kind(claim.data["kind"]).step(claim)
        self.engine.settle((claim, outcome))
        return outcome

    def due(self) -> None:
        """What the promoter does, by the clock of the test."""
        late = self.jobs().filter(state__in=[State.SCHEDULED, State.FAILED])
        late.filter(due_at__lte=timezone.now()).update(state=State.PENDING)

    # ---- Messages ----

    def take(self, slots=8) -> list[Claim]:
        """Messages that go out now."""
        return self.engine.claim("messages", drainer=self.engine.drainer(), slots=slots)

    def rescue(self) -> None:
        """Close what drainers held that are dead."""
        engine = self.engine
        engine.run(rescue.declare_dead(engine.connection))
        engine.run(rescue.close_lost(engine.connection, [queue("messages")]))

    def send(self, outcome, most=1000) -> int:
        """Let messages, as many as may go out, come to this; how many they were."""
        sent = 0
        while sent < most and (claims := self.take(min(8, most - sent))):
            self.engine.settle(*((claim, outcome) for claim in claims))
            sent += len(claims)
        return sent


@contextmanager
def swapped(object_, name, value):
    """An attribute has another value in the block."""
    before = getattr(object_, name)
    setattr(object_, name, value)
    try:
        yield
    finally:
        setattr(object_, name, before)
