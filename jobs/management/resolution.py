"""What `manage.py replay` and `manage.py discard` have in common: count, confirm, do, tell."""

import getpass
import json
import sys
import time
from collections.abc import Sequence
from typing import Any, ClassVar

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction

from config.terminal import HelpFormatter, ShowsExamples
from jobs import replaying
from jobs.choosing import OPERATOR, Choice, choice
from jobs.models import Replay
from jobs.replaying import Preview
from jobs.selection import Selection

Action = Replay.Action
SHOWN = 5  # Of a sample.
LOOK = 0.5  # Seconds between two looks at how far it is.
Counted = list[tuple[Selection, Preview]]


class ResolutionCommand(ShowsExamples, BaseCommand):
    """Counts what the options find, asks, and hands it over to the workers."""

    action: ClassVar[Action]
    exit_codes = "0 done, handed over, or nothing to do; 1 refused; 2 not confirmed."

    def add_arguments(self, parser: CommandParser) -> None:
        queues = parser.add_subparsers(dest="queue", required=True, metavar="QUEUE")
        for name in settings.SLIPWAY["QUEUES"]:
            one = queues.add_parser(
                name,
                help=f"Works of {name}.",
                epilog=self.epilog(),
                formatter_class=HelpFormatter,
            )
            choice(name).add_arguments(one)
            one.add_argument("--reason", default="", help="Why: the audit trail keeps it.")
            one.add_argument("--dry-run", action="store_true", help="Count, and change nothing.")
            one.add_argument("--json", action="store_true", help="Answer as one JSON object.")
            one.add_argument("--yes", action="store_true", help="Do not ask.")
            one.add_argument("--wait", action="store_true", help="Until the workers are done.")

    def handle(self, *args: Any, **options: Any) -> None:
        chosen = choice(options["queue"])
        try:
            action = self.action_of(options)
            counted = self._count(chosen, action, options)
        except LookupError as error:
            raise CommandError(str(error)) from None
        total = sum(found.count for _, found in counted)
        if options["dry_run"] or not total:
            self._tell(options, counted, [], f"{total} found; nothing was changed.")
            return
        if not options["reason"].strip():
            raise CommandError("Say why with --reason: the audit trail keeps it.")
        self._confirm(counted, total, options)
        replays = self._start(counted, action, options)
        if options["wait"]:
            self._wait(replays, total, options)
        done = sum(replay.done for replay in replays)
        said = f"{done} of {total} done." if options["wait"] else f"{total} handed over."
        self._tell(options, counted, replays, said)

    def action_of(self, options: dict[str, Any]) -> Action:
        """What the options ask for."""
        return self.action

    def _count(self, chosen: Choice, action: Action, options: dict[str, Any]) -> Counted:
        found = [
            (one, replaying.preview(one, action=action, using=OPERATOR, size=SHOWN))
            for one in chosen.selections(options)
        ]
        return [(one, preview) for one, preview in found if preview.count]

    def _confirm(self, counted: Counted, total: int, options: dict[str, Any]) -> None:
        """Ask whoever sits at the terminal; exits with 2 at anything but yes."""
        if options["yes"] or options["json"] or not sys.stdin.isatty():
            return
        for _, found in counted[:SHOWN]:
            for one in found.sample:
                self.stderr.write(f"  {one.id} {one.state} {one.lane} {one.last_error[:60]}")
        self.stderr.write(f"{total} works of {len(counted)} tenants. Type yes: ", ending="")
        self.stderr.flush()
        if sys.stdin.readline().strip().lower() != "yes":
            raise CommandError("Nothing was changed.", returncode=2)

    def _start(self, counted: Counted, action: Action, options: dict[str, Any]) -> Sequence[Replay]:
        """One replay a tenant, all or none."""
        actor = f"system:terminal:{getpass.getuser()}"[:100]
        with transaction.atomic(using=OPERATOR):
            return [
                replaying.start(
                    selection=one,
                    action=action,
                    actor=actor,
                    reason=options["reason"],
                    using=OPERATOR,
                )
                for one, _ in counted
            ]

    def _wait(self, replays: Sequence[Replay], total: int, options: dict[str, Any]) -> None:
        while any(replay.finished_at is None for replay in replays):
            time.sleep(LOOK)
            for replay in replays:
                replay.refresh_from_db(using=OPERATOR)
            self._show(sum(replay.done + replay.skipped for replay in replays), total, options)
        if sys.stderr.isatty() and not options["json"]:
            self.stderr.write("")

    def _show(self, done: int, total: int, options: dict[str, Any]) -> None:
        if sys.stderr.isatty() and not options["json"]:
            width = 30 * done // max(1, total)
            self.stderr.write(f"\r[{'#' * width:<30}] {done}/{total}", ending="")
            self.stderr.flush()

    def _tell(
        self, options: dict[str, Any], counted: Counted, replays: Sequence[Replay], said: str
    ) -> None:
        if not options["json"]:
            self.stdout.write(said)
            return
        answer = {
            "found": sum(found.count for _, found in counted),
            "tenants": len(counted),
            "sample": [str(one.id) for _, found in counted for one in found.sample][:SHOWN],
            "replays": [
                {
                    "id": f"rpl_{replay.pk}",
                    "status": replay.status,
                    "total": replay.total,
                    "done": replay.done,
                    "skipped": replay.skipped,
                }
                for replay in replays
            ],
        }
        self.stdout.write(json.dumps(answer))
