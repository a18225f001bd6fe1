"""Delete what was ended long ago."""

import argparse
import json
from typing import Any

from django.core.management.base import BaseCommand

from config.terminal import ShowsExamples
from jobs import pruning


class Command(ShowsExamples, BaseCommand):
    """Runs as the operator, hourly: by beat (jobs.tasks), or by any scheduler. Idempotent."""

    help = "Delete finished works, resolved dead letters and the like, older than RETENTION."
    examples = """
  manage.py prune --dry-run
  manage.py prune --json
"""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="Count, and change nothing.")
        parser.add_argument("--json", action="store_true", help="Answer as JSON.")

    def handle(self, *args: Any, **options: Any) -> None:
        act = pruning.prunable if options["dry_run"] else pruning.prune
        counts = {sort.name: {"days": sort.days, "count": act(sort)} for sort in pruning.sorts()}
        if options["json"]:
            self.stdout.write(json.dumps({"pruned": not options["dry_run"], "sorts": counts}))
            return
        said = "to prune; nothing was changed" if options["dry_run"] else "pruned"
        for name, sort in counts.items():
            self.stdout.write(f"{name}: {sort['count']} over {sort['days']} days {said}")
