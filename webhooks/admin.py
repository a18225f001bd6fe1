"""Endpoints, events and their deliveries in the console: shown, never edited; no secrets."""

from typing import Any
from uuid import UUID

from django.contrib import admin
from django.http import HttpRequest
from django.utils.safestring import SafeString

from config.admin import showing
from config.admin.filters import ByAge, ByEnd, ByLane, ByTenant, choice, presence, text
from config.admin.paging import NEWEST, Walk, Wish
from config.admin.reading import ReadOnlyAdmin
from config.admin.seeking import Related, Searches
from config.admin.showing import Panel, link, mark, moment
from config.ids import format_id
from jobs import panels, seeking
from jobs.admin import WorkAdmin
from jobs.models import Lane
from jobs.states import State
from tenants.admin import AuditEntryAdmin
from webhooks import acts, custom_headers
from webhooks.models import SET_ASIDE, Delivery, Endpoint, Event, EventType

ENDPOINT = Related("webhooks.Endpoint", "endpoint_id", "endpoint")
SHOWN = 20  # Deliveries of an endpoint, or of an event.


@admin.register(Endpoint)
class EndpointAdmin(ReadOnlyAdmin):
    list_display = ("ident", "whose", "host", "ordered", "stands", "disabled_at", "rate", "made")
    list_filter = (
        choice("disabled_reason", Endpoint.Disabled.values),
        "ordered",
        presence("disabled_at", yes="disabled", no="enabled", name="disabled"),
        presence("deleted_at", yes="deleted", no="there", name="deleted"),
        ByTenant,
        ByAge,
    )
    searches = Searches(prefix="ep", host="host")
    walks = (
        Walk(("host",), (NEWEST,)),
        Walk(("disabled_reason",), (NEWEST,)),
        # Disabled, and there: the index endpoint_disabled has these alone, and they are few.
        Walk(
            ("disabled", "deleted"),
            (NEWEST,),
            only={"disabled": frozenset({False}), "deleted": frozenset({True})},
        ),
    )
    hidden = ("secrets", "custom_headers", "url")  # To some the path is a password.

    @admin.display(description="state")
    def stands(self, endpoint: Endpoint) -> SafeString:
        if endpoint.deleted_at is not None:
            return mark("deleted")
        if endpoint.disabled_at is None:
            return mark("active")
        return mark("disabled", f"disabled: {endpoint.disabled_reason}")

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return [*super().get_fields(request, obj), "headers"]

    @admin.display(description="custom headers")
    def headers(self, endpoint: Endpoint) -> str:
        """Their names."""
        return ", ".join(
            f"{name}: {custom_headers.MASK}"
            for name in custom_headers.names(endpoint.custom_headers)
        )

    def panels(self, request: HttpRequest, row: Any) -> list[Panel]:
        sent = Delivery.objects.filter(tenant_id=row.tenant_id, endpoint_id=row.pk)
        return [
            _health(row),
            panels.of_lane(row.lane, row.tenant_id),
            _deliveries("Recent deliveries", sent, endpoint=False),
            panels.audit_trail(format_id("ep", row.pk), f"lane:{row.lane}"),
            *super().panels(request, row),
        ]


@admin.register(EventType)
class EventTypeAdmin(ReadOnlyAdmin):
    list_display = ("name", "version", "description", "created_at", "archived_at")
    searches = Searches(texts=("name",), tenants=False)


@admin.register(Event)
class EventAdmin(ReadOnlyAdmin):
    list_display = ("ident", "type", "version", "whose", "made")
    list_filter = (text("type", hint="invoice.paid"), ByTenant, ByAge)
    searches = Searches(prefix="evt")
    # (tenant, type, id) is an index; of one type alone the newest are looked through.
    walks = (Walk(("tenant", "type"), (NEWEST,)),)
    hidden = ("kept_payload", "fingerprint", "idempotency_key")  # What it says is the tenant's.

    def panels(self, request: HttpRequest, row: Any) -> list[Panel]:
        told = Delivery.objects.filter(tenant_id=row.tenant_id, event_id=row.pk)
        return [_deliveries("Told to", told), *super().panels(request, row)]


@admin.register(Delivery)
class DeliveryAdmin(WorkAdmin):
    list_display = ("ident", "whose", "host", "stands", "attempts", "due", "made", "said")
    list_filter = (
        choice("state", State.values), ByTenant, ByLane, text("host"), "test", ByAge, ByEnd,
    )  # fmt: skip
    searches = Searches(
        prefix="dlv",
        related={
            "evt": Related("webhooks.Event", "event_id", "event"),
            "ep": ENDPOINT,
        },
        host="host",
        errors="last_error",
    )
    walks = (
        Walk(("event",), (NEWEST,)),
        Walk(("endpoint",), (NEWEST,)),
        Walk(("tenant", "state"), (NEWEST,), only={"state": frozenset(SET_ASIDE)}),
        *WorkAdmin.walks,
    )

    def wish_of_lane(self, lane: str) -> Wish:
        """By its endpoint, to whose deliveries an index leads."""
        endpoint_id = _endpoint_of(lane)
        found = ENDPOINT.wish(endpoint_id) if endpoint_id else None
        return found or super().wish_of_lane(lane)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        others = {"event": "event_link", "endpoint": "endpoint_link"}
        return [others.get(name, name) for name in super().get_fields(request, obj)]

    @admin.display(description="event")
    def event_link(self, delivery: Delivery) -> SafeString | str:
        return link("webhooks_event", delivery.event_id, format_id("evt", delivery.event_id))

    @admin.display(description="endpoint")
    def endpoint_link(self, delivery: Delivery) -> SafeString | str:
        key = delivery.endpoint_id
        return link("webhooks_endpoint", key, format_id("ep", key))


def _health(endpoint: Endpoint) -> Panel:
    """How its lane fares, and who holds it back."""
    rows = Lane.objects.filter(tenant_id=int(endpoint.tenant_id or 0), key=endpoint.lane)
    lane = rows.first()
    if lane is None:
        return showing.facts("Health", [("lane", f"{endpoint.lane}: nothing to say of it")])
    pairs = [
        ("lane", link("jobs_lane", lane.pk, lane.key)),
        ("held back", panels.why_paused(lane) or "no"),
        ("failures in a row", lane.failures),
        ("failing since", lane.failing_since),
        ("breaker trips", lane.trips),
        ("rate", lane.rate),
        ("window", lane.window),
    ]
    return showing.facts("Health", pairs)


def _deliveries(title: str, rows: Any, *, endpoint: bool = True) -> Panel:
    """The newest of some deliveries."""
    shown = [
        (link("webhooks_delivery", one.pk, format_id("dlv", one.pk)), mark(one.state), one.attempts,
         moment(one.created_at),
         *([link("webhooks_endpoint", one.endpoint_id, one.host)] if endpoint else []),
         one.last_error)
        for one in rows.order_by(NEWEST)[:SHOWN]
    ]  # fmt: skip
    where = ("to",) if endpoint else ()
    columns = ("delivery", "state", "attempts", "made", *where, "last error")
    return showing.table(title, columns, shown)


def _endpoint_of(lane: str) -> UUID | None:
    kind, _, said = lane.partition(":")
    try:
        return UUID(said) if kind == "endpoint" else None
    except ValueError:
        return None


seeking.CALLED["endpoint"] = Endpoint
AuditEntryAdmin.spelled.append(lambda uuid: [f"ep_{uuid}", f"evt_{uuid}", f"lane:endpoint:{uuid}"])

# What operators may do.
EndpointAdmin.also(*acts.ENDPOINTS)
DeliveryAdmin.also(*acts.DELIVERIES)
