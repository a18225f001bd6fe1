"""Tenants, people and the audit trail in the console: shown, never edited."""

from django.contrib import admin

from config.admin.reading import ReadOnlyAdmin
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


# What operators may do.
TenantAdmin.also(*acts.TENANTS)
ApiKeyAdmin.also(*acts.API_KEYS)
PlatformKeyAdmin.also(*acts.PLATFORM_KEYS)
