"""The platform's own host: its REST API for tenants, and activation links."""

from django.urls import path

from tenants import pages, views

urlpatterns = [
    path("v1/tenants", views.Tenants.as_view(), name="tenants"),
    path("v1/tenants/<str:reference>", views.OneTenant.as_view(), name="tenant"),
    path("v1/tenants/<str:reference>/suspend", views.SuspendTenant.as_view()),
    path("v1/tenants/<str:reference>/reopen", views.ReopenTenant.as_view()),
    path("v1/keys", views.Keys.as_view(), name="keys"),
    path("v1/keys/<str:key_id>", views.OneKey.as_view(), name="key"),
    path("v1/audit", views.Audit.as_view(), name="audit"),
    path("activate/<str:token>", pages.Activate.as_view(), name="activate"),
    path("", pages.Front.as_view(), name="front"),
]
