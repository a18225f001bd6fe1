"""The REST API of webhooks. What the platform has of its own is the same views, mounted again."""

from django.urls import URLPattern, path

from webhooks.views import deliveries, endpoints, event_types, events, replays
from webhooks.views.owner import OwnerView


def _owned(route: str, view: type[OwnerView]) -> list[URLPattern]:
    """A route of a tenant's, and the same of the platform's own."""
    return [
        path(f"v1/{route}", view.as_view()),
        path(f"v1/platform/{route}", view.as_view(own_of_platform=True)),
    ]


def _read(route: str, view: type[OwnerView]) -> list[URLPattern]:
    """As `_owned`; of the platform's there is only what is to be read."""
    methods = ["get", "options"]
    return [
        path(f"v1/{route}", view.as_view()),
        path(f"v1/platform/{route}", view.as_view(own_of_platform=True, http_method_names=methods)),
    ]


urlpatterns: list[URLPattern] = [
    *_read("events", events.Events),
    path("v1/events/batch", events.EventsBatch.as_view()),
    *_read("events/<str:event_id>", events.OneEvent),
    path("v1/event-types", event_types.EventTypes.as_view()),
    path("v1/event-types/<str:name>", event_types.OneEventType.as_view()),
    *_owned("endpoints", endpoints.Endpoints),
    *_owned("endpoints/<str:endpoint_id>", endpoints.OneEndpoint),
    *_owned("endpoints/<str:endpoint_id>/secret/rotate", endpoints.EndpointSecret),
    *_owned("endpoints/<str:endpoint_id>/disable", endpoints.DisableEndpoint),
    *_owned("endpoints/<str:endpoint_id>/enable", endpoints.EnableEndpoint),
    *_owned("endpoints/<str:endpoint_id>/test", endpoints.TestEndpoint),
    *_owned("deliveries", deliveries.Deliveries),
    *_owned("deliveries/<str:delivery_id>", deliveries.OneDelivery),
    *_owned("deliveries/<str:delivery_id>/attempts", deliveries.Attempts),
    *_owned("deliveries/<str:delivery_id>/replay", deliveries.ReplayDelivery),
    *_owned("deliveries/<str:delivery_id>/retry", deliveries.RetryDelivery),
    *_owned("deliveries/<str:delivery_id>/discard", deliveries.DiscardDelivery),
    *_owned("replays", replays.Replays),
    *_owned("replays/<str:replay_id>", replays.OneReplay),
]
