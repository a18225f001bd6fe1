"""The tenant and its address."""

from django.db import connection

from jobs.states import State
from onboarding.errors import NotOurs
from onboarding.ledger import Resource
from onboarding.steps.step import Context, Step
from tenants import audit, hosts
from tenants.models import Domain, Tenant


class TenantStep(Step):
    """The rows `Tenant` and `Domain`.

    Read by tenants.hosts.find, which routes each request for the tenant's address, and by
    everything that has a foreign key to a tenant.
    """

    name = "tenant"

    def observe(self, ctx: Context) -> Resource | None:
        tenant = Tenant.objects.filter(pk=ctx.tenant_id).first()
        if tenant is None or not Domain.objects.filter(tenant=tenant, domain=ctx.host).exists():
            return None
        if tenant.uuid != ctx.tenant_uuid:
            raise NotOurs(f"tenant {ctx.tenant_id} was not made by this sign-up")
        return Resource(str(tenant.uuid), {"host": ctx.host})

    def apply(self, ctx: Context) -> Resource:
        Tenant(
            pk=ctx.tenant_id,
            uuid=ctx.tenant_uuid,
            slug=ctx.slug,
            name=ctx.tenant_name,
            plan=ctx.plan,
            home=ctx.home,
            schema_name=ctx.schema,
            external_id=ctx.external_id,
            metadata=dict(ctx.metadata),
            locale=ctx.locale,
            time_zone=ctx.time_zone,
        ).save(force_insert=True)
        # Not save(): DomainMixin's demotes other primary domains, and there are none.
        Domain.objects.bulk_create([Domain(domain=ctx.host, tenant_id=ctx.tenant_id)])
        return Resource(str(ctx.tenant_uuid), {"host": ctx.host})

    def undo(self, ctx: Context, recorded: Resource | None) -> None:
        """The last of all: from here on the address is only held by the sign-up's own row."""
        if self.observe(ctx) is None:
            return
        _cancel_jobs(ctx)  # First: works are locked before their tenant.
        with connection.cursor() as cursor:
            cursor.execute("select slipway.undo_tenant()")

    def after_undo(self, ctx: Context) -> None:
        """Routing remembers the tenant."""
        hosts.forget([ctx.host])


def _cancel_jobs(ctx: Context) -> None:
    """Withdraw the tenant's jobs that wait: whom would they be done for?"""
    with connection.cursor() as cursor:
        cursor.execute("select job, was from slipway.cancel_jobs()")
        cancelled = cursor.fetchall()
    for job, was in cancelled:
        audit.record(
            actor="system:onboarding",
            action="work.cancelled",
            target=f"jobs:{job}",
            tenant_id=ctx.tenant_id,
            reason="Its tenant was undone.",
            before={"state": was},
            after={"state": State.CANCELLED},
        )
