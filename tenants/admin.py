"""Tenants, people and the audit trail in the console: shown, never edited."""

from collections.abc import Callable
from typing import Any, ClassVar
from uuid import UUID

from django.conf import settings
from django.contrib import admin
from django.db.models import F, Q
from django.db.models.functions import Lower
from django.http import HttpRequest
from django.utils.safestring import SafeString

from config.admin import showing
from config.admin.filters import ByAge, ByTenant, choice, presence, text
from config.admin.paging import NEWEST, Walk, Wish, pinned
from config.admin.reading import ReadOnlyAdmin
from config.admin.seeking import Searches, Sought
from config.admin.showing import Panel, link, mark
from config.ids import format_id
from tenants import acts
from tenants.models import (
    ApiKey,
    AuditEntry,
    Domain,
    Membership,
    PlatformKey,
    Tenant,
    User,
)
from tenants.states import TenantStatus

SHOWN = 20  # Members, keys, domains, entries of a tenant's.


def plans() -> list[str]:
    """The plans that there are."""
    return list(settings.SLIPWAY["PLANS"])


@admin.register(Tenant)
class TenantAdmin(ReadOnlyAdmin):
    list_display = ("slug", "name", "plan", "home", "stands", "made", "activated_at")
    list_filter = (
        choice("status", TenantStatus.values, name="status"), choice("plan", plans), "home",
    )  # fmt: skip
    searches = Searches(
        prefix="tnt",
        own=lambda uuid: _by_uuid(uuid),
        texts=("slug", "external_id"),
        tenants=False,
    )
    walks = (
        # (status, id): ranged, so that no other index is walked for the order.
        Walk(("status",), ("-status", "-id")),
        Walk(("uuid",), (NEWEST,)),
        Walk(("text",), (NEWEST,)),
    )

    @admin.display(description="status")
    def stands(self, tenant: Tenant) -> SafeString:
        return mark(str(tenant.status))

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return ["public_id", *super().get_fields(request, obj)]

    @admin.display(description="id in the API")
    def public_id(self, tenant: Tenant) -> str:
        return format_id("tnt", tenant.uuid)

    def panels(self, request: HttpRequest, row: Any) -> list[Panel]:
        others = super().panels(request, row)
        return [_domains(row), _members(row), _keys(row), *others, _audit(row)]


@admin.register(Domain)
class DomainAdmin(ReadOnlyAdmin):
    list_display = ("domain", "whose", "is_primary")
    list_filter = (ByTenant,)
    tenant_first = False
    walks = (Walk(("tenant",), (NEWEST,)), Walk(("text",), (NEWEST,)))
    searches = Searches(texts=("domain",))


@admin.register(Membership)
class MembershipAdmin(ReadOnlyAdmin):
    list_display = ("user", "whose", "role", "accepted_at")
    list_select_related = ("user",)
    list_filter = ("role", ByTenant)
    searches = Searches(prefix="mbr")


@admin.register(User)
class UserAdmin(ReadOnlyAdmin):
    list_display = ("email", "name", "is_staff", "is_active", "activated_at", "last_login")
    list_filter = ("is_staff", "is_active")
    searches = Searches(
        prefix="usr", named=lambda text: _by_email(text), names="an e-mail address", tenants=False
    )
    hidden = ("password",)


@admin.register(ApiKey)
class ApiKeyAdmin(ReadOnlyAdmin):
    list_display = ("prefix", "whose", "name", "created_by", "last_used_at", "revoked_at")
    list_filter = (presence("revoked_at", yes="revoked", no="good", name="revoked"), ByTenant)
    searches = Searches(prefix="key", texts=("prefix",))
    walks = (Walk(("text",), (NEWEST,)),)
    hidden = ("secret_hash",)

    def panels(self, request: HttpRequest, row: Any) -> list[Panel]:
        return [_trail(f"api_key:{row.prefix}"), *super().panels(request, row)]


@admin.register(PlatformKey)
class PlatformKeyAdmin(ReadOnlyAdmin):
    list_display = ("prefix", "name", "created_by", "rate_limit", "last_used_at", "revoked_at")
    list_filter = (presence("revoked_at", yes="revoked", no="good", name="revoked"),)
    searches = Searches(prefix="key", texts=("prefix",), tenants=False)
    walks = (Walk(("text",), (NEWEST,)),)
    hidden = ("secret_hash",)

    def panels(self, request: HttpRequest, row: Any) -> list[Panel]:
        return [_trail(f"platform_key:{row.prefix}"), *super().panels(request, row)]


@admin.register(AuditEntry)
class AuditEntryAdmin(ReadOnlyAdmin):
    list_display = ("at", "actor", "action", "whose", "target", "reason")
    list_filter = (
        text("action", hint="work.replayed"), text("actor", hint="operator:…"), text("target"),
        ByTenant, ByAge,
    )  # fmt: skip
    searches = Searches(
        prefix="aud", own=lambda uuid: _audited(uuid), texts=("target",), tenants=False
    )
    # How targets spell an id; apps that record others' append to it.
    spelled: ClassVar[list[Callable[[UUID], list[str]]]] = [
        lambda uuid: [f"{word}_{uuid}" for word in ("tnt", "usr", "key")]
    ]
    walks = (
        Walk(("target",), (NEWEST,)),  # A thing's entries are few: they are put in order.
        Walk(("text",), (NEWEST,)),
        Walk(("action",), (NEWEST,)),
        Walk(("actor",), (NEWEST,)),
    )


def _audited(uuid: UUID) -> Sought:
    """What was done to the thing with an id, however its target spells it; or the entry itself."""
    targets = [one for spell in AuditEntryAdmin.spelled for one in spell(uuid)]
    wish = Wish("text", also=Q(target__in=targets) | Q(pk=uuid))
    return Sought((wish,), f"What was done to {uuid}.")


def _by_uuid(uuid: UUID) -> Sought:
    return Sought((Wish("uuid", "uuid", uuid),), f"The tenant {uuid}.")


def _by_email(text: str) -> Sought | None:
    """One person has an address, in whatever case: a unique index."""
    found = User.objects.annotate(lower=Lower("email")).filter(lower=text.lower())
    wish = Wish("pk", "pk__in", list(found.values_list("pk", flat=True)))
    return Sought((wish,), f"Whose address is “{text}”.")


def _domains(tenant: Tenant) -> Panel:
    rows = Domain.objects.filter(tenant_id=tenant.pk).order_by(NEWEST)[:SHOWN]
    shown = [(one.domain, one.is_primary) for one in rows]
    return showing.table("Domains", ("domain", "primary"), shown)


def _members(tenant: Tenant) -> Panel:
    ranged = Membership.objects.filter(pinned("tenant_id", tenant.pk))
    rows = ranged.select_related("user").order_by("-tenant_id", "-id")[:SHOWN]
    shown = [
        (link("tenants_user", one.user_id, one.user.email), one.role, one.accepted_at)
        for one in rows
    ]
    return showing.table("Members", ("who", "role", "accepted"), shown)


def _keys(tenant: Tenant) -> Panel:
    ranged = ApiKey.objects.filter(pinned("tenant_id", tenant.pk)).defer("secret_hash")
    shown = [
        (link("tenants_apikey", one.pk, one.prefix), one.name, ", ".join(one.scopes),
         one.last_used_at, mark("revoked") if one.revoked_at else mark("active"))
        for one in ranged.order_by("-tenant_id", "-id")[:SHOWN]
    ]  # fmt: skip
    return showing.table("API keys", ("key", "name", "scopes", "last used", "state"), shown)


def _audit(tenant: Tenant) -> Panel:
    rows = AuditEntry.objects.filter(tenant_id=tenant.pk).defer("before", "after")
    return _entries(rows.order_by(F("at").desc())[:SHOWN])


def _trail(target: str) -> Panel:
    rows = AuditEntry.objects.filter(target=target).defer("before", "after")
    return _entries(rows.order_by("-at")[:SHOWN])


def _entries(rows: Any) -> Panel:
    shown = [
        (link("tenants_auditentry", one.pk, f"{one.at:%Y-%m-%d %H:%M:%S}"), one.actor, one.action,
         one.target, one.reason)
        for one in rows
    ]  # fmt: skip
    return showing.table("Audit trail", ("at", "actor", "action", "target", "reason"), shown)


# What operators may do.
TenantAdmin.also(*acts.TENANTS)
ApiKeyAdmin.also(*acts.API_KEYS)
PlatformKeyAdmin.also(*acts.PLATFORM_KEYS)
