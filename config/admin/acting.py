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
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any
from uuid import UUID

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.utils import display_for_field, display_for_value, lookup_field
from django.contrib.admin.views.main import PAGE_VAR
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import OperationalError, connections, transaction
from django.db.models import Model, Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.module_loading import import_string
from django.utils.text import capfirst

from config.ids import uuid7
from config.problems import Problem

PERMISSIONS = "console"  # The app whose model has the permissions of all acts.
MOST_ROWS = 200  # Ticked at once; more than that is a filter's matter.
SAMPLE = 5
MOST_COUNTED = 10_000
COUNTING = 2000  # Milliseconds: who asks how many there are waits for the answer.
_COLUMNS = 5
# What says that an object is no longer as the page showed it, where its model has it.
_STANDING = (
    *("state", "status", "attempts", "lease", "due_at", "finished_at", "resolved_at"),
    *("revoked_at", "disabled_at", "deleted_at", "cancelled_at", "plan"),
    *("operator_paused_until", "operator_why", "operator_window", "operator_rate"),
)
_NO_FILTER = ("all", "id", "list", PAGE_VAR, "older", "newer")


class Because(forms.Form):
    """What every act asks. An act that must know more has a form that inherits this one."""

    template_name = "console/act_form.html"
    required_css_class = "required"

    reason = forms.CharField(
        max_length=500,
        widget=forms.Textarea(attrs={"rows": 3}),
        help_text="Why: the audit trail keeps it.",
    )


@dataclass(frozen=True, slots=True)
class Asked:
    """Who wants it and why, and what else the form asked."""

    actor: str
    reason: str
    values: Mapping[str, Any] = field(default_factory=dict)


def _always(row: Any) -> bool:
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """One thing that operators may do to objects of a model."""

    name: str  # In its address.
    label: str
    permission: str  # Its codename, of the app PERMISSIONS.
    done: str  # "replayed"
    # Does it to one object; says what came of it where `done` is not enough.
    do: Callable[[Any, Asked], str | None]
    fits: Callable[[Any], bool] = _always  # Whether it can be done as the object stands.
    means: str = ""  # What whoever confirms it should know.
    form: type[Because] = Because
    many: bool = True  # Whether several rows may be ticked for it.
    refusals: tuple[type[Exception], ...] = (Problem,)  # Told, and no failure of ours.
    # With `chunk` it is done to everything that a filter finds, in the background: it moves some
    # rows, in the caller's transaction, and says how many. `within` narrows what the filter finds
    # to what `fits`.
    chunk: Callable[[QuerySet[Any], Asked], int] | None = None
    within: Q = field(default_factory=Q)

    def allowed(self, user: Any) -> bool:
        """Whether the operator may."""
        return bool(user.has_perm(f"{PERMISSIONS}.{self.permission}"))


class Acting(admin.ModelAdmin):  # type: ignore[type-arg]
    """A ModelAdmin with acts."""

    acts: Sequence[Act] = ()

    @classmethod
    def also(cls, *acts: Act) -> None:
        """Add acts of an app above the model's own."""
        cls.acts = (*cls.acts, *acts)

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
            {"name": act.name, "label": act.label, "url": self.act_url(act, f"id={row.pk}")}
            for act in self.permitted(request)
            if act.fits(row)
        ]

    def offered_all(self, request: HttpRequest) -> list[dict[str, str]]:
        """What can be done to everything that the list's filter finds."""
        query = filter_of(request.GET).urlencode()
        return [
            {"name": act.name, "label": act.label, "url": self.act_url(act, f"all=1&{query}")}
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
        if "all" in request.GET:
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
        return listed.queryset.filter(*wishes, act.within).order_by()

    def _named(self, request: HttpRequest) -> list[Any]:
        """The objects that the address names, in the order of their keys. Raises Http404."""
        ids = request.GET.getlist("id")[:MOST_ROWS]
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
        for row in rows:
            why = _why_not(act, row, seen.get(str(row.pk)))
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
        if len(rows) == 1 and "list" not in request.GET:
            return reverse(f"admin:{app}_{model}_change", args=[rows[0].pk])
        filtered = request.GET.get("list", "")
        return f"{reverse(f'admin:{app}_{model}_changelist')}?{filtered}".rstrip("?")

    def _confirm_rows(
        self, request: HttpRequest, act: Act, form: Because, rows: Sequence[Any]
    ) -> HttpResponse:
        fit = [row for row in rows if act.fits(row)]
        context = {
            "count": len(fit),
            "left_out": len(rows) - len(fit),
            "sample": [self._shown(row) for row in fit[:MOST_ROWS]],
            "seen": [f"{row.pk}={standing(row)}" for row in fit],
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
            "sample": [self._shown(row) for row in found.order_by("pk")[:SAMPLE]] if count else [],
            "once": request.POST.get("once") or str(uuid7()),
            "back": self._behind_filter(request),
        }
        return self._page(request, act, form, context)

    def _behind_filter(self, request: HttpRequest) -> str:
        name = f"admin:{self.opts.app_label}_{self.opts.model_name}_changelist"
        return f"{reverse(name)}?{filter_of(request.GET).urlencode()}".rstrip("?")

    def _shown(self, row: Any) -> list[tuple[str, str]]:
        """The first columns of the list: name → text; templates escape it."""
        return [(name, self._column(name, row)) for name in self.list_display[:_COLUMNS]]

    def _column(self, name: Any, row: Any) -> str:
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


def asked(user: Any, form: Because) -> Asked:
    """What a valid form asks, of whoever is signed in."""
    values = dict(form.cleaned_data)
    return Asked(actor_of(user), values.pop("reason").strip(), values)


def actor_of(user: Any) -> str:
    """How the audit trail names an operator (tenants.audit)."""
    return f"operator:{user.pk}"


def filter_of(query: QueryDict) -> QueryDict:
    """The filter in a list's address, without what else stands there."""
    kept = query.copy()
    for name in _NO_FILTER:
        kept.pop(name, None)
    return kept


def counted(rows: QuerySet[Any]) -> tuple[int, bool]:
    """How many there are, and whether there may be more: counting ended early, or took too long."""
    try:
        with transaction.atomic(using=rows.db), connections[rows.db].cursor() as cursor:
            cursor.execute(f"set local statement_timeout = {COUNTING}")
            count = rows[: MOST_COUNTED + 1].count()
    except OperationalError as error:
        if "statement timeout" not in str(error):
            raise
        return MOST_COUNTED, True
    return min(count, MOST_COUNTED), count > MOST_COUNTED


def standing(row: Model) -> str:
    """How an object stands, as a short text that is another when it stands otherwise."""
    said = [str(getattr(row, name)) for name in _STANDING if hasattr(row, name)]
    return sha256("\n".join(said).encode()).hexdigest()[:16]


def _choose(of: Acting, request: HttpRequest, rows: QuerySet[Any]) -> HttpResponse:
    """Django's list calls this for ticked rows: on to the page of the act, by GET."""
    act = of.act_named(request.POST["action"])
    query = QueryDict(mutable=True)
    query.setlist("id", [str(key) for key in rows.values_list("pk", flat=True)[:MOST_ROWS]])
    query["list"] = request.GET.urlencode()
    return HttpResponseRedirect(of.act_url(act, query.urlencode()))


def _why_not(act: Act, row: Any, seen: str | None) -> str:
    if seen is None or seen != standing(row):
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
