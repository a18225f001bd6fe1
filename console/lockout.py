"""Who tried too often at the console's door: django-axes, which counts there alone.

The tenants' own pages have limits of their own (tenants.throttling), and their database login could
not write axes' tables. An address that is nobody's is counted, and shut out, as an operator's is.
"""

from typing import Any

from axes.handlers.database import AxesDatabaseHandler
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from tenants.routers import is_operator


class ConsoleOnly(AxesDatabaseHandler):  # type: ignore[misc]
    """axes' own handler where the console asks, and none elsewhere."""

    def is_allowed(self, request: HttpRequest, credentials: dict[str, Any] | None = None) -> bool:
        return not is_operator() or bool(super().is_allowed(request, credentials))

    def user_login_failed(
        self,
        sender: Any,
        credentials: dict[str, Any],
        request: HttpRequest | None = None,
        **kwargs: Any,
    ) -> None:
        if is_operator():
            super().user_login_failed(sender, credentials, request, **kwargs)

    def user_logged_in(self, sender: Any, request: HttpRequest, user: Any, **kwargs: Any) -> None:
        if is_operator():
            super().user_logged_in(sender, request, user, **kwargs)

    def user_logged_out(self, sender: Any, request: HttpRequest, user: Any, **kwargs: Any) -> None:
        if is_operator():
            super().user_logged_out(sender, request, user, **kwargs)


def name_of(request: HttpRequest, credentials: dict[str, Any] | None) -> str:
    """The address that is tried, however it is spelled: one person is one address."""
    given = (credentials or {}).get("username") or request.POST.get("username") or ""
    return str(given).strip().lower()[:254]


def locked(
    request: HttpRequest, original: HttpResponse | None, credentials: dict[str, Any] | None
) -> HttpResponse:
    """The answer while the door is shut: the same for everybody, whether they exist or not."""
    response = render(request, "console/locked.html", {"title": "Sign in"}, status=429)
    response.headers["Retry-After"] = "900"
    return response
