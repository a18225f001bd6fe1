"""Write the numbers that the overview shows."""

import argparse
import dataclasses
import json
from typing import Any

from django.core.management.base import BaseCommand

from config.terminal import ShowsExamples
from console import rollup


class Command(ShowsExamples, BaseCommand):
    """Runs as the operator, each minute: by beat (console.tasks), or by any scheduler."""

    help = "Count each queue's minutes that are over, for the console's overview. May be run again."
    examples = """
  manage.py rollup --dry-run
  manage.py rollup --json
"""
    exit_codes = "0 done, or another run was at it."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="Count, and change nothing.")
        parser.add_argument("--json", action="store_true", help="Answer as JSON.")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["dry_run"]:
            said: dict[str, Any] = {"due": rollup.due()}
            text = f"{said['due']} minutes to write; nothing was changed"
        else:
            rolled = rollup.roll_up()
            said = dataclasses.asdict(rolled)
            text = (
                "another run is at it"
                if rolled.busy
                else f"{rolled.minutes} minutes, {rolled.hours} hours written;"
                f" {rolled.looked_again} minutes looked at again, {rolled.pruned} rows pruned"
            )
        self.stdout.write(json.dumps(said) if options["json"] else text)
