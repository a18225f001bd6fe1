"""Sign-ups and what was made for them in the console."""

from django.contrib import admin

from config.admin.reading import ReadOnlyAdmin
from onboarding import acts
from onboarding.models import PendingOnboarding, ProvisionedResource


@admin.register(PendingOnboarding)
class PendingOnboardingAdmin(ReadOnlyAdmin):
    list_display = ("slug", "plan", "state", "attempts", "created_at", "finished_at", "last_error")
    list_filter = ("state", "plan")
    search_fields = ("slug", "email", "external_id")
    ordering = ("-created_at",)
    hidden = ("key_digest", "fingerprint")


@admin.register(ProvisionedResource)
class ProvisionedResourceAdmin(ReadOnlyAdmin):
    list_display = ("tenant", "step", "name", "created_at")
    list_select_related = ("tenant",)
    list_filter = ("step",)


# What operators may do.
PendingOnboardingAdmin.also(*acts.SIGN_UPS)
