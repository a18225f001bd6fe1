"""manage.py restored: say what a restored database cannot know, and let the drainers go on."""

import argparse
import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from config.terminal import Progress, ShowsExamples, actor, confirm
from jobs import restoring
from jobs.choosing import moment
from jobs.restoring import Restored


class Command(ShowsExamples, BaseCommand):
    """Runs as the operator, after Postgres was restored; drainers wait until then."""

    help = (
        "After a restore: mark what may have been sent since the moment that the database shows as"
        " unknown, stop what would begin again by itself, and let the drainers go on. Says what it"
        " would do with --dry-run. May be run again after it was interrupted."
    )
    examples = """
  manage.py restored --since 2026-03-01T08:00Z --dry-run
  manage.py restored --since 2026-03-01T08:00Z --reason "restored the backup of eight" --yes
"""
    exit_codes = "0 done, or only looked; 1 refused, or nobody to ask; 2 not confirmed."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--since",
            type=moment,
            required=True,
            help="The moment that the database shows: of the backup, or its recovery's target.",
        )
        parser.add_argument("--reason", default="", help="Why: the audit trail keeps it.")
        parser.add_argument("--dry-run", action="store_true", help="Count, and change nothing.")
        parser.add_argument("--json", action="store_true", help="Answer as one JSON object.")
        parser.add_argument(
            "--yes", action="store_true", help="Do not ask; needed where there is no terminal."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            self._handle(options)
        except restoring.GateMissing as error:
            raise CommandError(str(error)) from None

    def _handle(self, options: dict[str, Any]) -> None:
        found = restoring.find(since=options["since"])
        if options["dry_run"]:
            self._tell(found, options, changed=False)
            return
        if not options["reason"].strip():
            raise CommandError("Say why with --reason: the audit trail keeps it.")
        total = sum(found.marked.values())
        confirm(f"{total} works become unknown, and drainers go on.", yes=options["yes"])
        with Progress(total, hidden=options["json"]) as bar:
            done = restoring.release(
                since=options["since"], actor=actor(), reason=options["reason"], tell=bar.step
            )
        done.held, done.why = found.held, found.why
        self._tell(done, options, changed=True)

    def _tell(self, found: Restored, options: dict[str, Any], *, changed: bool) -> None:
        if options["json"]:
            answer = {
                "held": found.held,
                "why": found.why,
                "until": found.until.isoformat(),
                "marked": found.marked,
                "stopped": found.stopped,
                "changed": changed,
            }
            self.stdout.write(json.dumps(answer))
            return
        self.stdout.write(f"Drainers wait: {found.why}." if found.held else "Drainers do not wait.")
        verb = "became" if changed else "would become"
        for queue, count in found.marked.items():
            self.stdout.write(f"{queue}: {count} {verb} unknown")
        for what, count in found.stopped.items():
            self.stdout.write(f"{what}: {count}")
        self.stdout.write("Drainers go on." if changed else "Nothing was changed.")
