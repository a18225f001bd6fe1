"""The addresses of the platform's own host. A tenant's host has its own: tenants.host_urls."""

from django.conf import settings
from django.contrib import admin
from django.urls import URLPattern, URLResolver, include, path

from config import health, metrics, openapi

urlpatterns: list[URLPattern | URLResolver] = [
    path("healthz", health.healthz),
    path("readyz", health.readyz),
    path("metrics", metrics.metrics),
    path("v1/openapi.json", openapi.serve),
    path("", include("onboarding.urls")),
    path("", include("tenants.urls")),
    path("", include("customers.urls")),
    path("", include("webhooks.urls")),
    path("", include("campaigns.urls")),
    path("", include("lifecycle.urls")),
]
if "operator" in settings.DATABASES:
    # Without the operator's login there is no console: this process could not bypass RLS for it.
    urlpatterns.append(path("console/", admin.site.urls))

handler400 = "config.problems.bad_request_view"
handler403 = "config.problems.forbidden_view"
handler404 = "config.problems.not_found_view"
handler500 = "config.problems.server_error_view"
