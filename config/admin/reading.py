"""The console's ground: every model is shown, none is edited.

Apps register their models through ReadOnlyAdmin. What operators may do is an action that calls a
service; nothing here writes.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from django.apps import apps
from django.conf import settings
from django.contrib import admin
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.utils import unquote
from django.contrib.admin.views.main import ERROR_FLAG
from django.core.exceptions import FieldDoesNotExist, PermissionDenied
from django.db.models import BooleanField, Model
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from config.admin import filters
from config.admin.acting import Acting
from config.admin.paging import KeysetList, Walk, Wish
from config.admin.seeking import Searches, Sought, seek
from config.admin.showing import Fact, Named, Panel, fact_of, mark, moment, value_of

_FIRST = ("id", "tenant", "kind", "state", "status")  # Of an object's facts.


class ReadOnlyAdmin(Acting):
    """Every field is shown and none can be changed; nothing is added, nothing deleted.

    `key` is what the list is ordered by, newest first: columns that are unique together, and that
    an index has. `walks` are the other indexes that lead to some of its filters in that order.
    """

    list_per_page = 50
    show_full_result_count = False  # It counts the whole table on each page.
    show_facets = admin.ShowFacets.NEVER  # They count too.
    preserve_filters = False  # Django resolves each row's address anew for it: a third of the page.
    sortable_by = ()  # The order is the key's.

    hidden: ClassVar[tuple[str, ...]] = ()  # Fields that are nobody's to see, such as hashes.
    key: ClassVar[tuple[str, ...]] = ("id",)
    walks: ClassVar[tuple[Walk, ...]] = ()
    # Whether an index has (tenant_id, *key): IsolateTenant makes one.
    tenant_first: ClassVar[bool | None] = None
    searches: ClassVar[Searches] = Searches()
    others: ClassVar[tuple[Callable[[Any], list[Panel]], ...]] = ()
    list_reads: ClassVar[tuple[str, ...]] = ()  # Long columns that the list's methods read.

    # ---- The list ----

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> Any:
        """The list; nothing of it for an address that asks for what it has no filter for."""
        if ERROR_FLAG not in request.GET:  # Where Django leads from such an address.
            return super().changelist_view(request, extra_context)
        if not self.has_view_permission(request):
            raise PermissionDenied
        context = {**self.admin_site.each_context(request), "opts": self.opts}
        return TemplateResponse(request, "console/no_filter.html", context, status=400)

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[KeysetList]:
        return KeysetList

    def get_ordering(self, request: HttpRequest) -> Any:
        return [f"-{name}" for name in self.key]

    def get_list_filter(self, request: HttpRequest) -> list[Any]:
        """A column's name is a filter by its choices; Django's own would look values up."""
        return [self._filter(one) for one in self.list_filter]

    def get_search_fields(self, request: HttpRequest) -> tuple[str, ...]:
        """Whether there is a search box; the search is ours."""
        return ("id",) if self.searches.help else ()

    def get_walks(self) -> tuple[Walk, ...]:
        """Indexes, the most telling first; the last one leads through all there is."""
        order = tuple(f"-{name}" for name in self.key)
        isolated = self.tenant_first
        if isolated is None:
            isolated = "tenant" in _names(self.model) and self.model._meta.managed
        owned = (Walk(("tenant",), ("-tenant_id", *order)),) if isolated else ()
        return (Walk(("pk",), order), *self.walks, *owned, Walk((), order))

    def seek(self, said: str) -> Sought:
        """What the search box's text wants."""
        key: Any = self.model._meta.pk
        return seek(said, self.searches, uuid_key=key.get_internal_type() == "UUIDField")

    def wish_of_lane(self, lane: str) -> Wish:
        """What `?lane=` wants; queues whose works name their lane otherwise say how."""
        return Wish("lane", "lane", lane)

    def gather(self, rows: Sequence[Any]) -> None:
        """Look up what a page's rows show of others, all at once: nothing is asked row by row."""
        if "tenant" in _names(self.model):
            named = names_of({row.tenant_id for row in rows})
            for row in rows:
                row.named = named

    # ---- Columns that most lists have ----

    @admin.display(description=SafeString('<input type="checkbox" id="action-toggle">'))
    def action_checkbox(self, obj: Any) -> SafeString:
        """Django's renders a template for each row."""
        return format_html(
            '<input type="checkbox" name="{}" value="{}" class="action-select" aria-label="{}">',
            ACTION_CHECKBOX_NAME,
            obj.pk,
            f"Select {obj}",
        )

    @admin.display(description="id")
    def ident(self, row: Any) -> SafeString:
        """The beginning, which tells the time, and the end, which tells it from others."""
        text = str(row.pk)
        return format_html('<span class="id" title="{}">{}…{}</span>', text, text[:8], text[-6:])

    @admin.display(description="tenant")
    def whose(self, row: Any) -> SafeString | str:
        named = getattr(row, "named", None) or names_of({row.tenant_id})
        return named.of(row.tenant_id)

    @admin.display(description="state")
    def stands(self, row: Any) -> SafeString:
        return mark(str(row.state))

    @admin.display(description="created")
    def made(self, row: Any) -> SafeString | str:
        return moment(row.created_at)

    # ---- The page ----

    @classmethod
    def shows(cls, *more: Callable[[Any], list[Panel]]) -> None:
        """Add panels to the pages: apps that are built on top of this one's know more of it."""
        cls.others = (*cls.others, *more)

    def panels(self, request: HttpRequest, row: Any) -> list[Panel]:
        """What stands on the page besides the row's own columns."""
        return [panel for other in self.others for panel in other(row)]

    def address(self, row: Any) -> str:
        """What leads to a row's page, in its address."""
        return str(row.pk)

    def facts(self, request: HttpRequest, row: Any) -> list[Fact]:
        """The row's columns, and the methods that get_fields names."""
        return [self._fact(name, row) for name in self.get_fields(request, row)]

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: Mapping[str, Any] | None = None,
    ) -> HttpResponse:
        """The page of one row. There is no form: nothing can be sent here."""
        row = self.get_object(request, unquote(object_id))
        if not self.has_view_permission(request, row):
            raise PermissionDenied
        if row is None:
            gone: HttpResponse = self._get_obj_does_not_exist_redirect(  # type: ignore[attr-defined]
                request, self.opts, object_id
            )
            return gone
        self.gather([row])
        context = {
            **self.admin_site.each_context(request),
            "acts": self.offered(request, row),
            "title": str(self.opts.verbose_name).capitalize(),
            "subtitle": str(row),
            "original": row,
            "opts": self.opts,
            "facts": self.facts(request, row),
            "panels": self.panels(request, row),
            "has_view_permission": True,
            **(extra_context or {}),
        }
        return self.render_change_form(request, context, change=True, obj=row)

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        """Django's would look for a form."""
        request.current_app = self.admin_site.name
        return TemplateResponse(request, "admin/change_form.html", context)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        names = [field.name for field in self.opts.fields if field.name not in self.hidden]
        return sorted(names, key=lambda name: _FIRST.index(name) if name in _FIRST else len(_FIRST))

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return self.get_fields(request, obj)

    # ---- What nobody may ----

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    # ---- Parts ----

    def _filter(self, one: Any) -> Any:
        if not isinstance(one, str):
            return one
        column: Any = self.model._meta.get_field(one)
        if isinstance(column, BooleanField):
            return filters.choice(one, [(True, "Yes"), (False, "No")])
        return filters.choice(one, list(column.flatchoices)) if column.flatchoices else one

    def _fact(self, name: str, row: Any) -> Fact:
        if name == "tenant":
            return Fact("tenant", self.whose(row))
        try:
            return fact_of(row, self.model._meta.get_field(name))
        except FieldDoesNotExist:
            method = getattr(self, name)
            label = getattr(method, "short_description", name.replace("_", " "))
            return Fact(str(label), value_of(method(row)))


def names_of(tenant_ids: set[int | None]) -> Named:
    """How these tenants are called: one look-up."""
    wanted = [one for one in tenant_ids if one is not None]
    rows = apps.get_model(settings.TENANT_MODEL)._default_manager.filter(pk__in=wanted)
    return Named(dict(rows.values_list("pk", "slug")) if wanted else {})


def _names(model: type[Model]) -> set[str]:
    return {field.name for field in model._meta.fields}
