"""Celery's periodic calls: settings.SLIPWAY["BEAT"] says when."""

from celery import shared_task
from django.conf import settings

from webhooks import tending


@shared_task(name="webhooks.tend", expires=60)
def tend() -> None:
    """Disable endpoints that only fail, hold what they are not told; needs the operator's URL."""
    if "operator" in settings.DATABASES:
        tending.tend()
