from django.apps import AppConfig
from django.contrib.admin import apps


class ConsoleConfig(AppConfig):
    """The operators' side: Django's admin, on the operator's alias."""

    name = "console"
    default = True


class SiteConfig(apps.AdminConfig):
    """Django's admin, with console.site as its site."""

    default_site = "console.site.ConsoleSite"
    default = False
