"""The person who owns the tenant."""

from typing import Any
from uuid import UUID

from django.db import connection

from jobs.outcomes import Fail
from onboarding.ledger import Resource
from onboarding.steps.step import Context, NotYet, Step
from tenants.models import Membership, User


class Owner(Step):
    """A user and its membership as owner.

    Read by tenants.people, which lets members sign in, and by the step `welcome`. An address that
    has a user already is somebody: they join by accepting, and until then the membership waits.
    An operator's waits too, for good: see docs/decisions/0010.
    """

    name = "owner"

    def observe(self, ctx: Context) -> Resource | None:
        membership = Membership.objects.filter(tenant_id=ctx.tenant_id, role="owner").first()
        if membership is None:
            return None
        return _resource(membership.user_id, made=membership.user_id == ctx.named(self.name))

    def apply(self, ctx: Context) -> Resource | NotYet:
        person = _person_of(ctx.email) or _make(ctx.named(self.name), ctx.email)
        if person is None:
            person = _ask("slipway.keep_place", ctx.named("membership"), ctx.email)
        elif not _ask("slipway.add_owner", ctx.named("membership"), person):
            person = None
        if person is None:
            return Fail("owner: the tenant is not being made any more")
        return _resource(person, made=person == ctx.named(self.name))

    def undo(self, ctx: Context, recorded: Resource | None) -> None:
        _ask("slipway.undo_owner", ctx.named(self.name))


def _person_of(email: str) -> UUID | None:
    """The user who has this address, if any; never one of the staff."""
    person: UUID | None = _ask("slipway.user_by_email", email)
    return person


def _make(person: UUID, email: str) -> UUID | None:
    """A new user; or whoever was quicker with the same address; None where it is an operator's."""
    user = User(pk=person, email=email.lower())
    user.set_unusable_password()
    User.objects.bulk_create([user], ignore_conflicts=True)
    return _person_of(email)


def _ask(function: str, *values: UUID | str) -> Any:
    """What a definer function says: the app role may not by itself."""
    with connection.cursor() as cursor:
        cursor.execute(f"select {function}({', '.join(['%s'] * len(values))})", values)
        row = cursor.fetchone()
    return row[0] if row else None


def _resource(person: UUID, *, made: bool) -> Resource:
    return Resource(str(person), {"made": made})
