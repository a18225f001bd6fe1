from django.apps import AppConfig


class WorksConfig(AppConfig):
    """Queues of the tests' own: one of each sort that the engine knows."""

    name = "tests.works"
    label = "works"
