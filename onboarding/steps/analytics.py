"""The tenant's first day in the statistics."""

from onboarding.ledger import Resource
from onboarding.models import ActivityDay
from onboarding.steps.step import Context, Step


class Analytics(Step):
    """The first row of the tenant's roll-up: the day it signed up, with its owner.

    Read by the tenant's page (the template tag `activity`) and by GET /v1/activity.
    """

    name = "analytics"

    def observe(self, ctx: Context) -> Resource | None:
        found = ActivityDay.objects.filter(pk=ctx.named(self.name)).first()
        return Resource(found.day.isoformat()) if found else None

    def apply(self, ctx: Context) -> Resource:
        day = ctx.created_at.date()
        ActivityDay(pk=ctx.named(self.name), tenant_id=ctx.tenant_id, day=day, members=1).save(
            force_insert=True
        )
        return Resource(day.isoformat())

    def undo(self, ctx: Context, recorded: Resource | None) -> None:
        ActivityDay.objects.filter(tenant_id=ctx.tenant_id).delete()
