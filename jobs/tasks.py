"""Celery's own tasks: periodic ones (beat). Nothing that must happen depends on them alone."""

from celery import shared_task
from django.conf import settings
from django.core.management import call_command


@shared_task(name="jobs.partitions", expires=3600)
def partitions() -> None:
    """Make the attempts' partitions two weeks ahead, drop old ones; needs the owner's URL."""
    if "owner" in settings.DATABASES:
        call_command("partitions")


@shared_task(name="jobs.prune", expires=3600)
def prune() -> None:
    """Delete the jobs that were finished long ago; needs the operator's URL."""
    if "operator" in settings.DATABASES:
        call_command("prune")
