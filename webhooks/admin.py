"""Endpoints, events and their deliveries in the console: shown, never edited; no secrets."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from config.admin.reading import ReadOnlyAdmin
from jobs.admin import SoughtById
from webhooks import acts, custom_headers
from webhooks.models import Delivery, Endpoint, Event, EventType


@admin.register(Endpoint)
class EndpointAdmin(SoughtById):
    list_display = ("id", "tenant_id", "host", "ordered", "disabled_at", "disabled_reason", "rate")
    list_filter = ("disabled_reason", "ordered")
    search_fields = ("id",)
    ordering = ("-id",)
    hidden = ("secrets", "custom_headers", "url")  # To some the path is a password.

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return [*super().get_fields(request, obj), "headers"]

    @admin.display(description="custom headers")
    def headers(self, endpoint: Endpoint) -> str:
        """Their names."""
        return ", ".join(
            f"{name}: {custom_headers.MASK}"
            for name in custom_headers.names(endpoint.custom_headers)
        )


@admin.register(EventType)
class EventTypeAdmin(ReadOnlyAdmin):
    list_display = ("name", "version", "description", "created_at", "archived_at")
    search_fields = ("name",)
    ordering = ("name", "-version")


@admin.register(Event)
class EventAdmin(SoughtById):
    list_display = ("id", "type", "version", "tenant_id", "created_at")
    search_fields = ("id",)
    ordering = ("-id",)
    hidden = ("kept_payload", "fingerprint", "idempotency_key")  # What it says is the tenant's.


@admin.register(Delivery)
class DeliveryAdmin(SoughtById):
    list_display = ("id", "tenant_id", "host", "state", "attempts", "due_at", "last_error")
    list_filter = ("state",)
    search_fields = ("id",)
    ordering = ("-id",)


# What operators may do.
EndpointAdmin.also(*acts.ENDPOINTS)
DeliveryAdmin.also(*acts.DELIVERIES)
