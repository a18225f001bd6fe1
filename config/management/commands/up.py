"""`manage.py up`: what `make up` runs. It goes on as a leaner process of the same id."""

import os
import sys
from typing import Any

from django.core.management.base import BaseCommand


class Command(BaseCommand):
    help = "Start everything on this machine, and keep it running until Ctrl-C."
    requires_system_checks: list[str] = []

    def handle(self, *args: Any, **options: Any) -> None:
        from django.conf import settings

        for name in settings.GENERATED:  # config.up finds out for itself that nobody set them.
            os.environ.pop(name, None)
        os.execv(sys.executable, [sys.executable, "-m", "config.up"])  # noqa: S606 - see above
