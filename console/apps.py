from django.apps import AppConfig


class ConsoleConfig(AppConfig):
    """The operators' side: Django's admin, on the operator's alias."""

    name = "console"
