"""Routing, warmed."""

from onboarding.ledger import Resource
from onboarding.steps.step import Context, Step
from tenants import hosts


class Cache(Step):
    """The tenant's address in the cache that all processes share.

    Read by tenants.hosts.find on the first request for the address. Redis may be away: routing then
    asks Postgres, and so the step succeeds all the same.
    """

    name = "cache"
    outside = True
    observable = False

    def observe(self, ctx: Context) -> Resource | None:
        return None  # A cache forgets; to look costs as much as to write.

    def apply(self, ctx: Context) -> Resource:
        hosts.warm([ctx.host])
        return Resource(ctx.host)

    def undo(self, ctx: Context, recorded: Resource | None) -> None:
        hosts.forget([ctx.host])
