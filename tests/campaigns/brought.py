"""What a campaign is made of, and campaigns with messages of every state: rows, past services."""

from django.utils import timezone

from campaigns.models import Campaign, Message, ProviderAccount, Segment, Skip, Template
from jobs.states import State
from tenants.context import tenant_context

ALL = {"all": []}


def account(tenant, **fields):
    with tenant_context(tenant):
        return ProviderAccount.objects.create(
            **{
                "name": "Sandbox", "provider": "sandbox", "base_url": "http://127.0.0.1:1",
                "sender": "s-1", "credentials": "kept-encrypted-and-not-shown", "options": {},
            } | fields
        )  # fmt: skip


def template(tenant, text="Hello", **fields):
    with tenant_context(tenant):
        return Template.objects.create(**{"name": "Greeting", "text": text} | fields)


def segment(tenant, filter=None, **fields):
    with tenant_context(tenant):
        return Segment.objects.create(**{"name": "All", "filter": filter or ALL} | fields)


def campaign(tenant, **fields):
    """One that runs, unless `fields` say otherwise; its account is made with it."""
    made = fields.pop("account", None) or account(tenant, name=f"Account {timezone.now()}")
    now = timezone.now()
    with tenant_context(tenant):
        one = Campaign.objects.create(
            **{
                "name": "Spring", "state": "running", "account": made, "filter": ALL,
                "actor": "system:test", "started_at": now, "materialised_at": now,
                "content": {"text": "Hello", "external_name": "", "language": "en"},
            } | fields
        )  # fmt: skip
        one.refresh_from_db()
    one.owner = tenant.ref  # A query for it would need a tenant.
    return one


def message(campaign, n, state=State.PENDING, **fields):
    """The campaign's message to the n-th number."""
    finished = timezone.now() if state in (State.SUCCEEDED, State.CANCELLED) else None
    with tenant_context(campaign.owner):
        return Message.objects.create(
            **{
                "campaign": campaign, "lane": campaign.lane, "max_attempts": 3, "state": state,
                "account_key": f"account:{campaign.account_id}", "phone": f"+4930{100000 + n}",
                "finished_at": finished,
            } | fields
        )  # fmt: skip


def skip(campaign, reason, **fields):
    with tenant_context(campaign.owner):
        return Skip.objects.create(campaign=campaign, reason=reason, **fields)
