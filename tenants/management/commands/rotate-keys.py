"""manage.py rotate-keys: a new key in the place of an old one, while all runs."""

import argparse
import json
import os
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from config.embedded import secrets as embedded
from config.terminal import Progress, ShowsExamples, actor
from tenants import rings
from tenants.rings import CannotRotate, Stage, Turned, Unfinished

STANDS = {
    Stage.SETTLED: "One key does everything.",
    Stage.ACCEPTED: "A new key is accepted; the old one signs.",
    Stage.USED: "The new key signs; the old one is accepted.",
}


class Command(ShowsExamples, BaseCommand):
    """Each call takes one step; between two, processes are started again one by one."""

    help = (
        "Turn a key ring by one step, on a live system: first a new key is accepted, then it signs,"
        " then what the old one holds is carried over; with --finish the old one is dropped. Start"
        " the processes again, one by one, after each change. With the embedded Postgres the new"
        " keys are written to the state directory; elsewhere it says which variables to set."
    )
    examples = """
  manage.py rotate-keys stored --dry-run
  manage.py rotate-keys stored --reason "yearly"
  manage.py rotate-keys sessions --finish --reason "yearly"
"""
    exit_codes = "0 done, or only looked; 1 refused; 3 the old key is still needed."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("ring", choices=list(settings.SLIPWAY["KEY_RINGS"]))
        parser.add_argument("--finish", action="store_true", help="Drop the old key.")
        parser.add_argument(
            "--now",
            action="store_true",
            help="At once, whatever it signed; what it encrypted is carried over first.",
        )
        parser.add_argument("--reason", default="", help="Why: the audit trail keeps it.")
        parser.add_argument("--dry-run", action="store_true", help="Look, and change nothing.")
        parser.add_argument("--json", action="store_true", help="Answer as one JSON object.")

    def handle(self, *args: Any, **options: Any) -> None:
        ring, dry_run = rings.ring(options["ring"]), options["dry_run"]
        if not (dry_run or options["reason"].strip()):
            raise CommandError("Say why with --reason: the audit trail keeps it.")
        said = {"actor": actor(), "reason": options["reason"], "dry_run": dry_run}
        try:
            if options["finish"]:
                turned = ring.finish(now=options["now"], **said)
            else:
                with Progress(hidden=options["json"]) as bar:
                    turned = ring.turn(tell=bar.step, **said)
        except CannotRotate as error:
            raise CommandError(str(error)) from None
        except Unfinished as error:
            raise CommandError(str(error), returncode=3) from None
        written = not dry_run and self._write(turned)
        self._tell(turned, options, written=written)

    def _write(self, turned: Turned) -> bool:
        """Whether the variables are ours to write: those that nobody set."""
        if not turned.variables or not settings.EMBEDDED:
            return False
        ours = set(turned.variables) - {"SECRET_KEY_FALLBACKS"} <= set(settings.GENERATED)
        if ours:
            embedded.rewrite(settings.STATE_DIR, turned.variables)
            os.environ.update(turned.variables)
        return ours

    def _tell(self, turned: Turned, options: dict[str, Any], *, written: bool) -> None:
        set_these = {} if written or options["dry_run"] else dict(turned.shown)
        if options["json"]:
            answer = {
                "ring": turned.ring,
                "before": turned.before,
                "after": turned.after,
                "set": set_these,
                "written": written,
                "carried": turned.carried,
                "changed": not options["dry_run"],
            }
            self.stdout.write(json.dumps(answer))
            return
        self.stdout.write(STANDS[turned.before])
        if options["dry_run"]:
            self.stdout.write(f"Next: {STANDS[turned.after]} Nothing was changed.")
            return
        if turned.before == turned.after:
            self.stdout.write(f"{turned.carried} carried over to the new key.")
        if set_these:
            self.stdout.write("Set where every process, and this terminal, finds its variables:\n")
            for name, value in set_these.items():
                self.stdout.write(f"  {name}={value}")
            self.stdout.write("\nand start the processes again, one by one.")
        if written:
            self.stdout.write(f"{settings.STATE_DIR / embedded.FILE} has it: start `up` again.")
        self.stdout.write(turned.then)
