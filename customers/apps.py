from django.apps import AppConfig


class CustomersConfig(AppConfig):
    """The tenant's own data. Its tables are in `pool`, and in each dedicated tenant's schema."""

    name = "customers"
