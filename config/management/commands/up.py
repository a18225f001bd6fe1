"""`manage.py up`: what `make up` runs. It goes on as a leaner process of the same id."""

import os
import sys
from typing import Any

from django.core.management.base import BaseCommand

from config.terminal import ShowsExamples


class Command(ShowsExamples, BaseCommand):
    help = "Start everything on this machine, and keep it running until Ctrl-C."
    examples = """
  manage.py up
  PORT=8010 manage.py up
  WEBHOOK_OPEN_DESTINATIONS=127.0.0.1:9000 manage.py up
"""
    exit_codes = "0 after a stop; 1 when it could not start."
    requires_system_checks: list[str] = []

    def handle(self, *args: Any, **options: Any) -> None:
        from django.conf import settings

        for name in settings.GENERATED:  # config.up finds out for itself that nobody set them.
            os.environ.pop(name, None)
        os.execv(sys.executable, [sys.executable, "-m", "config.up"])  # noqa: S606 - see above
