"""Operators of each role, the pages of acts, and an object that each act fits."""

import re
import uuid
from functools import cached_property
from html import unescape

from django.contrib.auth.models import Group
from django.urls import reverse

from config.admin.acts import standing
from console.models import Bulk
from jobs.models import DeadLetter, Job, Lane, Replay
from tenants.models import ApiKey, AuditEntry, PlatformKey, User
from tenants.routers import as_operator
from tests.campaigns import brought
from tests.console.operators import job, letter, made, sign_up
from tests.people import (
    PASSWORD,
    Browser,
    csrf_token,
    make_user,
    platform_key,
    prefix_of,
    tenant_key,
)
from tests.webhooks.ears import listen, publish_in
from webhooks.models import Delivery

OPERATOR = "operator"


class Signed:
    """Somebody of one role, signed in."""

    def __init__(self, role: str) -> None:
        self.role = role
        self.user = make_user(staff=True)
        with as_operator():
            User.objects.filter(pk=self.user.pk).update(is_superuser=False)
            self.user.groups.set([Group.objects.get(name=role)])
        self.browser = Browser()
        said = {"username": self.user.email, "password": PASSWORD}
        assert self.browser.post("/console/login/?next=/console/", **said).status_code == 302

    @property
    def actor(self) -> str:
        return f"operator:{self.user.pk}"

    def get(self, url: str):
        return self.browser.get(url)

    def html(self, url: str) -> str:
        answer = self.get(url)
        assert answer.status_code == 200, (url, answer.status_code)
        return answer.content.decode()

    def post(self, url: str, **fields):
        """Post to an act's page, by hand: whether it shows a form or not."""
        sent = {"csrfmiddlewaretoken": self.token, **fields}
        return self.browser.client.post(url, sent, headers=self.browser.headers)

    @cached_property
    def token(self) -> str:
        return csrf_token(self.html("/console/webhooks/eventtype/"))

    def confirm(self, url: str, **fields):
        """Open an act's page, fill its form in and send it."""
        html = self.html(url)
        hidden = re.findall(r'name="(seen|once)" value="([^"]*)"', html)
        sent = {}
        for name, value in hidden:
            sent.setdefault(name, []).append(unescape(value))
        return self.post(url, **{**sent, **fields})

    def told(self, answer) -> str:
        """What the page says that follows."""
        assert answer.status_code == 302, answer.content.decode()[:2000]
        html = self.get(answer["Location"]).content.decode()
        return " ".join(re.findall(r'<li class="(?:success|warning|error)">(.*?)</li>', html))


def act_url(row, act: str, *more) -> str:
    """The address of an act's page, for some objects."""
    name = f"admin:{row._meta.app_label}_{row._meta.model_name}_act"
    ids = "&".join(f"act.row={one.pk}" for one in (row, *more))
    return f"{reverse(name, args=[act])}?{ids}"


def seen(*rows) -> list[str]:
    """What the page would have hidden in its form."""
    return [f"{row.pk}={standing(fresh(row))}" for row in rows]


def fresh(row):
    with as_operator():
        return type(row)._base_manager.using(OPERATOR).get(pk=row.pk)


def entries(reason: str) -> list[AuditEntry]:
    return list(AuditEntry.objects.using(OPERATOR).filter(reason=reason).order_by("at", "id"))


# ---- An object that fits ----


def dead(work, queue: str):
    """As the engine leaves it."""
    type(work).objects.using(OPERATOR).filter(pk=work.pk).update(
        state="dead_letter", attempts=3, last_error="HTTP 503"
    )
    letter(work, queue)
    return fresh(work)


def dead_job(tenant, **columns):
    return dead(job(tenant, kind="act", **columns), "jobs")


def dead_letter(tenant):
    return DeadLetter.objects.using(OPERATOR).get(work_id=dead_job(tenant).pk)


def waiting(row):
    type(row).objects.using(OPERATOR).filter(pk=row.pk).update(
        state="failed", attempts=1, last_error="HTTP 503", due_at="2100-01-01T00:00Z"
    )
    return fresh(row)


def delivery(tenant, **columns):
    listen(tenant.ref, **columns)
    event = publish_in(tenant)
    return Delivery.objects.using(OPERATOR).filter(event_id=event.pk).order_by("-id")[0]


def message(tenant):
    return brought.message(brought.campaign(tenant, total=1), 1)


def campaign(tenant, **columns):
    made_one = brought.campaign(tenant, total=1, **columns)
    brought.message(made_one, 1)
    return fresh(made_one)


def lane(tenant):
    return made(Lane, tenant_id=tenant.pk, key=f"endpoint:{uuid.uuid4()}")


def replay(tenant):
    return made(
        Replay, tenant_id=tenant.pk, queue="jobs", action="replay", selection={},
        actor="system:test", reason="all", total=1,
    )  # fmt: skip


def stuck_replay(tenant):
    one = replay(tenant)
    dead_job(tenant, id=one.pk)
    return one


def bulk(tenant):
    row = Bulk(model="jobs.job", act="replay", user_id=make_user().pk, reason="all", total=1)
    row.save(using=OPERATOR, force_insert=True)
    return row


def stuck_bulk(tenant):
    one = bulk(tenant)
    dead_job(tenant, id=one.pk)
    return one


def key(tenant):
    prefix = prefix_of(tenant_key(tenant))
    return ApiKey.objects.using(OPERATOR).get(prefix=prefix)


def a_platform_key(tenant):
    prefix = prefix_of(platform_key())
    return PlatformKey.objects.using(OPERATOR).get(prefix=prefix)


def suspended(tenant):
    type(tenant).objects.using(OPERATOR).filter(pk=tenant.pk).update(status="suspended")
    return fresh(tenant)


def works(queue: str, make) -> dict:
    """The acts on works of a queue: act → (an object that it fits, form, audit action)."""
    return {
        "replay": (lambda tenant: dead(make(tenant), queue), {}, "work.replayed"),
        "retry": (lambda tenant: waiting(make(tenant)), {}, "work.retried"),
        "discard": (lambda tenant: dead(make(tenant), queue), {}, "work.discarded"),
        "cancel": (make, {}, "work.cancelled"),
    }


def lanes(make) -> dict:
    return {
        "pause-lane": (make, {"hours": "4"}, "lane.paused"),
        "resume-lane": (make, {}, "lane.resumed"),
        "set-window": (make, {"window": "3"}, "lane.window_set"),
        "set-rate": (make, {"rate": "0.5"}, "lane.rate_set"),
    }


ACTS: dict[str, dict] = {
    "jobs/job": works("jobs", lambda tenant: job(tenant, kind="act")),
    "jobs/deadletter": {
        "replay": (dead_letter, {}, "work.replayed"),
        "discard": (dead_letter, {}, "work.discarded"),
    },
    "jobs/lane": lanes(lane),
    "jobs/replay": {
        "stop": (replay, {}, "works.replay_cancelled"),
        "go-on": (stuck_replay, {}, "work.replayed"),
    },
    "webhooks/delivery": works("deliveries", delivery)
    | {"skip": (lambda tenant: delivery(tenant, ordered=True), {}, "work.cancelled")},
    "webhooks/endpoint": lanes(lambda tenant: listen(tenant.ref))
    | {
        "disable": (lambda tenant: listen(tenant.ref), {}, "endpoint.disabled"),
        "enable": (
            lambda tenant: listen(tenant.ref, disabled_at="2026-01-01T00:00Z"),
            {"discard": "on"},
            "endpoint.enabled",
        ),
    },
    "onboarding/pendingonboarding": {
        "resume": (lambda tenant: dead(sign_up(tenant), "onboarding"), {}, "work.replayed"),
        "retry": (lambda tenant: waiting(sign_up(tenant)), {}, "work.retried"),
        "undo": (lambda tenant: dead(sign_up(tenant), "onboarding"), {}, "work.discarded"),
    },
    "campaigns/message": works("messages", message),
    "campaigns/campaign": lanes(campaign)
    | {
        "pause": (campaign, {}, "campaign.paused"),
        "resume": (lambda tenant: campaign(tenant, state="paused"), {}, "campaign.resumed"),
        "cancel": (campaign, {}, "campaign.cancelled"),
    },
    "campaigns/provideraccount": lanes(brought.account)
    | {
        "pause": (brought.account, {}, "account.paused"),
        "resume": (lambda tenant: brought.account(tenant, status="paused"), {}, "account.resumed"),
    },
    "tenants/tenant": lanes(lambda tenant: tenant)
    | {
        "suspend": (lambda tenant: tenant, {}, "tenant.suspended"),
        "reopen": (suspended, {}, "tenant.reopened"),
        "plan": (lambda tenant: tenant, {"plan": "pro"}, "tenant.plan_changing"),
        "export": (lambda tenant: tenant, {}, "tenant.export_begun"),
        "close": (lambda tenant: tenant, {"slug": lambda row: row.slug}, "tenant.closing"),
    },
    "tenants/apikey": {"revoke": (key, {}, "key.revoked")},
    "tenants/platformkey": {"revoke": (a_platform_key, {}, "platform_key.revoked")},
    "tenants/user": {"erase": (lambda tenant: make_user(), {}, "person.erased")},
    "console/bulk": {
        "stop": (bulk, {}, "bulk.cancelled"),
        "go-on": (stuck_bulk, {}, "work.replayed"),
    },
}


def jobs_of(tenant) -> list[Job]:
    return list(Job.objects.using(OPERATOR).filter(tenant_id=tenant.pk).order_by("id"))
