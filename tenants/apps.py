from django.apps import AppConfig


class TenantsConfig(AppConfig):
    """Who is a customer, and what keeps one customer's rows from another's eyes."""

    name = "tenants"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from tenants import checks  # noqa: F401  (Registers the system checks.)
