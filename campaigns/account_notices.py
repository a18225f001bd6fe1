"""What one message's answer says about more than the message: its account, a template, a person.

The engine leaves a job `campaigns.account` in the transaction that settles (jobs.engine.notices):
this is its step. A provider that refuses the account would refuse each message in turn, so the
account is paused at the first, and none of its campaigns sends on; one that refuses a template has
the campaigns paused that send it. The tenant's owners are told of either by mail, once a day.
Whoever has said to the provider that they want no more messages is never written to again.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID, uuid5

from django.db import transaction
from django.template.loader import render_to_string
from django.utils import timezone

from campaigns import account_lanes, accounts, services
from campaigns.errors import AccountNotFound, CampaignNotFound, StaleCampaign
from campaigns.models import Campaign, Message, ProviderAccount
from config.ids import format_id
from customers import consent
from jobs.outcomes import Fail, Outcome, Succeeded
from jobs.services import enqueue
from jobs.states import State
from jobs.steps import Claim
from tenants import hosts
from tenants.context import tenant_context
from tenants.models import Tenant
from webhooks.operational import owners

ACTOR = "system:campaigns"
_PREFIX = "account:"


def notice(claim: Claim) -> Outcome:
    """The job `campaigns.account`: {"lane", "what", "works", "count", "reason"}."""
    args = claim.data["args"]
    steps = {
        "account_refused": _account_refused,
        "template_refused": _template_refused,
        "opted_out": _opted_out,
    }
    step = steps.get(args["what"])
    if step is None:
        return Fail(f"there is no notice {args['what']!r}")
    with tenant_context(claim.tenant):
        step(claim, args)
    return Succeeded()


def _account_refused(claim: Claim, args: Mapping[str, Any]) -> None:
    account_id = _account_id(args)
    account = ProviderAccount.objects.filter(pk=account_id, deleted_at=None).first()
    if account is None:
        return
    if account.updated_at > _begun_at(claim, args):
        # What was refused is the account as it was: that must not hold up what it is now.
        with transaction.atomic():
            account_lanes.begin_afresh(account)
        return
    reason = f"the provider refuses the account: {args['reason']}"[:200]
    with transaction.atomic():
        try:
            accounts.pause(account_id=account_id, reason=reason, actor=ACTOR)
        except AccountNotFound:  # Deleted meanwhile.
            return
        words = {
            "account_id": format_id("acc", account_id),
            "account_name": account.name,
            "reason": args["reason"],
        }
        mail(claim.tenant_id, "account_refused", account_id, words)


def _template_refused(claim: Claim, args: Mapping[str, Any]) -> None:
    messages = Message.objects.filter(pk__in=args["works"])
    for campaign in Campaign.objects.filter(pk__in=messages.values("campaign_id")).order_by("id"):
        reason = f"the provider refuses its template: {args['reason']}"
        with transaction.atomic():
            try:
                services.pause(campaign_id=campaign.pk, actor=ACTOR, reason=reason)
            except (CampaignNotFound, StaleCampaign):  # Paused already, or at its end.
                continue
            words = {
                "campaign_id": format_id("cmp", campaign.pk),
                "campaign_name": campaign.name,
                "reason": args["reason"],
            }
            mail(claim.tenant_id, "template_refused", campaign.pk, words)


def _opted_out(claim: Claim, args: Mapping[str, Any]) -> None:
    messages = Message.objects.filter(pk__in=args["works"])
    if args["count"] > len(args["works"]):  # A notice names a hundred: the others are like them.
        messages = Message.objects.filter(
            campaign_id__in=messages.values("campaign_id"),
            state__in=[State.DEAD_LETTER, State.UNKNOWN],
            last_error=args["reason"],
        )
    source = f"provider:{format_id('acc', _account_id(args))}"
    for phone in set(messages.exclude(phone="").values_list("phone", flat=True)):
        consent.withdraw(phone=phone, source=source)


def _account_id(args: Mapping[str, Any]) -> UUID:
    """The account whose lane the notice is about."""
    return UUID(args["lane"].removeprefix(_PREFIX))


def _begun_at(claim: Claim, args: Mapping[str, Any]) -> datetime:
    """When the tries began that the notice is about: with the account as it was then."""
    begun_at = args.get("begun_at")
    return datetime.fromisoformat(begun_at) if begun_at else claim.created_at


def mail(tenant_id: int, name: str, about: UUID, words: Mapping[str, Any]) -> None:
    """One mail to each owner, one a day about the same."""
    tenant = Tenant.objects.get(pk=tenant_id)
    words = {
        **words,
        "tenant_name": tenant.name,
        "tenant_url": hosts.tenant_url(tenant.slug),
    }
    subject = render_to_string(f"campaigns/{name}_subject.txt", words)
    text = render_to_string(f"campaigns/{name}.txt", words)
    for user_id, address in owners(tenant_id):
        enqueue(
            "mail.send",
            tenant_id=tenant_id,
            args={
                "to": [address],
                "subject": " ".join(subject.split()),
                "text": text,
                # RFC 3834: a holiday reply to this mail helps nobody.
                "headers": {"Auto-Submitted": "auto-generated"},
            },
            once=uuid5(about, f"{name} {timezone.now().date()} {user_id}"),
        )
