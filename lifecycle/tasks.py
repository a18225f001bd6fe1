"""Celery's periodic calls: settings.SLIPWAY["BEAT"] says when."""

from celery import shared_task
from django.conf import settings

from lifecycle import exporting, quarantine
from lifecycle.moving import undoing


@shared_task(name="lifecycle.tend", expires=3600)
def tend() -> None:
    """Delete old archives, free the addresses of the long closed; needs the operator's URL."""
    if "operator" in settings.DATABASES:
        exporting.forget_old()
        quarantine.free()


@shared_task(name="lifecycle.moves", expires=60)
def moves() -> None:
    """Bring moves to an end whose job will not; needs the owner's URL, for their triggers."""
    if {"operator", "owner"} <= set(settings.DATABASES):
        undoing.tend()
