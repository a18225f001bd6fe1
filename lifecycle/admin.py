"""What happens to tenants after their sign-up, in the console."""

from django.contrib import admin

from config.admin.reading import ReadOnlyAdmin
from lifecycle import acts
from lifecycle.models import PlanMove
from tenants.admin import TenantAdmin, UserAdmin


@admin.register(PlanMove)
class PlanMoveAdmin(ReadOnlyAdmin):
    list_display = (
        "tenant",
        "plan_before",
        "plan_after",
        "phase",
        "rows_done",
        "rows_total",
        "created_at",
        "moved_at",
        "finished_at",
    )
    list_select_related = ("tenant",)
    list_filter = ("phase",)
    ordering = ("-id",)
    hidden = ("horizon", "shape")


# What operators may do.
TenantAdmin.also(*acts.TENANTS)
UserAdmin.also(*acts.PEOPLE)
