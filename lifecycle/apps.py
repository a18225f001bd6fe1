from django.apps import AppConfig


class LifecycleConfig(AppConfig):
    """A tenant's life after its sign-up: other plans, exports, closing."""

    name = "lifecycle"

    def ready(self) -> None:
        from lifecycle import checks  # noqa: F401 - registers them.
