"""What happens to tenants after their sign-up, in the console."""

from typing import Any
from uuid import UUID

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import FileResponse, Http404, HttpRequest
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from config.admin.reading import ReadOnlyAdmin
from lifecycle import acts, exporting
from lifecycle.models import Closure, Export, PlanMove
from tenants import files
from tenants.admin import TenantAdmin, UserAdmin
from tenants.models import Tenant
from tenants.routers import as_app

_FILE = "admin:archive_file"


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


@admin.register(Export)
class ExportAdmin(ReadOnlyAdmin):
    """The archives; whoever may have one written may take it away."""

    list_display = ("made", "whose", "actor", "rows", "size", "finished_at", "archive")
    hidden = ("file",)

    def get_list_display(self, request: HttpRequest) -> Any:
        """With the link for those alone whom it does not refuse."""
        return [name for name in self.list_display if name != "archive" or _may_take(request)]

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        more = ["archive"] if _may_take(request) else []
        return [*super().get_fields(request, obj), *more]

    @admin.display(description="archive")
    def archive(self, row: Export) -> SafeString | str:
        if row.finished_at is None or row.erased_at is not None:
            return "-"
        return format_html('<a href="{}">Download</a>', reverse(_FILE, args=[row.pk]))

    def get_urls(self) -> list[Any]:
        file = path("<uuid:pk>/file/", self.admin_site.admin_view(self.file), name="archive_file")
        return [file, *super().get_urls()]

    def file(self, request: HttpRequest, pk: UUID) -> FileResponse | TemplateResponse:
        """The archive. Who took it away is recorded."""
        if not _may_take(request):
            raise PermissionDenied
        found = Export.objects.filter(pk=pk, finished_at__isnull=False, erased_at=None).first()
        tenant = Tenant.objects.filter(pk=found.tenant_id).first() if found else None
        if found is None or tenant is None:
            raise Http404
        try:
            if (name := exporting.file_of(found)) is None:  # Not this archive's: nobody's.
                raise FileNotFoundError
            file = files.storage().open(name)
        except FileNotFoundError:
            context = {**self.admin_site.each_context(request), "opts": self.opts}
            return TemplateResponse(request, "console/no_file.html", context, status=404)
        with as_app():
            actor = f"operator:{request.user.pk}"
            exporting.record_written(tenant, actor=actor, reason="From the console.")
        return FileResponse(
            file,
            as_attachment=True,
            filename=f"{tenant.slug}-{found.pk}.zip",
            content_type="application/zip",
            headers={"Cache-Control": "no-store"},
        )


def _may_take(request: HttpRequest) -> bool:
    return bool(request.user.has_perm("console.export"))


@admin.register(Closure)
class ClosureAdmin(ReadOnlyAdmin):
    list_display = ("made", "whose", "actor", "reason", "closes_at", "phase", "rows", "finished_at")
