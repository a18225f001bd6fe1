"""Accounts, segments, templates, campaigns and messages in the console: shown, never edited.

No credentials, and of customers no more than a message's own row has. Numbers are the campaign's
counters: nothing is counted here.
"""

from typing import Any
from uuid import UUID

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html_join
from django.utils.safestring import SafeString

from campaigns import acts
from campaigns.models import (
    SET_ASIDE,
    Campaign,
    Message,
    ProviderAccount,
    Segment,
    Skip,
    Template,
)
from campaigns.progress import Standing
from campaigns.states import CampaignState
from config.admin import showing
from config.admin.filters import ByAge, ByEnd, ByLane, ByTenant, choice
from config.admin.paging import NEWEST, Walk, Wish, pinned
from config.admin.reading import ReadOnlyAdmin
from config.admin.seeking import Related, Searches
from config.admin.showing import Panel, link, list_link, mark
from config.ids import format_id
from jobs import panels, seeking
from jobs.admin import WorkAdmin
from jobs.models import Lane
from jobs.states import State
from tenants.admin import AuditEntryAdmin
from tenants.models import TenantOwned

SHOWN = 50  # Skips of a campaign.
CAMPAIGN = Related("campaigns.Campaign", "campaign_id", "campaign")


@admin.register(ProviderAccount)
class ProviderAccountAdmin(ReadOnlyAdmin):
    list_display = ("ident", "whose", "name", "provider", "stands", "rate", "mode", "verified_at")
    list_filter = ("status", "mode", ByTenant, ByAge)
    searches = Searches(prefix="acc")
    hidden = ("credentials", "options")  # What a provider's module reads may be a secret too.

    @admin.display(description="status")
    def stands(self, account: ProviderAccount) -> SafeString:
        return mark("deleted" if account.deleted_at else str(account.status))

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return [*super().get_fields(request, obj), "lane"]

    @admin.display(description="lane")
    def lane(self, account: ProviderAccount) -> SafeString | str:
        """What drainers have learnt of it, and who holds it back."""
        row = Lane.objects.filter(tenant_id=_tenant_of(account), key=account.key).first()
        return "-" if row is None else link("jobs_lane", row.pk, row.key)

    def panels(self, request: HttpRequest, row: Any) -> list[Panel]:
        ranged = Campaign.objects.filter(pinned("tenant_id", row.tenant_id))
        rows = ranged.filter(account_id=row.pk).order_by("-tenant_id", "-id")[:SHOWN]
        return [
            showing.table(
                "Campaigns",
                ("campaign", "state", "sent", "failed", "of"),
                [
                    (link("campaigns_campaign", one.pk, one.name), mark(one.state), one.sent,
                     one.failed, one.total)
                    for one in rows
                ],
            ),
            panels.audit_trail(format_id("acc", row.pk), f"lane:{row.key}"),
            *super().panels(request, row),
        ]  # fmt: skip


@admin.register(Segment)
class SegmentAdmin(ReadOnlyAdmin):
    list_display = ("ident", "whose", "name", "made", "deleted_at")
    list_filter = (ByTenant, ByAge)
    searches = Searches(prefix="seg")


@admin.register(Template)
class TemplateAdmin(ReadOnlyAdmin):
    list_display = ("ident", "whose", "name", "external_name", "language", "deleted_at")
    list_filter = (ByTenant, ByAge)
    searches = Searches(prefix="tpl")


@admin.register(Campaign)
class CampaignAdmin(ReadOnlyAdmin):
    list_display = (
        "ident",
        "whose",
        "name",
        "stands",
        "done",
        "total",
        "sent",
        "failed",
        "unknown",
        "made",
    )
    list_filter = (choice("state", CampaignState.values), ByTenant, ByAge)
    searches = Searches(prefix="cmp")
    walks = (Walk(("state",), (NEWEST,)),)
    hidden = ("idempotency_key", "fingerprint")

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return [*super().get_fields(request, obj), "done", "messages", "some_skips"]

    @admin.display(description="done")
    def done(self, campaign: Campaign) -> str:
        part = Standing.of(campaign).part
        return "-" if part is None else f"{part:.0%}"

    @admin.display(description="messages")
    def messages(self, campaign: Campaign) -> SafeString | str:
        return list_link("campaigns_message", "list", lane=campaign.lane)

    @admin.display(description=f"the first {SHOWN} skips")
    def some_skips(self, campaign: Campaign) -> SafeString | str:
        rows: QuerySet[Skip] = Skip.objects.filter(
            tenant_id=_tenant_of(campaign), campaign_id=campaign.pk
        )
        shown = [(row.customer_id, row.reason, row.detail) for row in rows.order_by("id")[:SHOWN]]
        return format_html_join("", "<div>{}: {} {}</div>", shown) or "-"

    def panels(self, request: HttpRequest, row: Any) -> list[Panel]:
        return [
            panels.of_lane(row.lane, row.tenant_id),
            panels.audit_trail(format_id("cmp", row.pk), f"lane:{row.lane}"),
            *super().panels(request, row),
        ]


@admin.register(Message)
class MessageAdmin(WorkAdmin):
    list_display = ("ident", "whose", "campaign_id", "stands", "attempts", "due", "made", "said")
    list_filter = (
        choice("state", State.values), ByTenant, ByLane, "test", ByAge, ByEnd,
    )  # fmt: skip
    searches = Searches(prefix="msg", related={"cmp": CAMPAIGN}, errors="last_error")
    walks = (
        Walk(
            ("campaign", "state"),
            ("-campaign_id", "-id"),
            only={"state": frozenset(SET_ASIDE)},
        ),
        Walk(("campaign",), ("-campaign_id", "-id")),
        *WorkAdmin.walks,
    )
    hidden = ("params", "phone")  # What it says to its customer is the tenant's, and to whom.

    def wish_of_lane(self, lane: str) -> Wish:
        """By its campaign, to whose messages an index leads."""
        kind, _, said = lane.partition(":")
        try:
            found = CAMPAIGN.wish(UUID(said)) if kind == "campaign" else None
        except ValueError:
            found = None
        return found or super().wish_of_lane(lane)


def _tenant_of(row: TenantOwned) -> int:
    return int(row.tenant_id or 0)  # It has one: the column is not null.


seeking.CALLED |= {"campaign": Campaign, "account": ProviderAccount}
AuditEntryAdmin.spelled.append(
    lambda uuid: [
        *(f"{word}_{uuid}" for word in ("cmp", "acc", "seg", "tpl")),
        *(f"lane:{word}:{uuid}" for word in ("campaign", "account")),
    ]
)

# What operators may do.
CampaignAdmin.also(*acts.CAMPAIGNS)
ProviderAccountAdmin.also(*acts.ACCOUNTS)
MessageAdmin.also(*acts.MESSAGES)
