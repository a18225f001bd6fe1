"""Tenants, people and the audit trail in the console: shown, never edited.

Other apps register their models through ReadOnlyAdmin. What operators may do is an action that
calls a service; nothing here writes.
"""

from typing import Any

from django.contrib import admin
from django.core.paginator import Paginator
from django.db.models import Model
from django.http import HttpRequest
from django.utils.functional import cached_property

from tenants.models import (
    ApiKey,
    AuditEntry,
    Domain,
    Membership,
    PlatformKey,
    Tenant,
    User,
)


class SomePages(Paginator):  # type: ignore[type-arg]
    """Counts no further than anybody leafs; each page would count millions of rows."""

    MOST = 5_000  # Rows.

    @cached_property
    def count(self) -> int:
        """How many rows there are, or MOST."""
        rows: Any = self.object_list
        return int(rows.order_by()[: self.MOST].count())


class ReadOnlyAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Every field is shown and none can be changed; nothing is added, nothing deleted."""

    list_per_page = 50
    paginator = SomePages
    show_full_result_count = False  # It counts the whole table on each page.
    hidden: tuple[str, ...] = ()  # Fields that are nobody's to see, such as hashes.

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return [field.name for field in self.opts.fields if field.name not in self.hidden]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return self.get_fields(request, obj)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


@admin.register(Tenant)
class TenantAdmin(ReadOnlyAdmin):
    list_display = ("slug", "name", "plan", "home", "status", "created_at", "activated_at")
    list_filter = ("status", "plan", "home")
    search_fields = ("slug", "name", "external_id")
    ordering = ("-id",)


@admin.register(Domain)
class DomainAdmin(ReadOnlyAdmin):
    list_display = ("domain", "tenant", "is_primary")
    list_select_related = ("tenant",)
    search_fields = ("domain",)


@admin.register(Membership)
class MembershipAdmin(ReadOnlyAdmin):
    list_display = ("user", "tenant", "role", "accepted_at")
    list_select_related = ("tenant", "user")
    list_filter = ("role",)


@admin.register(User)
class UserAdmin(ReadOnlyAdmin):
    list_display = ("email", "name", "is_staff", "is_active", "activated_at", "last_login")
    list_filter = ("is_staff", "is_active")
    search_fields = ("email",)
    hidden = ("password",)


@admin.register(ApiKey)
class ApiKeyAdmin(ReadOnlyAdmin):
    list_display = ("prefix", "tenant", "name", "created_by", "last_used_at", "revoked_at")
    list_select_related = ("tenant",)
    search_fields = ("prefix",)
    hidden = ("secret_hash",)


@admin.register(PlatformKey)
class PlatformKeyAdmin(ReadOnlyAdmin):
    list_display = ("prefix", "name", "created_by", "rate_limit", "last_used_at", "revoked_at")
    search_fields = ("prefix",)
    hidden = ("secret_hash",)


@admin.register(AuditEntry)
class AuditEntryAdmin(ReadOnlyAdmin):
    list_display = ("at", "actor", "action", "target", "reason")
    list_filter = ("action",)
    search_fields = ("target", "actor")
    date_hierarchy = "at"
    ordering = ("-at",)
