"""Tenants that live: signed up for real, with people, rows in every kind of table, and files."""

import json
import uuid
from dataclasses import dataclass

from django.core.files.base import ContentFile
from django.test import Client
from django.utils import timezone

from jobs.models import Attempt, DeadLetter, Job, Lane
from jobs.outcomes import Succeeded
from jobs.registry import kind
from jobs.states import State
from tenants import files
from tenants.context import PLATFORM_ID
from tenants.models import Tenant
from tests.campaigns import brought
from tests.jobs.conftest import Engine
from tests.onboarding import world
from tests.onboarding.conftest import SignUpCaller
from tests.people import bearer, platform_key, tenant_key

OPERATOR = "operator"
SECRET = "s3cr3t-header-of-the-tenants"


@dataclass
class Resident:
    """A tenant in use, and by what it would be recognised in the world."""

    tenant: Tenant
    email: str

    @property
    def words(self) -> dict[str, str]:
        """What must not be found anywhere once it is purged."""
        return {
            "email": self.email,
            "slug": self.tenant.slug,
            "uuid": str(self.tenant.uuid),
        }


def settle_in(operator, plan: str = "free", **body) -> Resident:
    """Sign a tenant up and let it become ready, with an owner who came."""
    email = f"{uuid.uuid4().hex[:12]}@{uuid.uuid4().hex[:12]}.example"
    slug = f"r-{uuid.uuid4().hex[:12]}"
    caller = SignUpCaller(token=platform_key(), address=world.fresh_address())
    accepted = caller.sign_up(
        email=email, slug=slug, plan=plan, tenant_name=f"Name {slug}", metadata={"crm": slug},
        external_id=f"x-{slug}", **body,
    )  # fmt: skip
    number = world.provision(operator, accepted)
    world.activate_owner(operator, number)
    return Resident(Tenant.objects.using(OPERATOR).get(pk=number), email)


def furnish(resident: Resident, *, customers: int = 3) -> None:
    """Customers, an endpoint with a secret, an event that waits, a campaign, a file."""
    client, headers = Client(), bearer(tenant_key(resident.tenant))
    send = lambda path, body: _post(client, headers, path, body)  # noqa: E731
    for n in range(customers):
        send(
            "/v1/customers", {"name": f"C{n}", "external_id": f"c{n}", "phone": f"+49301234{n:04}"}
        )
    send(
        "/v1/endpoints",
        {"url": "https://hooks.example/in", "event_types": ["order.paid"],
         "headers": {"X-Token": SECRET}},
    )  # fmt: skip
    send("/v1/events", {"type": "order.paid", "data": {"of": resident.tenant.slug}})
    _campaign(resident.tenant)
    name = f"{files.prefix_of(resident.tenant.pk)}/uploads/{resident.tenant.slug}.txt"
    files.storage().save(name, ContentFile(resident.email.encode()))


def _campaign(tenant: Tenant) -> None:
    """A campaign with messages that wait and one that was sent, tries, a dead letter, a lane."""
    one = brought.campaign(tenant, segment=brought.segment(tenant))
    for n, state in enumerate((State.PENDING, State.SUCCEEDED, State.DEAD_LETTER)):
        message = brought.message(one, n, state)
        Attempt(
            tenant_id=tenant.pk, queue="messages", work_id=message.pk, number=1, drainer=1,
            started_at=timezone.now(), outcome="failed", request={"to": tenant.slug},
        ).save(using=OPERATOR, force_insert=True)  # fmt: skip
    DeadLetter(
        tenant_id=tenant.pk, queue="messages", work_id=message.pk, reason="failed",
        error=tenant.slug,
    ).save(using=OPERATOR, force_insert=True)  # fmt: skip
    brought.skip(one, "no_phone")
    Lane(tenant_id=tenant.pk, key=f"account:{one.account_id}").save(using=OPERATOR)


def _post(client: Client, headers: dict, path: str, body: dict):
    answer = client.post(path, json.dumps(body), content_type="application/json", headers=headers)
    assert answer.status_code < 300, (path, answer.status_code, answer.content)
    return answer.json()


def work(engine: Engine, name: str) -> list:
    """Do the platform's jobs of one kind that may run now; what each came to."""
    came = []
    while claims := engine.claim("jobs", drainer=engine.drainer()):
        for claim in claims:
            outcome = kind(claim.data["kind"]).step(claim)
            engine.settle((claim, outcome))
            if claim.data["kind"] == name and claim.tenant_id == PLATFORM_ID:
                came.append(outcome)
    return came


def due_now(name: str) -> None:
    """Let the platform's jobs of a kind be due."""
    rows = Job.objects.using(OPERATOR).filter(tenant_id=PLATFORM_ID, kind=name)
    rows.filter(state__in=["scheduled", "failed"]).update(state="pending")


def done(outcomes: list) -> bool:
    return bool(outcomes) and outcomes[-1] == Succeeded()
