"""A tenant's life after its sign-up, on the platform's own host."""

from django.urls import URLPattern, path

from lifecycle import views

urlpatterns: list[URLPattern] = [
    path("v1/tenants/<str:reference>/plan", views.Plan.as_view(), name="tenant-plan"),
    path("v1/tenants/<str:reference>/close", views.CloseTenant.as_view()),
    path("v1/tenants/<str:reference>/export", views.ExportTenant.as_view()),
    path("v1/tenants/<str:reference>/exports", views.Archives.as_view(), name="tenant-exports"),
    path("v1/tenants/<str:reference>/exports/<str:export_id>", views.OneArchive.as_view()),
    path("v1/tenants/<str:reference>/exports/<str:export_id>/file", views.ArchiveFile.as_view()),
]
