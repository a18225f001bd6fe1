"""The addresses of the console's own host (settings.CONSOLE_HOST): the console and no more."""

from django.conf import settings
from django.contrib import admin
from django.urls import URLPattern, URLResolver, path
from django.views.generic import RedirectView

urlpatterns: list[URLPattern | URLResolver] = []
if "operator" in settings.DATABASES:
    urlpatterns += [
        path("", RedirectView.as_view(pattern_name="admin:index")),
        path("console/", admin.site.urls),
    ]

handler400 = "config.problems.bad_request_view"
handler403 = "config.problems.forbidden_view"
handler404 = "config.problems.not_found_view"
handler500 = "config.problems.server_error_view"
