"""From the host of a request to its tenant, before anything else looks at the request."""

from collections.abc import Awaitable, Callable
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils.module_loading import import_string
from structlog.contextvars import bind_contextvars

from config.problems import problem_response
from tenants import hosts, problems
from tenants.context import no_tenant, tenant_context
from tenants.states import TenantStatus
from tenants.summary import TenantSummary

GetResponse = Callable[[HttpRequest], Any]

# Probes come by the machine's address, whatever that is; they tell nothing of any tenant.
_ANY_HOST = frozenset({"/healthz", "/readyz", "/metrics"})


class TenantHostMiddleware:
    """Sets `request.tenant`, the urlconf and the tenant context by the Host header.

    On the platform's own hosts there is no `request.tenant`; the console's own has its urlconf. A
    tenant that is not active is answered here: the set-up page while it is made (503), suspended
    (403), closed (410), unknown (404).
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response
        self.is_async = iscoroutinefunction(get_response)
        if self.is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        if self.is_async:
            return self._respond_async(request)
        answer = self._route(request)
        if answer is not None:
            return answer
        with self._context(request):
            response: HttpResponseBase = self.get_response(request)
            return response

    async def _respond_async(self, request: HttpRequest) -> HttpResponseBase:
        answer = await sync_to_async(self._route)(request)
        if answer is not None:
            return answer
        with self._context(request):
            response: HttpResponseBase = await self.get_response(request)
            return response

    def _route(self, request: HttpRequest) -> HttpResponseBase | None:
        """Find the tenant; an answer when the request ends here."""
        host = hosts.host_of(request)
        if host and host == settings.CONSOLE_HOST and request.path not in _ANY_HOST:
            request.urlconf = settings.CONSOLE_URLCONF
            return None
        if hosts.is_apex(host) or request.path in _ANY_HOST:
            return None
        tenant = hosts.find(host) if host else None
        if tenant is None or tenant.status == TenantStatus.PROVISIONING:
            page = _set_up_page(request, host)
            return page or problem_response(problems.UnknownHost(), request)
        if tenant.status == TenantStatus.SUSPENDED:
            return problem_response(problems.TenantSuspended(), request)
        if tenant.status != TenantStatus.ACTIVE:
            return problem_response(problems.TenantClosed(), request)
        _enter(request, tenant)
        return None

    @staticmethod
    def _context(request: HttpRequest) -> Any:
        tenant: TenantSummary | None = getattr(request, "tenant", None)
        return tenant_context(tenant.ref) if tenant else no_tenant()


def _enter(request: HttpRequest, tenant: TenantSummary) -> None:
    request.tenant = tenant  # type: ignore[attr-defined]
    request.urlconf = settings.TENANT_URLCONF
    bind_contextvars(tenant=str(tenant.uuid))


def _set_up_page(request: HttpRequest, host: str) -> HttpResponse | None:
    """The page of a tenant that is being made; None when nobody signed up for this host."""
    path = settings.SLIPWAY.get("HOST_FALLBACK")
    if not host or not path:
        return None
    page: HttpResponse | None = import_string(path)(request, host)
    if page is not None:
        page._has_been_logged = True  # type: ignore[attr-defined]  # Django logs each 5xx as an error.
    return page
