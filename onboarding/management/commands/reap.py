"""manage.py reap: let go of sign-ups that nobody came for."""

import argparse
import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from config.terminal import ShowsExamples, actor
from onboarding import reaping


class Command(ShowsExamples, BaseCommand):
    """Runs as the operator, hourly: by beat (onboarding.tasks), or by any scheduler. Idempotent."""

    help = "Let go of strangers' sign-ups that nobody verified in a week: their tenants are undone."
    examples = """
  manage.py reap --dry-run
  manage.py reap --reason "the hourly round" --json
"""
    exit_codes = "0 done, handed over to the workers, or nothing to do; 1 refused."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="Count, and change nothing.")
        parser.add_argument("--reason", default="", help="Why: the audit trail keeps it.")
        parser.add_argument("--json", action="store_true", help="Answer as JSON.")

    def handle(self, *args: Any, **options: Any) -> None:
        reason, dry_run = options["reason"].strip(), options["dry_run"]
        if not (dry_run or reason):
            raise CommandError("Say why with --reason: tenants are undone.")
        found = reaping.reap(actor=actor(), reason=reason, dry_run=dry_run)
        if options["json"]:
            ids = [f"req_{request_id}" for request_id in found]
            self.stdout.write(json.dumps({"found": ids, "changed": not options["dry_run"]}))
        elif options["dry_run"]:
            self.stdout.write(f"{len(found)} to let go of; nothing was changed.")
        else:
            self.stdout.write(f"{len(found)} are let go of.")
