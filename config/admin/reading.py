"""The console's ground: every model is shown, none is edited.

Apps register their models through ReadOnlyAdmin. What operators may do is an action that calls a
service; nothing here writes.
"""

from typing import Any

from django.contrib import admin
from django.core.paginator import Paginator
from django.db.models import Model
from django.http import HttpRequest
from django.utils.functional import cached_property


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
