"""The REST API of campaigns, and of what they are made of."""

from django.urls import URLPattern

urlpatterns: list[URLPattern] = []
