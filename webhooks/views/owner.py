"""Whose endpoints, events and deliveries a route is about: a tenant's, or the platform's own."""

from rest_framework.request import Request

from tenants.auth import Caller, CallerView
from tenants.context import PLATFORM, TenantRef, tenant_context


class OwnerView(CallerView):
    """A view that is mounted twice: under /v1/ for tenants, under /v1/platform/ for the platform.

        path("v1/events", Events.as_view()),
        path("v1/platform/events", Events.as_view(own_of_platform=True)),

    Its handlers run in the context of the owner, as the app role: RLS keeps the platform's rows
    apart as it keeps each tenant's.
    """

    own_of_platform: bool = False

    @property
    def platform_only(self) -> bool:  # type: ignore[override]
        return self.own_of_platform

    @property
    def tenant_required(self) -> bool:  # type: ignore[override]
        return not self.own_of_platform

    def initial(self, request: Request, *args: object, **kwargs: object) -> None:
        super().initial(request, *args, **kwargs)
        if self.own_of_platform:
            # Whatever tenant the key names beside: the route says whose.
            self._entered.enter_context(tenant_context(PLATFORM))

    @staticmethod
    def caller(request: Request) -> Caller:
        """Who calls: set by KeyAuthentication."""
        caller: Caller = request.caller  # type: ignore[attr-defined]
        return caller

    def owner(self, request: Request) -> TenantRef:
        """Whose rows these are: what services take as their tenant."""
        return PLATFORM if self.own_of_platform else self.caller(request).tenant_ref
