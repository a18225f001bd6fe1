"""The console's requests run as operator: sessions, sign-in and every query of its pages.

Where settings.CONSOLE_HOST names a host, the console answers there alone.
"""

from collections.abc import Callable
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.conf import settings
from django.http import HttpRequest

from config.problems import NotFoundProblem, problem_response
from console import sessions
from tenants import hosts
from tenants.routers import as_operator

PREFIX = "/console/"


class ConsoleMiddleware:
    """Wraps all that follows, so that the console's session cookie is read as operator too.

    Only on the platform's own hosts: on a tenant's host the path is nothing special, and its
    urlconf has no console. Without the operator's alias there is none anywhere.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response
        self.is_async = iscoroutinefunction(get_response)
        if self.is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Any:
        if self.is_async:
            return self._respond_async(request)
        if _is_elsewhere(request):
            return problem_response(NotFoundProblem(), request)
        if not is_console(request):
            return self.get_response(request)
        with as_operator():
            return self.get_response(request)

    async def _respond_async(self, request: HttpRequest) -> Any:
        if _is_elsewhere(request):
            return problem_response(NotFoundProblem(), request)
        if not is_console(request):
            return await self.get_response(request)
        with as_operator():
            return await self.get_response(request)


class SessionEndsMiddleware:
    """Signs operators out in time (console.sessions); it needs the session and its user."""

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> Any:
        if is_console(request) and request.user.is_authenticated:
            sessions.go_on(request)
        return self.get_response(request)


def is_console(request: HttpRequest) -> bool:
    """Whether the request is for the console."""
    return _is_home(request) and "operator" in settings.DATABASES and not _is_elsewhere(request)


def _is_elsewhere(request: HttpRequest) -> bool:
    """Whether it asks one of the platform's other hosts for the console."""
    alone = settings.CONSOLE_HOST
    return bool(alone) and _is_home(request) and hosts.host_of(request) != alone


def _is_home(request: HttpRequest) -> bool:
    at_home = getattr(request, "tenant", None) is None
    return at_home and request.path.startswith(PREFIX)
