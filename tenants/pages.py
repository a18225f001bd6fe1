"""The pages that people see: a tenant's own, and the activation of an account."""

from typing import Any

from django.contrib.auth import authenticate, login, logout
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_protect
from django.views.decorators.debug import sensitive_post_parameters

from tenants import activation, hosts, throttling
from tenants.context import require_tenant
from tenants.forms import JoinForm, LoginForm, PasswordForm
from tenants.models import ApiKey, Membership, Tenant
from tenants.panels import panels

_private = [never_cache, sensitive_post_parameters("password", "again"), csrf_protect]
_MANAGERS = (Membership.Role.OWNER, Membership.Role.ADMIN)


class Front(View):
    """The platform's own address: what this is."""

    def get(self, request: HttpRequest) -> HttpResponse:
        return render(request, "tenants/front.html")


@method_decorator(_private, name="dispatch")
class Home(View):
    """The tenant's own page. A stranger sees its name and where to sign in, and no more."""

    def get(self, request: HttpRequest) -> HttpResponse:
        tenant = _tenant(request)
        if not request.user.is_authenticated:
            return render(request, "tenants/welcome.html", {"tenant": tenant})
        mine = Membership.objects.get(user_id=request.user.pk)
        context: dict[str, Any] = {
            "tenant": tenant,
            "mine": mine,
            "members": Membership.objects.select_related("user").order_by("created_at")[:100],
        }
        if mine.role in _MANAGERS:
            context["keys"] = ApiKey.objects.filter(revoked_at=None).order_by("created_at")[:20]
            context["panels"] = panels()
        return render(request, "tenants/home.html", context)


@method_decorator(_private, name="dispatch")
class Login(View):
    """Sign in to this tenant. Wrong address, wrong password and no member are one answer."""

    def get(self, request: HttpRequest) -> HttpResponse:
        return self._form(request, LoginForm())

    def post(self, request: HttpRequest) -> HttpResponse:
        form = LoginForm(request.POST)
        if not form.is_valid():
            return self._form(request, form, status=400)
        email, password = form.cleaned_data["email"], form.cleaned_data["password"]
        throttling.count_login(request, email)
        user = authenticate(request, username=email, password=password)
        if user is None:
            form.add_error(None, "That address and password do not belong together here.")
            return self._form(request, form, status=403)
        login(request, user)
        return redirect("home")

    def _form(self, request: HttpRequest, form: LoginForm, status: int = 200) -> HttpResponse:
        context = {"tenant": _tenant(request), "form": form}
        return render(request, "tenants/login.html", context, status=status)


@method_decorator(_private, name="dispatch")
class Logout(View):
    """POST only: a link or an image elsewhere signs nobody out."""

    def post(self, request: HttpRequest) -> HttpResponse:
        logout(request)
        return redirect("home")


@method_decorator(_private, name="dispatch")
class Activate(View):
    """The link of the welcome mail, on the platform's own address."""

    def get(self, request: HttpRequest, token: str) -> HttpResponse:
        invitation = activation.read(token)
        return self._form(request, invitation, self._ask(invitation)(user=invitation.user))

    def post(self, request: HttpRequest, token: str) -> HttpResponse:
        throttling.count_activation(request)
        invitation = activation.read(token)
        form = self._ask(invitation)(request.POST, user=invitation.user)
        if not form.is_valid():
            return self._form(request, invitation, form, status=400)
        if invitation.is_known:
            tenant = activation.join(token=token)
        else:
            tenant = activation.activate(token=token, password=form.cleaned_data["password"])
        # A page and no redirect: the policy `form-action 'self'` ends at this host.
        context = {"tenant": tenant, "login_url": hosts.tenant_url(tenant.slug, "/login")}
        return render(request, "tenants/activated.html", context)

    @staticmethod
    def _ask(invitation: activation.Invitation) -> type[JoinForm] | type[PasswordForm]:
        """Who has an account shows its password; the link alone opens nobody's account twice."""
        return JoinForm if invitation.is_known else PasswordForm

    def _form(
        self,
        request: HttpRequest,
        invitation: activation.Invitation,
        form: JoinForm | PasswordForm,
        status: int = 200,
    ) -> HttpResponse:
        context = {
            "tenant": invitation.tenant,
            "user": invitation.user,
            "form": form,
            "is_known": invitation.is_known,
        }
        return render(request, "tenants/activate.html", context, status=status)


def _tenant(request: HttpRequest) -> Tenant:
    """The row of the tenant that the host middleware found."""
    tenant: Tenant = Tenant.objects.get(pk=require_tenant().id)
    return tenant
