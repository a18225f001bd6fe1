"""What the tenant starts with."""

from onboarding import models
from onboarding.ledger import Resource
from onboarding.steps.step import Context, Step

# As POST /v1/segments takes it (docs/segments.md): everyone whom one may write to.
SAMPLE_SEGMENT = {
    "name": "Everyone who agreed to hear from you",
    "filter": {"field": "consent", "op": "=", "value": "given"},
}


class Workspace(Step):
    """Default settings, the role of those who are invited, and a sample segment.

    Read by the tenant's page (the template tag `workspace`) and by GET /v1/workspace.
    """

    name = "workspace"

    def observe(self, ctx: Context) -> Resource | None:
        found = models.Workspace.objects.filter(tenant_id=ctx.tenant_id).first()
        return Resource(str(found.pk)) if found else None

    def apply(self, ctx: Context) -> Resource:
        models.Workspace(
            pk=ctx.named(self.name), tenant_id=ctx.tenant_id, segments=[SAMPLE_SEGMENT]
        ).save(force_insert=True)
        return Resource(str(ctx.named(self.name)))

    def undo(self, ctx: Context, recorded: Resource | None) -> None:
        models.Workspace.objects.filter(tenant_id=ctx.tenant_id).delete()
