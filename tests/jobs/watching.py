"""Queues whose lanes are watched, for as long as a test wants them to be."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.conf import settings

from jobs.models import Job
from jobs.registry import queue


@contextmanager
def watching(name: str, monkeypatch, **changes) -> Iterator[None]:
    """Change a queue's settings; its notices are gone afterwards."""
    with monkeypatch.context() as patch:
        spec = settings.SLIPWAY["QUEUES"][name] | changes
        patch.setitem(settings.SLIPWAY["QUEUES"], name, spec)
        queue.cache_clear()
        yield
    queue.cache_clear()
    Job.objects.using("operator").filter(kind="notice").delete()
