from django.apps import AppConfig


class JobsConfig(AppConfig):
    """The engine: work is a row; a drainer claims it, a step does it, the engine settles it."""

    name = "jobs"
