"""What Django brings along, shown as everything else is."""

from django.contrib import admin
from django.contrib.auth.models import Group

from config.admin.reading import ReadOnlyAdmin
from console import bulk_page  # noqa: F401 - it registers itself.

admin.site.site_header = admin.site.site_title = "Slipway"
admin.site.index_title = "Console"
admin.site.unregister(Group)


@admin.register(Group)
class GroupAdmin(ReadOnlyAdmin):
    search_fields = ("name",)
