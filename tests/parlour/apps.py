from django.apps import AppConfig


class ParlourConfig(AppConfig):
    """An extension whose table has all that makes rows hard to move."""

    name = "tests.parlour"
    tenant_app = True
    slipway = {}
