from django.apps import AppConfig


class WebhooksConfig(AppConfig):
    """What happened, told to those who asked to hear of it."""

    name = "webhooks"

    def ready(self) -> None:
        from webhooks import checks  # noqa: F401 - registers them.
