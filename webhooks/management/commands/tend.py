"""Look after webhook endpoints: disable those that only fail, hold and bound what they miss."""

import argparse
import json
from typing import Any

from django.core.management.base import BaseCommand

from config.terminal import ShowsExamples
from webhooks import tending


class Command(ShowsExamples, BaseCommand):
    """Runs as the operator, each minute: by beat (webhooks.tasks), or by any scheduler."""

    help = "Disable endpoints that have only failed for days; hold what disabled ones are not told."
    examples = """
  manage.py tend --dry-run
  manage.py tend --json
"""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="Count, and change nothing.")
        parser.add_argument("--json", action="store_true", help="Answer as JSON.")

    def handle(self, *args: Any, **options: Any) -> None:
        counts = tending.waiting() if options["dry_run"] else tending.tend().counts()
        if options["json"]:
            self.stdout.write(json.dumps(counts))
        else:
            self.stdout.write(", ".join(f"{count} {name}" for name, count in counts.items()))
