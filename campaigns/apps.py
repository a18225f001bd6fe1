from django.apps import AppConfig


class CampaignsConfig(AppConfig):
    """One message to many of a tenant's customers, through the tenant's own provider."""

    name = "campaigns"
