"""Celery's periodic calls: settings.SLIPWAY["BEAT"] says when."""

from celery import shared_task
from django.conf import settings

from campaigns import failing, tending
from campaigns import unknown as unknown_messages


@shared_task(name="campaigns.unknown", expires=30)
def unknown() -> None:
    """Resolve what nobody knew, where that is due; needs the operator's URL."""
    if "operator" in settings.DATABASES:
        unknown_messages.tend()


@shared_task(name="campaigns.tend", expires=60)
def tend() -> None:
    """Fail the campaigns whose preparation is a dead letter, and pause the accounts that only fail.

    Needs the operator's URL.
    """
    if "operator" in settings.DATABASES:
        tending.tend()
        failing.tend()
