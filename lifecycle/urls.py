"""A tenant's life after its sign-up, on the platform's own host."""

from django.urls import URLPattern, path

from lifecycle import views

urlpatterns: list[URLPattern] = [
    path("v1/tenants/<str:reference>/plan", views.Plan.as_view(), name="tenant-plan"),
]
