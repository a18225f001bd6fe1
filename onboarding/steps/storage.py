"""A place for the tenant's files."""

from onboarding import files
from onboarding.ledger import Resource
from onboarding.steps.step import Context, Step


class Storage(Step):
    """A marked prefix in settings.STORAGES["tenants"].

    Read by onboarding.files, which hands out and deletes only what carries its owner's mark, and by
    `manage.py reconcile`.
    """

    name = "storage"
    outside = True

    def observe(self, ctx: Context) -> Resource | None:
        prefix = files.prefix_of(ctx.tenant_id)
        return Resource(prefix) if files.read_mark(prefix) == ctx.mark else None

    def apply(self, ctx: Context) -> Resource:
        prefix = files.prefix_of(ctx.tenant_id)
        files.write_mark(prefix, ctx.mark)
        return Resource(prefix)

    def undo(self, ctx: Context, recorded: Resource | None) -> None:
        prefix = files.prefix_of(ctx.tenant_id)
        files.refuse_unless_ours(prefix, ctx.mark)
        files.remove(prefix)
