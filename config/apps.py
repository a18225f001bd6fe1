from django.apps import AppConfig


class ConfigConfig(AppConfig):
    """The frame: settings, processes, API manners."""

    name = "config"
