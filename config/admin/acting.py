"""What operators do in the console: declared as acts, confirmed with a reason, done by services.

    class DeliveryAdmin(ReadOnlyAdmin):
        acts = (Act(name="replay", label="Replay", permission="replay", done="replayed", do=…),)

An act is a button on the object's page, a choice for the rows that are ticked in the list and, with
`chunk`, a link above it for everything that the list's filter finds. All of them lead to one page,
at act/<name>/: it says what would be done to how many, shows some of them and asks why. Its GET
changes nothing; its POST checks the permission again, that each object stands as it stood on the
page (so that a second click does nothing), and calls the act's service, which writes the audit
entry.
"""

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from typing import Any, TypeVar
from uuid import UUID

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.utils import (
    display_for_field,
    display_for_value,
    label_for_field,
    lookup_field,
)
from django.contrib.admin.views.main import PAGE_VAR
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import OperationalError, connections, transaction
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.module_loading import import_string
from django.utils.text import capfirst

from config.admin.acts import Act, Asked, Because, asked, standing
from config.ids import uuid7

T = TypeVar("T")

MOST_ROWS = 200  # Ticked at once; more than that is a filter's matter.
SAMPLE = 5
MOST_COUNTED = 10_000
COUNTING = 2000  # Milliseconds: who asks how many there are waits for the answer.
_COLUMNS = 6
# In the address of an act's page. No column and no filter has a dot in its name, so that whatever
# narrows a list narrows the act too.
ROW, ALL, LIST = "act.row", "act.all", "act.list"
_NO_FILTER = (ROW, ALL, LIST, PAGE_VAR, "older", "newer")


class Acting(admin.ModelAdmin):  # type: ignore[type-arg]
    """A ModelAdmin with acts."""

    acts: Sequence[Act] = ()

    @classmethod
    def also(cls, *acts: Act) -> None:
        """Add acts of an app above the model's own."""
        cls.acts = (*cls.acts, *acts)

    @property
    def media(self) -> forms.Media:
        """Nothing is edited: of Django's scripts none is needed."""
        return forms.Media(js=("console/ticks.js",))

    # ---- Where acts are offered ----

    def get_urls(self) -> list[URLPattern]:
        address = f"{self.opts.app_label}_{self.opts.model_name}_act"
        view = self.admin_site.admin_view(self.act_view)
        return [path("act/<slug:name>/", view, name=address), *super().get_urls()]

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        """The choices for ticked rows, as Django's list offers them."""
        return {
            act.name: (_choose, act.name, act.label) for act in self.permitted(request) if act.many
        }

    def permitted(self, request: HttpRequest) -> list[Act]:
        """The acts that this operator may do."""
        return [act for act in self.acts if act.allowed(request.user)]

    def offered(self, request: HttpRequest, row: Any) -> list[dict[str, str]]:
        """The buttons of an object's page: those that fit it as it stands."""
        return [
            {"name": act.name, "label": act.label, "url": self.act_url(act, f"{ROW}={row.pk}")}
            for act in self.permitted(request)
            if act.fits(row) and act.reached(request.user, [row])
        ]

    def offered_all(self, request: HttpRequest) -> list[dict[str, str]]:
        """What can be done to everything that the list's filter finds."""
        query = filter_of(request.GET).urlencode()
        return [
            {"name": act.name, "label": act.label, "url": self.act_url(act, f"{ALL}=1&{query}")}
            for act in self.permitted(request)
            if act.chunk is not None
        ]

    def act_url(self, act: Act, query: str = "") -> str:
        """The address of an act's page."""
        name = f"admin:{self.opts.app_label}_{self.opts.model_name}_act"
        return f"{reverse(name, args=[act.name])}?{query}".rstrip("?&")

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> Any:
        many = [act for act in self.permitted(request) if act.many]
        more = {"acts": many, "acts_on_all": self.offered_all(request)}
        return super().changelist_view(request, {**more, **(extra_context or {})})

    # ---- The page of an act ----

    def act_view(self, request: HttpRequest, name: str) -> HttpResponse:
        """Confirm an act and do it.

        Raises Http404, and PermissionDenied whichever way the request was made.
        """
        act = self.act_named(name)
        if not (act.allowed(request.user) and self.has_view_permission(request)):
            raise PermissionDenied
        posted = request.method == "POST"
        form = act.form(request.POST if posted else None)
        if ALL in request.GET:
            if act.chunk is None:
                raise Http404
            return self._act_on_filter(request, act, form, begin=posted and form.is_valid())
        rows = self._named(request)
        if posted and form.is_valid():
            return self._act_on(request, act, rows, asked(request.user, form))
        return self._confirm_rows(request, act, form, rows)

    def act_named(self, name: str) -> Act:
        """Raises Http404."""
        for act in self.acts:
            if act.name == name:
                return act
        raise Http404

    def found(self, request: HttpRequest, act: Act) -> QuerySet[Any]:
        """What the filter finds of what the act is for, in no order.

        Raises Http404 for a filter that cannot be read: what it narrows must not be taken for all.
        """
        plain = copy(request)
        plain.method, plain.GET, plain.POST = "GET", filter_of(request.GET), QueryDict()  # type: ignore[assignment]
        try:
            listed = self.get_changelist_instance(plain)
        except IncorrectLookupParameters:
            raise Http404 from None
        # What config.admin.paging leaves to each page.
        wishes = [wish.q for wish in getattr(listed, "asked", ())]
        wishes += [act.within, act.within_reach_of(request.user)]
        found: QuerySet[Any] = listed.queryset.filter(*wishes).order_by()
        return found

    def _named(self, request: HttpRequest) -> list[Any]:
        """The objects that the address names, in the order of their keys. Raises Http404."""
        ids = request.GET.getlist(ROW)[:MOST_ROWS]
        try:
            rows = list(self.get_queryset(request).filter(pk__in=ids).order_by("pk"))
        except (ValidationError, ValueError):
            raise Http404 from None
        if not rows:
            raise Http404
        return rows

    def _act_on(
        self, request: HttpRequest, act: Act, rows: Sequence[Any], said: Asked
    ) -> HttpResponse:
        """Do it to each for itself, and tell what came of it."""
        seen = dict(one.rpartition("=")[::2] for one in request.POST.getlist("seen"))
        done, told, refused = 0, "", dict[str, int]()
        reached = act.reached(request.user, rows)
        for row in rows:
            why = _why_not(act, row, seen.get(str(row.pk)), is_reached=row.pk in reached)
            if not why:
                try:
                    told = act.do(row, said) or ""
                    done += 1
                    continue
                except act.refusals as error:
                    why = str(error)
            refused[why] = refused.get(why, 0) + 1
        self._tell(request, act, len(rows), done, told, refused)
        return HttpResponseRedirect(self._behind(request, rows))

    def _tell(
        self,
        request: HttpRequest,
        act: Act,
        count: int,
        done: int,
        told: str,
        refused: Mapping[str, int],
    ) -> None:
        if done:
            text = told if count == 1 and told else f"{_some(self, done, count)} {act.done}."
            self.message_user(request, capfirst(text), messages.SUCCESS)
        for why, many in refused.items():
            text = why if count == 1 else f"{_some(self, many, count)} not {act.done}: {why}"
            self.message_user(request, text, messages.WARNING)

    def _behind(self, request: HttpRequest, rows: Sequence[Any]) -> str:
        """Where the operator came from: an object's page, or the list with its filter."""
        app, model = self.opts.app_label, self.opts.model_name
        alone = len(rows) == 1 and LIST not in request.GET
        # The act may have taken it away.
        if alone and self.get_queryset(request).filter(pk=rows[0].pk).exists():
            return reverse(f"admin:{app}_{model}_change", args=[rows[0].pk])
        return self._list_url(request.GET.get(LIST, ""))

    def _list_url(self, query: str) -> str:
        name = f"admin:{self.opts.app_label}_{self.opts.model_name}_changelist"
        return f"{reverse(name)}?{query}".rstrip("?")

    def _confirm_rows(
        self, request: HttpRequest, act: Act, form: Because, rows: Sequence[Any]
    ) -> HttpResponse:
        reached = act.reached(request.user, rows)
        fit = [row for row in rows if row.pk in reached and act.fits(row)]
        context = {
            "count": len(fit),
            "left_out": len(rows) - len(fit),
            "sample": [self._shown(row) for row in fit[:MOST_ROWS]],
            # Of those that are left out too: that they stand otherwise by now is another thing.
            "seen": [f"{row.pk}={standing(row)}" for row in rows],
            "back": self._behind(request, rows),
        }
        return self._page(request, act, form, context)

    def _act_on_filter(
        self, request: HttpRequest, act: Act, form: Because, *, begin: bool
    ) -> HttpResponse:
        found = self.found(request, act)
        count, capped = counted(found)
        if begin and count:
            begun = import_string(settings.SLIPWAY["BULK"])
            url = begun(
                once=_token(request),
                model=self.model,
                act=act,
                query=filter_of(request.GET).urlencode(),
                asked=asked(request.user, form),
                user=request.user,
                counted=(count, capped),
            )
            return HttpResponseRedirect(url)
        context = {
            "count": count,
            "capped": capped,
            "in_background": True,
            "sample": [self._shown(row) for row in _some_of(found)] if count else [],
            "once": request.POST.get("once") or str(uuid7()),
            "back": self._list_url(filter_of(request.GET).urlencode()),
        }
        return self._page(request, act, form, context)

    def _shown(self, row: Any) -> list[tuple[str, str]]:
        """The first columns of the list: heading → text; templates escape it."""
        names = [name for name in self.list_display if isinstance(name, str)][:_COLUMNS]
        return [
            (str(label_for_field(name, self.model, self)), self._cell(name, row)) for name in names
        ]

    def _cell(self, name: str, row: Any) -> str:
        column, _, value = lookup_field(name, row, self)
        if column is None:
            return str(display_for_value(value, "-"))
        return str(display_for_field(value, column, "-"))

    def _page(
        self, request: HttpRequest, act: Act, form: Because, context: Mapping[str, Any]
    ) -> HttpResponse:
        shown = {
            **self.admin_site.each_context(request),
            "title": act.label,
            "act": act,
            "form": form,
            "opts": self.opts,
            "media": self.media,
            **context,
        }
        return TemplateResponse(request, "console/act.html", shown)


def filter_of(query: QueryDict) -> QueryDict:
    """The filter in a list's address, without what else stands there."""
    kept = query.copy()
    for name in _NO_FILTER:
        kept.pop(name, None)
    return kept


def counted(rows: QuerySet[Any]) -> tuple[int, bool]:
    """How many there are, and whether there may be more: counting ended early, or took too long."""
    count = _in_time(rows.db, lambda: rows[: MOST_COUNTED + 1].count())
    if count is None or count > MOST_COUNTED:
        return MOST_COUNTED, True
    return count, False


def _some_of(rows: QuerySet[Any]) -> list[Any]:
    """The first of them; none where finding them takes too long."""
    return _in_time(rows.db, lambda: list(rows.order_by("pk")[:SAMPLE])) or []


def _in_time(using: str, read: Callable[[], T]) -> T | None:
    """What the database says within COUNTING; else None."""
    try:
        with transaction.atomic(using=using), connections[using].cursor() as cursor:
            cursor.execute(f"set local statement_timeout = {COUNTING}")
            return read()
    except OperationalError as error:
        if "statement timeout" not in str(error):
            raise
        return None


def _choose(of: Acting, request: HttpRequest, rows: QuerySet[Any]) -> HttpResponse:
    """Django's list calls this for ticked rows: on to the page of the act, by GET."""
    act = of.act_named(request.POST["action"])
    query = QueryDict(mutable=True)
    query.setlist(ROW, [str(key) for key in rows.values_list("pk", flat=True)[:MOST_ROWS]])
    query[LIST] = request.GET.urlencode()
    return HttpResponseRedirect(of.act_url(act, query.urlencode()))


def _why_not(act: Act, row: Any, seen: str | None, *, is_reached: bool) -> str:
    if not is_reached:
        return "you may not do this to one of its kind."
    if seen != standing(row):
        return "it stands otherwise by now; look at it again."
    return "" if act.fits(row) else "it cannot be, as it stands."


def _some(of: Acting, many: int, count: int) -> str:
    """ "3 of 5 deliveries"."""
    name = of.opts.verbose_name if count == 1 else of.opts.verbose_name_plural
    return f"{name}" if count == 1 else f"{many} of {count} {name}"


def _token(request: HttpRequest) -> UUID:
    """What is the same in both of two clicks. Raises Http404."""
    try:
        return UUID(request.POST.get("once", ""))
    except ValueError:
        raise Http404 from None
