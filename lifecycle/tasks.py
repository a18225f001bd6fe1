"""Celery's periodic calls: settings.SLIPWAY["BEAT"] says when."""

from celery import shared_task
from django.conf import settings

from lifecycle import exporting, quarantine


@shared_task(name="lifecycle.tend", expires=3600)
def tend() -> None:
    """Delete old archives, free the addresses of the long closed; needs the operator's URL."""
    if "operator" in settings.DATABASES:
        exporting.forget_old()
        quarantine.free()
