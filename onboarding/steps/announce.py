"""The tenant is open, and everybody may know."""

from django.utils import timezone

from config.ids import format_id
from onboarding.ledger import Resource
from onboarding.steps.step import Context, Step
from tenants import audit, hosts
from tenants.models import Tenant
from tenants.states import TenantStatus
from webhooks.models import Event
from webhooks.services import publish


class Announce(Step):
    """The tenant becomes active, and `tenant.ready` is published: one transaction, both or neither.

    The status is read by the host middleware and by keys; the event by webhooks, which deliver it
    to the platform's endpoints and the tenant's.
    """

    name = "announce"

    def observe(self, ctx: Context) -> Resource | None:
        """A sign-up that is replayed after its undoing failed has its event, and is not open."""
        if Tenant.objects.filter(pk=ctx.tenant_id, status=TenantStatus.PROVISIONING).exists():
            return None
        event = Event.objects.filter(tenant_id=ctx.tenant_id, idempotency_key=_key(ctx)).first()
        return Resource(format_id("evt", event.pk)) if event else None

    def apply(self, ctx: Context) -> Resource:
        opened = Tenant.objects.filter(pk=ctx.tenant_id, status=TenantStatus.PROVISIONING).update(
            status=TenantStatus.ACTIVE, activated_at=timezone.now()
        )
        event = publish(
            tenant_id=ctx.tenant_id,
            type="tenant.ready",
            payload=_payload(ctx),
            idempotency_key=_key(ctx),
        )
        if opened:
            audit.record(
                actor="system:onboarding",
                action="tenant.ready",
                target=format_id("tnt", ctx.tenant_uuid),
                tenant_id=ctx.tenant_id,
                after={"plan": ctx.plan, "home": ctx.home},
            )
        return Resource(format_id("evt", event.pk) if event else "")

    def after_commit(self, ctx: Context) -> None:
        """Routing remembers that the tenant was being made."""
        hosts.warm([ctx.host])

    def undo(self, ctx: Context, recorded: Resource | None) -> None:
        """The undoing began by closing the tenant; its event goes with the step `tenant`."""


def _key(ctx: Context) -> str:
    return f"tenant.ready:{ctx.root}"


def _payload(ctx: Context) -> dict[str, object]:
    return {
        "tenant_id": format_id("tnt", ctx.tenant_uuid),
        "request_id": format_id("req", ctx.root),
        "slug": ctx.slug,
        "name": ctx.tenant_name,
        "plan": ctx.plan,
        "external_id": ctx.external_id or None,
        "metadata": dict(ctx.metadata),
    }
