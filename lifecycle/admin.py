"""What happens to tenants after their sign-up, in the console."""

from django.contrib import admin

from config.admin.reading import ReadOnlyAdmin
from lifecycle.models import PlanMove


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
