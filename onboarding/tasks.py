"""Celery's periodic calls: settings.SLIPWAY["BEAT"] says when."""

from celery import shared_task

from onboarding import reaping


@shared_task(name="onboarding.reap", expires=3600)
def reap() -> None:
    """Hand unverified tenants over to be undone."""
    reaping.reap(actor="system:beat")
