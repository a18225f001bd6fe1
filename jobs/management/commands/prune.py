"""Delete what was ended long ago."""

import argparse
import json
from typing import Any

from django.core.management.base import BaseCommand

from config.terminal import Progress, ShowsExamples
from jobs import pruning
from jobs.pruning import Sort


class Command(ShowsExamples, BaseCommand):
    """Runs as the operator, hourly: by beat (jobs.tasks), or by any scheduler. Idempotent."""

    help = "Delete finished works, resolved dead letters and the like, older than RETENTION."
    examples = """
  manage.py prune --dry-run
  manage.py prune --json
"""

    exit_codes = "0 done, or nothing to do."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="Count, and change nothing.")
        parser.add_argument("--json", action="store_true", help="Answer as JSON.")

    def handle(self, *args: Any, **options: Any) -> None:
        with Progress(hidden=options["json"]) as bar:
            counts = {
                sort.name: {"days": sort.days, "count": self._prune(sort, bar, options)}
                for sort in pruning.sorts()
            }
        if options["json"]:
            self.stdout.write(json.dumps({"pruned": not options["dry_run"], "sorts": counts}))
            return
        said = "to prune; nothing was changed" if options["dry_run"] else "pruned"
        for name, found in counts.items():
            self.stdout.write(f"{name}: {found['count']} over {found['days']} days {said}")

    def _prune(self, sort: Sort, bar: Progress, options: dict[str, Any]) -> int:
        if options["dry_run"]:
            return pruning.prunable(sort)
        return pruning.prune(sort, tell=bar.step)
