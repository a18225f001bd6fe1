"""The console's site: Django's admin, with its door, its overview and its own pages."""

from hashlib import sha256
from typing import Any

from django.conf import settings
from django.contrib.admin import AdminSite
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest
from django.template.response import TemplateResponse
from django.urls import URLPattern, URLResolver, path, reverse
from django_otp import DEVICE_ID_SESSION_KEY

from config import limits
from config.limits import Limit
from config.proxies import client_network
from console import lockout, sessions

# A guesser may try a few addresses from one place, and no more: lock-out counts each for itself.
SIGN_IN_ADDRESS = Limit("console-address", 60, 15 * 60)
# And one address from many places: slow enough for guessing, though whoever has many places can
# keep an operator out for an hour. Who is in already stays in.
SIGN_IN_NAME = Limit("console-name", 50, 60 * 60)


class ConsoleSite(AdminSite):
    """Django's admin for staff; where settings.SECOND_FACTOR, for those who also showed a code."""

    site_header = site_title = "Slipway"
    index_title = "Overview"
    enable_nav_sidebar = True
    site_url = None

    def has_permission(self, request: HttpRequest) -> bool:
        if not super().has_permission(request):
            return False
        user: Any = request.user
        return not settings.SECOND_FACTOR or user.is_verified()

    def login(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        """Password first; then, where asked for, the second factor."""
        if super().has_permission(request) and not self.has_permission(request):
            return redirect_to_login(
                request.GET.get("next", reverse("admin:index")), reverse("admin:second_factor")
            )
        if request.method == "POST":
            name = sha256(lockout.name_of(request, None).encode()).hexdigest()
            places = SIGN_IN_ADDRESS.of(client_network(request)), SIGN_IN_NAME.of(name)
            limits.take(request, *places)
        answer = super().login(request, {"title": "Sign in", **(extra_context or {})})
        # A form that was refused is shown again.
        if request.method == "POST" and answer.status_code == 302:
            _greet(request)
        return answer

    def index(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> TemplateResponse:
        from console import overview  # Here: the site is made before there are models.

        shown = overview.build(span=request.GET.get("range", ""), user=request.user)
        return super().index(request, {"overview": shown, **(extra_context or {})})

    def get_urls(self) -> list[URLPattern | URLResolver]:
        from console import views

        own: list[URLPattern | URLResolver] = [
            # Also for whom the second factor keeps out: Django's own asks for the permission first.
            path("logout/", self.logout, name="logout"),
            path("second-factor/", views.SecondFactor.as_view(), name="second_factor"),
            path("open/", self.admin_view(views.OpenWork.as_view()), name="open_work"),
            path("operators/", self.admin_view(views.Operators.as_view()), name="operators"),
            path(
                "operators/<uuid:id>/", self.admin_view(views.Operator.as_view()), name="operator"
            ),
        ]
        return own + super().get_urls()


def _greet(request: HttpRequest) -> None:
    """The password was right. Who is asked for a code is not in yet, even if they were before."""
    from console import second_factor

    limits.give_back(request)  # Wrong ones count.
    sessions.begin(request.session)
    request.session.pop(DEVICE_ID_SESSION_KEY, None)
    if not settings.SECOND_FACTOR:
        second_factor.note_sign_in(request.user)
