"""Sign-ups and what was made for them in the console."""

from typing import Any

from django.contrib import admin
from django.db.models import F, Q
from django.http import HttpRequest
from django.utils.safestring import SafeString

from config.admin import showing
from config.admin.filters import ByAge, ByEnd, ByLane, ByTenant, choice
from config.admin.paging import NEWEST, Walk, Wish
from config.admin.reading import ReadOnlyAdmin
from config.admin.seeking import Searches, Sought
from config.admin.showing import NOTHING, Panel, link, mark, moment
from jobs import panels
from jobs.acts import DISCARDS
from jobs.admin import STANDING, WorkAdmin
from jobs.states import State
from onboarding import acts
from onboarding.models import RELEASED, PendingOnboarding, ProvisionedResource
from onboarding.states import progress
from onboarding.status import step_list
from tenants.admin import TenantAdmin, plans
from tenants.models import Tenant

LATEST = (F("created_at").desc(nulls_last=True), NEWEST)


@admin.register(PendingOnboarding)
class PendingOnboardingAdmin(WorkAdmin):
    """Sign-ups. Their ids do not tell when they were made: the list goes by that."""

    list_display = ("slug", "plan", "home", "stands", "attempts", "due", "made", "ready", "said")
    list_filter = (
        choice("state", State.values), choice("plan", plans), ByTenant, ByLane, ByAge, ByEnd,
    )  # fmt: skip
    key = ("created_at", "id")
    tenant_first = False
    searches = Searches(
        prefix="req",
        named=lambda text: _by_slug(text),
        names="the address that it holds",
        errors="last_error",
    )
    walks = (
        Walk(("tenant",), LATEST),  # A tenant has one.
        Walk(("state",), LATEST, only={"state": STANDING}),
        Walk(("state",), LATEST, only={"state": frozenset({State.PROCESSING})}),
    )
    hidden = ("key_digest", "fingerprint")

    def wish_of_lane(self, lane: str) -> Wish:
        """Each has a lane of its own, which is called after its tenant: that leads by an index."""
        kind, _, number = lane.partition(":")
        if kind != "onboarding" or not (number.isdecimal() and len(number) < 19):
            return super().wish_of_lane(lane)
        return Wish("tenant", "tenant_id", int(number), also=Q(lane=lane))

    @admin.display(description="ready")
    def ready(self, sign_up: PendingOnboarding) -> SafeString | str:
        return moment(sign_up.finished_at if sign_up.state == State.SUCCEEDED else None)

    def panels(self, request: HttpRequest, row: Any) -> list[Panel]:
        found = ProvisionedResource.objects.filter(tenant_id=row.tenant_id)
        ledger = list(found.order_by("created_at")[: panels.SHOWN])
        standing, attempts, *others = panels.of_work(row)
        return [
            _steps(row, ledger),
            standing,
            attempts,
            _ledger(ledger),
            *others,
        ]


@admin.register(ProvisionedResource)
class ProvisionedResourceAdmin(ReadOnlyAdmin):
    list_display = ("whose", "step", "name", "made")
    list_filter = (ByTenant,)
    key = ("tenant_id", "id")  # Their ids tell no time either.
    tenant_first = False
    walks = (Walk(("tenant",), ("-tenant_id", "-id")),)


def _by_slug(text: str) -> Sought | None:
    """The sign-up that holds an address: there is one at most, by a unique index."""
    held = PendingOnboarding.objects.filter(~Q(state__in=RELEASED), slug=text)
    found = held.values_list("pk", flat=True).first()
    if found is None:
        return None
    return Sought((Wish("pk", "pk", found),), f"The one that holds the address “{text}”.")


def _steps(sign_up: PendingOnboarding, ledger: list[ProvisionedResource]) -> Panel:
    """Each step and its state, as the public hears of it, with what it made."""
    made = {one.step: one for one in ledger}
    done = {one.step: one.created_at.isoformat() for one in ledger}
    now = progress(sign_up.state, begun=bool(sign_up.attempts or ledger))
    rows = [
        (
            step["name"],
            mark(step["state"]),
            moment(made[step["name"]].created_at) if step["name"] in made else NOTHING,
            made[step["name"]].name if step["name"] in made else NOTHING,
        )
        for step in step_list(sign_up.home, now, done)
    ]
    title, note = "Steps", f"In public: {now}."
    return showing.table(title, ("step", "state", "recorded", "what it made"), rows, note=note)


def _ledger(ledger: list[ProvisionedResource]) -> Panel:
    """What was made for it, until it is undone."""
    rows = [
        (link("onboarding_provisionedresource", one.pk, one.step), one.name,
         ", ".join(sorted(one.detail)), one.created_at)
        for one in ledger
    ]  # fmt: skip
    columns = ("step", "name in the world", "details kept", "recorded")
    return showing.table("Resource ledger", columns, rows, nothing="Nothing was made yet.")


def _sign_up_of(tenant: Tenant) -> list[Panel]:
    """A tenant's own sign-up."""
    found = PendingOnboarding.objects.filter(tenant_id=tenant.pk).first()
    if found is None:
        return []
    page = link("onboarding_pendingonboarding", found.pk, found.pk)
    pairs = [("request", page), ("state", mark(found.state)), ("accepted", found.created_at)]
    return [showing.facts("Sign-up", pairs)]


TenantAdmin.shows(_sign_up_of)

# What operators may do.
PendingOnboardingAdmin.also(*acts.SIGN_UPS)
DISCARDS["onboarding"] = "undo_onboarding"  # By its dead letter, too.
