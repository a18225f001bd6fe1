"""A tenant's own host: its pages, and its part of the API."""

from django.urls import include, path

from tenants import pages, views

handler400 = "config.problems.bad_request_view"
handler403 = "config.problems.forbidden_view"
handler404 = "config.problems.not_found_view"
handler500 = "config.problems.server_error_view"

urlpatterns = [
    path("", pages.Home.as_view(), name="home"),
    path("login", pages.Login.as_view(), name="login"),
    path("logout", pages.Logout.as_view(), name="logout"),
    path("v1/keys", views.Keys.as_view()),
    path("v1/keys/<str:key_id>", views.OneKey.as_view()),
    path("", include("customers.urls")),
]
