"""manage.py backfill KIND: give the tenants that exist what was added later."""

import json
from argparse import ArgumentParser
from typing import Any, Protocol

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils.module_loading import import_string

from config.terminal import HelpFormatter, Progress, ShowsExamples, actor, confirm


class Backfill(Protocol):
    """A kind of backfill; SLIPWAY["BACKFILLS"] names it by its dotted path."""

    help: str

    def add_arguments(self, parser: ArgumentParser) -> None:
        """What this kind must be told."""

    def find(self, options: Any) -> list[Any]:
        """What there is to fill. Raises LookupError for options that name nothing."""

    def fill(self, found: list[Any], options: Any, *, actor: str) -> Any:
        """Fill it; yields a word for each as it is done."""


class Command(ShowsExamples, BaseCommand):
    """Counts first, asks, and hands over to the workers."""

    help = "Give the tenants that exist what was added later."
    examples = """
  manage.py backfill provisioning --step loyalty --dry-run
  manage.py backfill provisioning --step loyalty --reason "new in March" --yes
  manage.py backfill events --endpoint ep_… --since 2026-03-01 --reason "a new endpoint"
"""
    exit_codes = (
        "0 done, handed over, or nothing to do; 1 refused, or nobody to ask; 2 not confirmed."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        kinds = parser.add_subparsers(dest="kind", required=True, metavar="KIND")
        for name, path in settings.SLIPWAY["BACKFILLS"].items():
            backfill: Backfill = import_string(path)()
            kind = kinds.add_parser(
                name, help=backfill.help, epilog=self.epilog(), formatter_class=HelpFormatter
            )
            kind.add_argument("--dry-run", action="store_true", help="Count, and change nothing.")
            kind.add_argument("--json", action="store_true", help="Answer as one JSON object.")
            kind.add_argument("--reason", default="", help="Why: the audit trail keeps it.")
            kind.add_argument(
                "--yes", action="store_true", help="Do not ask; needed where there is no terminal."
            )
            backfill.add_arguments(kind)

    def handle(self, *args: Any, **options: Any) -> None:
        backfill: Backfill = import_string(settings.SLIPWAY["BACKFILLS"][options["kind"]])()
        try:
            found = backfill.find(options)
        except LookupError as error:
            raise CommandError(str(error)) from None
        done = 0
        if found and not options["dry_run"]:
            if not options["reason"].strip():
                raise CommandError("Say why with --reason: the audit trail keeps it.")
            confirm(f"{len(found)} to fill.", yes=options["yes"])
            with Progress(len(found), hidden=options["json"]) as bar:
                for done, word in enumerate(backfill.fill(found, options, actor=actor()), start=1):
                    bar.to(done, str(word))
        self._tell(len(found), done, options)

    def _tell(self, count: int, done: int, options: dict[str, Any]) -> None:
        if options["json"]:
            self.stdout.write(json.dumps({"found": count, "handed_over": done}))
        elif options["dry_run"]:
            self.stdout.write(f"{count} to fill; nothing was changed.")
        else:
            self.stdout.write(f"{done} of {count} handed over to the workers.")
