"""Celery's periodic calls: settings.SLIPWAY["BEAT"] says when."""

from celery import shared_task
from django.conf import settings

from tenants.sessions import SessionStore


@shared_task(name="tenants.sessions", expires=3600)
def sessions() -> None:
    """Delete expired sessions; a worker without the operator's URL cannot, and leaves them."""
    if "operator" in settings.DATABASES:
        SessionStore.clear_expired()
