"""The REST API of webhooks. What the platform has of its own is the same views, mounted again."""

from django.urls import URLPattern

urlpatterns: list[URLPattern] = []
