"""A tenant's life after its sign-up, on the platform's own host."""

from django.urls import URLPattern, path

from lifecycle import views

urlpatterns: list[URLPattern] = [
    path("v1/tenants/<str:reference>/plan", views.Plan.as_view(), name="tenant-plan"),
    path("v1/tenants/<str:reference>/close", views.Close.as_view()),
    path("v1/tenants/<str:reference>/export", views.BeginExport.as_view()),
    path("v1/tenants/<str:reference>/exports", views.Exports.as_view(), name="tenant-exports"),
    path("v1/tenants/<str:reference>/exports/<str:export_id>", views.OneExport.as_view()),
    path("v1/tenants/<str:reference>/exports/<str:export_id>/file", views.ExportedFile.as_view()),
]
