"""Work and what came of it in the console: shown; replay and discard are services."""

from typing import Any
from uuid import UUID

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest

from config.admin.reading import ReadOnlyAdmin
from jobs import acts, registry
from jobs.models import Attempt, DeadLetter, Drainer, Job, Lane, Replay
from tenants.admin import TenantAdmin


class SoughtById(ReadOnlyAdmin):
    """Rows that are found by their ids alone, as the API spells them or bare: by an index."""

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        if not search_term:
            return queryset, False
        try:
            sought = UUID(search_term.strip().rpartition("_")[2])
        except ValueError:
            return queryset.none(), False
        found = Q()
        for name in self.get_search_fields(request):
            found |= Q(**{name: sought})
        return queryset.filter(found), False


class _Named(admin.SimpleListFilter):
    """A filter whose choices are known: others are looked for in the whole table."""

    names: Any

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(name, name) for name in sorted(self.names())]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return (
            queryset.filter(**{str(self.parameter_name): self.value()})
            if self.value()
            else queryset
        )


class ByQueue(_Named):
    title = parameter_name = "queue"
    names = staticmethod(registry.queues)


class ByKind(_Named):
    title = parameter_name = "kind"
    names = staticmethod(registry.kinds)


@admin.register(Job)
class JobAdmin(SoughtById):
    list_display = ("id", "kind", "tenant_id", "state", "attempts", "due_at", "last_error")
    list_filter = ("state", ByKind)
    search_fields = ("id",)
    ordering = ("-id",)


@admin.register(Attempt)
class AttemptAdmin(SoughtById):
    list_display = ("started_at", "queue", "work_id", "number", "outcome", "duration_ms", "error")
    list_filter = (ByQueue, "outcome")
    search_fields = ("work_id",)
    ordering = ("-started_at",)


@admin.register(DeadLetter)
class DeadLetterAdmin(SoughtById):
    list_display = ("created_at", "queue", "work_id", "reason", "error", "resolution")
    list_filter = (ByQueue, "reason", "resolution")
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
        "failures",
        "trips",
        "opened_until",
        "failing_since",
        "rate",
        "window",
    )
    search_fields = ("key",)
    ordering = ("-id",)


@admin.register(Replay)
class ReplayAdmin(SoughtById):
    list_display = (
        "created_at",
        "action",
        "queue",
        "tenant_id",
        "status",
        "done",
        "total",
        "actor",
    )
    list_filter = ("action", ByQueue)
    search_fields = ("id",)
    ordering = ("-id",)


@admin.register(Drainer)
class DrainerAdmin(ReadOnlyAdmin):
    list_display = ("host", "pid", "started_at", "beat_at", "dead_at", "busy", "slots")
    ordering = ("-id",)


# What operators may do.
JobAdmin.also(*acts.of_works("jobs", Job))
DeadLetterAdmin.also(*acts.LETTERS)
LaneAdmin.also(*acts.LANES)
ReplayAdmin.also(*acts.REPLAYS)
TenantAdmin.also(*acts.of_lanes(lambda tenant: (f"jobs:{tenant.pk}", tenant.pk), "its jobs"))
