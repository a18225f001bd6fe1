"""An operator at the console, and a bit of everything that its lists show."""

from datetime import timedelta
from uuid import uuid4

from django.db import connections
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from console.models import Bulk
from jobs.models import Attempt, DeadLetter, Drainer, Job, Lane, Replay
from jobs.states import State
from lifecycle.models import Closure, Export, PlanMove
from onboarding.models import PendingOnboarding, ProvisionedResource
from tenants import audit
from tenants.routers import as_operator
from tests.campaigns import brought
from tests.people import PASSWORD, Browser, make_user, platform_key, tenant_key
from tests.webhooks.ears import listen, publish_in
from webhooks.models import Delivery, EventType

OPERATOR = "operator"


def signed_in() -> Browser:
    """A browser in which an operator has signed in."""
    browser = Browser()
    staff = make_user(staff=True)
    browser.post("/console/login/?next=/console/", username=staff.email, password=PASSWORD)
    return browser


def shown(browser: Browser, path: str) -> str:
    """A page of the console, which is there."""
    answer = browser.get(f"/console/{path}")
    assert answer.status_code == 200, (path, answer.status_code, answer.get("Location"))
    return answer.content.decode()


def asked(browser: Browser, path: str) -> list[str]:
    """The statements that a page asks the database."""
    with CaptureQueriesContext(connections[OPERATOR]) as captured:
        shown(browser, path)
    return [query["sql"] for query in captured]


def made(model, /, **columns):
    """A row as it stands, past all services."""
    row = model(**columns)
    row.save(using=OPERATOR, force_insert=True)
    return row


def job(tenant, **columns):
    said = {"kind": "mail.send", "lane": f"jobs:{tenant.pk}", "max_attempts": 5}
    return made(Job, tenant_id=tenant.pk, **(said | columns))


def attempt(work, queue: str, number: int = 1, **columns):
    said = {
        "started_at": timezone.now() + timedelta(milliseconds=number),
        "duration_ms": 12,
        "outcome": "retry",
        "error": "HTTP 503",
        "drainer": 1,
    }
    ids = {"tenant_id": work.tenant_id, "work_id": work.pk, "queue": queue, "number": number}
    return made(Attempt, **(ids | said | columns))


def letter(work, queue: str, **columns):
    ids = {"tenant_id": work.tenant_id, "work_id": work.pk, "queue": queue}
    said = {"reason": "exhausted", "error": "HTTP 503"}
    return made(DeadLetter, **(ids | said | columns))


def sign_up(tenant, **columns):
    said = {
        "lane": f"onboarding:{tenant.pk}", "max_attempts": 8, "slug": tenant.slug,
        "email": "ada@example.org", "tenant_name": "Ada", "plan": "free", "home": "pooled",
        "caller": "anonymous", "fingerprint": b"\0" * 32,
    }  # fmt: skip
    return made(PendingOnboarding, tenant_id=tenant.pk, **(said | columns))


def everything(tenant) -> dict[str, object]:
    """One row of each list, at least: "app/model" → a row of it."""
    endpoint = listen(tenant.ref)
    event = publish_in(tenant)
    delivery = Delivery.objects.using(OPERATOR).get(event_id=event.pk)
    sign = sign_up(tenant, state=State.DEAD_LETTER, attempts=2, last_error="owner: HTTP 500")
    account = brought.account(tenant)
    campaign = brought.campaign(tenant, account=account, total=4, sent=1)
    message = brought.message(campaign, 1)
    with as_operator():
        entry = audit.record(actor="system:test", action="work.replayed", tenant_id=tenant.pk,
                             target=f"deliveries:{delivery.pk}", reason="to see it")  # fmt: skip
    replay = made(
        Replay, tenant_id=tenant.pk, queue="deliveries", action="replay", selection={},
        actor="system:test", reason="all", total=1,
    )  # fmt: skip
    rows = {
        "onboarding/pendingonboarding": sign,
        "onboarding/provisionedresource": made(
            ProvisionedResource, id=uuid4(), tenant_id=tenant.pk, step="tenant", name="t", lease=1
        ),
        "jobs/job": job(tenant),
        "webhooks/delivery": delivery,
        "campaigns/message": message,
        "jobs/attempt": attempt(delivery, "deliveries", 1, response={"status": 503}),
        "jobs/deadletter": letter(sign, "onboarding", response={"status": 500, "body": "no"}),
        "webhooks/event": event,
        "webhooks/endpoint": endpoint,
        "webhooks/eventtype": made(EventType, name=f"a.{uuid4().hex[:8]}"),
        "campaigns/provideraccount": account,
        "campaigns/campaign": campaign,
        "campaigns/segment": brought.segment(tenant),
        "campaigns/template": brought.template(tenant),
        "jobs/lane": made(Lane, tenant_id=tenant.pk, key=endpoint.lane, failures=3),
        "jobs/replay": replay,
        "jobs/drainer": made(Drainer, host="here", pid=1, slots=8),
        "tenants/auditentry": entry,
        "tenants/tenant": tenant,
    }
    return rows | people(tenant) | lives(tenant)


def lives(tenant) -> dict[str, object]:
    """What happened to a tenant after its sign-up, and what was begun in bulk."""
    said = {"tenant_id": tenant.pk, "actor": "system:test", "reason": "to see it"}
    now = timezone.now()
    move = {"plan_before": "free", "plan_after": "free", "home_before": "pooled"}
    return {
        "lifecycle/planmove": made(PlanMove, **said, **move, home_after="pooled", finished_at=now),
        "lifecycle/export": made(Export, **said, file="exports/gone.zip", finished_at=now),
        "lifecycle/closure": made(Closure, **said, closes_at=now, finished_at=now),
        "console/bulk": made(
            Bulk,
            model="jobs.job",
            act="replay",
            user_id=make_user(tenant).pk,
            reason="all",
            total=1,
        ),
    }


def people(tenant) -> dict[str, object]:
    """Who and what may sign in."""
    from tenants.models import ApiKey, Domain, Membership, PlatformKey

    user = make_user(tenant)
    key, platform = tenant_key(tenant), platform_key()
    with as_operator():
        return {
            "tenants/user": user,
            "tenants/membership": Membership.objects.get(user=user),
            "tenants/apikey": ApiKey.objects.get(prefix=key.split("_")[1]),
            "tenants/platformkey": PlatformKey.objects.get(prefix=platform.split("_")[1]),
            "tenants/domain": Domain.objects.filter(tenant_id=tenant.pk).first(),
        }
