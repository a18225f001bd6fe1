from django.apps import AppConfig


class JobsConfig(AppConfig):
    """The engine: work is a row, a drainer claims it with a lease, a step does it, the engine settles."""

    name = "jobs"
