"""Celery's periodic call: settings.SLIPWAY["BEAT"] says when."""

from celery import shared_task
from django.conf import settings

from console import rollup


@shared_task(name="console.rollup", expires=60)
def roll_up() -> None:
    """Write the numbers of the minute that is over; needs the operator's URL."""
    if "operator" in settings.DATABASES:
        rollup.roll_up()
