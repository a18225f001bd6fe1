"""The console's own pages: the second factor, open work, and operators."""

from typing import Any
from uuid import UUID

import django_otp
from django.conf import settings
from django.contrib import admin, messages
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.decorators import method_decorator
from django.utils.http import url_has_allowed_host_and_scheme
from django.views import View
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_protect
from django.views.decorators.debug import sensitive_post_parameters

from config.problems import Problem
from console import lying, operators, second_factor
from console.forms import AddForm, ReasonForm, RoleForm, TokenForm
from console.models import SecondFactor as Factor
from console.roles import Role

_private = [never_cache, sensitive_post_parameters("token"), csrf_protect]
_WRONG = "That code is not right, or came too soon after a wrong one."


@method_decorator(_private, name="dispatch")
class SecondFactor(View):
    """Enrol an authenticator, or show its code; for whoever's password was right."""

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        if not (request.user.is_active and request.user.is_staff):
            return redirect_to_login(request.get_full_path(), reverse("admin:login"))
        return super().dispatch(request, *args, **kwargs)

    def get(self, request: HttpRequest) -> HttpResponse:
        if _is_verified(request):
            return redirect(_next(request))
        return self._page(request, TokenForm())

    def post(self, request: HttpRequest) -> HttpResponse:
        form = TokenForm(request.POST)
        user: Any = request.user
        if not form.is_valid():
            return self._page(request, form, status=400)
        token = form.cleaned_data["token"]
        if (factor := second_factor.verify(user=user, token=token)) is not None:
            self._let_in(request, factor)
            return redirect(_next(request))
        secret = second_factor.draft(request.session)
        enrolled = second_factor.confirm(user=user, secret=secret, token=token)
        if enrolled is None:
            form.add_error("token", _WRONG)
            return self._page(request, form, status=403)
        self._let_in(request, enrolled.factor)
        return self._codes(request, enrolled.codes)

    def _let_in(self, request: HttpRequest, factor: Factor) -> None:
        second_factor.forget_draft(request.session)
        request.session.cycle_key()
        django_otp.login(request, factor)
        second_factor.note_sign_in(request.user)

    def _page(self, request: HttpRequest, form: TokenForm, status: int = 200) -> HttpResponse:
        user: Any = request.user
        context = {**_frame(request), "title": "Second factor", "form": form}
        context["next"] = _next(request)
        if second_factor.confirmed(user) is None:
            secret = second_factor.draft(request.session)
            side, path = second_factor.picture(second_factor.address(user, secret))
            context |= {"side": side, "path": path, "key": second_factor.key(secret)}
        return render(request, "console/second_factor.html", context, status=status)

    def _codes(self, request: HttpRequest, codes: list[str]) -> HttpResponse:
        context = {**_frame(request), "title": "Recovery codes", "codes": codes}
        context["next"] = _next(request)
        return render(request, "console/recovery_codes.html", context)


class OpenWork(View):
    """What lies open in each queue; for everybody."""

    def get(self, request: HttpRequest) -> HttpResponse:
        context = {**_frame(request), "title": "Open work", "lying": lying.build()}
        return render(request, "console/open_work.html", context)


class _Administrators(View):
    """For administrators alone; asked on the server for each request."""

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        if not request.user.has_perm("console.operate"):
            raise PermissionDenied
        return super().dispatch(request, *args, **kwargs)


class Operators(_Administrators):
    """Everybody who may come in, and a form for one more."""

    def get(self, request: HttpRequest) -> HttpResponse:
        return self._page(request, AddForm(initial={"role": Role.VIEWER}))

    def post(self, request: HttpRequest) -> HttpResponse:
        form = AddForm(request.POST)
        if not form.is_valid():
            return self._page(request, form, status=400)
        given = form.cleaned_data
        try:
            made = operators.add(
                email=given["email"],
                name=given["name"],
                role=Role(given["role"]),
                actor=_actor(request),
                reason=given["reason"],
            )
        except Problem as problem:
            form.add_error("email", str(problem))
            return self._page(request, form, status=problem.status)
        return self._page(request, AddForm(initial={"role": Role.VIEWER}), made=made)

    def _page(
        self, request: HttpRequest, form: AddForm, status: int = 200, **more: Any
    ) -> HttpResponse:
        context = {**_frame(request), "title": "Operators", "form": form, **more}
        context["operators"] = operators.listed()
        return render(request, "console/operators.html", context, status=status)


class Operator(_Administrators):
    """One operator, and what an administrator may change."""

    def get(self, request: HttpRequest, id: UUID) -> HttpResponse:
        return self._page(request, self._shown(id), {})

    def post(self, request: HttpRequest, id: UUID) -> HttpResponse:
        shown, act = self._shown(id), request.POST.get("act", "")
        form = (RoleForm if act == "role" else ReasonForm)(request.POST)
        if act not in ("role", "disable", "reset"):
            raise Http404
        if not form.is_valid():
            return self._page(request, shown, {act: form}, status=400)
        try:
            changed = self._do(act, shown, form.cleaned_data, _actor(request))
        except Problem as problem:
            form.add_error(None, str(problem))
            return self._page(request, shown, {act: form}, status=problem.status)
        messages.success(request, "Done." if changed else "It was so already.")
        return redirect("admin:operator", id=id)

    def _do(self, act: str, shown: operators.Shown, given: dict[str, Any], actor: str) -> bool:
        said: dict[str, Any] = {"user": shown.user, "actor": actor, "reason": given["reason"]}
        if act == "role":
            return operators.set_role(role=Role(given["role"]), **said)
        return (operators.disable if act == "disable" else operators.reset_second_factor)(**said)

    def _shown(self, id: UUID) -> operators.Shown:
        found = operators.listed([id])
        if not found:
            raise Http404
        return found[0]

    def _page(
        self, request: HttpRequest, shown: operators.Shown, forms: dict[str, Any], status: int = 200
    ) -> HttpResponse:
        context = {
            **_frame(request),
            "title": shown.user.email,
            "operator": shown,
            "role_form": forms.get("role") or RoleForm(initial={"role": shown.role}),
            "disable_form": forms.get("disable") or ReasonForm(),
            "reset_form": forms.get("reset") or ReasonForm(),
        }
        return render(request, "console/operator.html", context, status=status)


def _is_verified(request: HttpRequest) -> bool:
    user: Any = request.user
    return bool(user.is_verified())


def _frame(request: HttpRequest) -> dict[str, Any]:
    return admin.site.each_context(request)


def _actor(request: HttpRequest) -> str:
    return f"operator:{request.user.pk}"


def _next(request: HttpRequest) -> str:
    """Where they were on the way to, when that is a page of this console."""
    wanted = request.POST.get("next") or request.GET.get("next") or ""
    ours = url_has_allowed_host_and_scheme(
        wanted, allowed_hosts={request.get_host()}, require_https=settings.HTTPS
    )
    return wanted if ours and wanted.startswith("/console/") else reverse("admin:index")
