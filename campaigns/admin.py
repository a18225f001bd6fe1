"""Accounts, segments, templates, campaigns and messages in the console: shown, never edited.

No credentials, and of customers no more than a message's own row has. Numbers are the campaign's
counters: nothing is counted here.
"""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from campaigns import acts
from campaigns.lanes import QUEUE
from campaigns.models import Campaign, Message, ProviderAccount, Segment, Skip, Template
from campaigns.progress import Standing
from jobs.admin import SoughtById
from jobs.models import Attempt, Lane
from tenants.models import TenantOwned

SHOWN = 50  # Attempts of a message, skips of a campaign.


@admin.register(ProviderAccount)
class ProviderAccountAdmin(SoughtById):
    list_display = ("id", "tenant_id", "name", "provider", "status", "rate", "mode", "verified_at")
    list_filter = ("status", "mode")
    search_fields = ("id",)
    ordering = ("-id",)
    hidden = ("credentials", "options")  # What a provider's module reads may be a secret too.

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return [*super().get_fields(request, obj), "lane"]

    @admin.display(description="lane")
    def lane(self, account: ProviderAccount) -> SafeString | str:
        """What drainers have learnt of it, and who holds it back."""
        row = Lane.objects.filter(tenant_id=_tenant_of(account), key=account.key).first()
        return "-" if row is None else _link("jobs_lane", row.pk, row.key)


@admin.register(Segment)
class SegmentAdmin(SoughtById):
    list_display = ("id", "tenant_id", "name", "created_at", "deleted_at")
    search_fields = ("id",)
    ordering = ("-id",)


@admin.register(Template)
class TemplateAdmin(SoughtById):
    list_display = ("id", "tenant_id", "name", "external_name", "language", "deleted_at")
    search_fields = ("id",)
    ordering = ("-id",)


@admin.register(Campaign)
class CampaignAdmin(SoughtById):
    list_display = (
        "id",
        "tenant_id",
        "name",
        "state",
        "done",
        "total",
        "sent",
        "failed",
        "unknown",
        "cancelled",
        "skipped",
        "created_at",
    )
    list_filter = ("state",)
    search_fields = ("id",)
    ordering = ("-id",)
    hidden = ("idempotency_key", "fingerprint")

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return [*super().get_fields(request, obj), "some_skips"]

    @admin.display(description="done")
    def done(self, campaign: Campaign) -> str:
        part = Standing.of(campaign).part
        return "-" if part is None else f"{part:.0%}"

    @admin.display(description=f"the first {SHOWN} skips")
    def some_skips(self, campaign: Campaign) -> SafeString | str:
        rows = Skip.objects.filter(tenant_id=_tenant_of(campaign), campaign_id=campaign.pk)
        shown = [(row.customer_id, row.reason, row.detail) for row in rows.order_by("id")[:SHOWN]]
        return format_html_join("", "<div>{}: {} {}</div>", shown) or "-"


@admin.register(Message)
class MessageAdmin(SoughtById):
    list_display = ("id", "tenant_id", "campaign_id", "state", "attempts", "due_at", "last_error")
    list_filter = ("state",)
    search_fields = ("id",)
    ordering = ("-id",)
    hidden = ("params",)  # What it says to its customer is the tenant's.

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return [*super().get_fields(request, obj), "timeline"]

    @admin.display(description="attempts, the first one first")
    def timeline(self, message: Message) -> SafeString | str:
        rows: QuerySet[Attempt] = Attempt.objects.filter(
            tenant_id=_tenant_of(message), queue=QUEUE, work_id=message.pk
        )
        shown = (
            (
                _link("jobs_attempt", attempt.pk, f"#{attempt.number} {attempt.started_at:%F %T}"),
                attempt.outcome,
                "" if attempt.duration_ms is None else f"{attempt.duration_ms} ms",
                attempt.error,
            )
            for attempt in rows.order_by("number", "started_at")[:SHOWN]
        )
        return format_html_join("", "<div>{} {} {} {}</div>", shown) or "-"


def _tenant_of(row: TenantOwned) -> int:
    return int(row.tenant_id or 0)  # It has one: the column is not null.


def _link(page: str, key: Any, text: str) -> SafeString:
    return format_html('<a href="{}">{}</a>', reverse(f"admin:{page}_change", args=[key]), text)


# What operators may do.
CampaignAdmin.also(*acts.CAMPAIGNS)
ProviderAccountAdmin.also(*acts.ACCOUNTS)
MessageAdmin.also(*acts.MESSAGES)
