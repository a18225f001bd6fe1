"""manage.py reap: let go of sign-ups that nobody came for."""

import argparse
import json
from typing import Any

from django.core.management.base import BaseCommand

from config.terminal import ShowsExamples, actor
from onboarding import reaping


class Command(ShowsExamples, BaseCommand):
    """Runs as the operator, hourly: by beat (onboarding.tasks), or by any scheduler. Idempotent."""

    help = "Let go of strangers' sign-ups that nobody verified in a week: their tenants are undone."
    examples = """
  manage.py reap --dry-run
  manage.py reap --json
"""
    exit_codes = "0 done, handed over to the workers, or nothing to do."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="Count, and change nothing.")
        parser.add_argument("--json", action="store_true", help="Answer as JSON.")

    def handle(self, *args: Any, **options: Any) -> None:
        found = reaping.reap(actor=actor(), dry_run=options["dry_run"])
        if options["json"]:
            ids = [f"req_{request_id}" for request_id in found]
            self.stdout.write(json.dumps({"found": ids, "changed": not options["dry_run"]}))
        elif options["dry_run"]:
            self.stdout.write(f"{len(found)} to let go of; nothing was changed.")
        else:
            self.stdout.write(f"{len(found)} are let go of.")
