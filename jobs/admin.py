"""Work and what came of it in the console: shown; replay and discard are services."""

from django.contrib import admin

from jobs.models import Attempt, DeadLetter, Drainer, Job, Lane
from tenants.admin import ReadOnlyAdmin


@admin.register(Job)
class JobAdmin(ReadOnlyAdmin):
    list_display = ("id", "kind", "tenant_id", "state", "attempts", "due_at", "last_error")
    list_filter = ("state", "kind")
    ordering = ("-id",)


@admin.register(Attempt)
class AttemptAdmin(ReadOnlyAdmin):
    list_display = ("started_at", "queue", "work_id", "number", "outcome", "duration_ms", "error")
    list_filter = ("queue", "outcome")
    search_fields = ("work_id",)
    ordering = ("-started_at",)


@admin.register(DeadLetter)
class DeadLetterAdmin(ReadOnlyAdmin):
    list_display = ("created_at", "queue", "work_id", "reason", "error", "resolution")
    list_filter = ("queue", "reason", "resolution")
    search_fields = ("work_id",)
    ordering = ("-created_at",)


@admin.register(Lane)
class LaneAdmin(ReadOnlyAdmin):
    list_display = (
        "key",
        "tenant_id",
        "paused_until",
        "paused_why",
        "operator_paused_until",
        "operator_why",
        "failing_since",
    )
    search_fields = ("key",)


@admin.register(Drainer)
class DrainerAdmin(ReadOnlyAdmin):
    list_display = ("host", "pid", "started_at", "beat_at", "dead_at", "busy", "slots")
    ordering = ("-id",)
