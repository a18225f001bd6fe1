"""Delete the jobs that were finished long ago."""

import argparse
import json
from typing import Any

from django.core.management.base import BaseCommand

from jobs import pruning


class Command(BaseCommand):
    """Runs as the operator, hourly: by beat (jobs.tasks), or by any scheduler. Idempotent."""

    help = "Delete the jobs that were finished longer ago than RETENTION."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="Count, and change nothing.")
        parser.add_argument("--json", action="store_true", help="Answer as JSON.")

    def handle(self, *args: Any, **options: Any) -> None:
        days = pruning.keep_days()
        found = pruning.prunable(days=days) if options["dry_run"] else None
        pruned = 0 if options["dry_run"] else pruning.prune(days=days)
        if options["json"]:
            self.stdout.write(json.dumps({"days": days, "found": found, "pruned": pruned}))
        elif found is not None:
            self.stdout.write(f"{found} finished over {days} days ago; nothing was changed.")
        else:
            self.stdout.write(f"{pruned} pruned")
