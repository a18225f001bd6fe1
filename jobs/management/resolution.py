"""What `manage.py replay` and `manage.py discard` have in common: count, confirm, do, tell."""

import json
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any, ClassVar

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction

from config.terminal import HelpFormatter, Progress, ShowsExamples, actor, confirm, printable
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
    exit_codes = (
        "0 done, handed over, or nothing to do; 1 refused, or nobody to ask; 2 not confirmed."
    )

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
            one.add_argument(
                "--yes", action="store_true", help="Do not ask; needed where there is no terminal."
            )
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
            self._tell(options, counted, [], f"{self._found(counted)}; nothing was changed.")
            return
        if not options["reason"].strip():
            raise CommandError("Say why with --reason: the audit trail keeps it.")
        self._confirm(counted, total, options)
        counted = [(one, found) for one, found in counted if found.count]
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
        return [(one, preview) for one, preview in found if preview.count or preview.left_out]

    def _found(self, counted: Counted) -> str:
        """How many, and how many of what the options find must be left out, and why."""
        total = sum(found.count for _, found in counted)
        more = any(found.capped for _, found in counted)
        left_out: Counter[str] = Counter()
        for _, found in counted:
            left_out.update(found.left_out)
        said = "".join(f", {many} left out ({why})" for why, many in sorted(left_out.items()))
        return f"{'more than ' if more else ''}{total} found{said}"

    def _confirm(self, counted: Counted, total: int, options: dict[str, Any]) -> None:
        """Show a few and ask; raises CommandError as `confirm` does."""
        for _, found in [] if options["yes"] else counted[:SHOWN]:
            for one in found.sample:
                said = printable(f"  {one.id} {one.state} {one.lane} {one.last_error[:60]}")
                self.stderr.write(said.replace("\n", " "))
        most = "more than " if any(found.capped for _, found in counted) else ""
        confirm(f"{most}{total} works of {len(counted)} tenants.", yes=options["yes"])

    def _start(self, counted: Counted, action: Action, options: dict[str, Any]) -> Sequence[Replay]:
        """One replay a tenant, all or none."""
        with transaction.atomic(using=OPERATOR):
            return [
                replaying.start(
                    selection=one,
                    action=action,
                    actor=actor(),
                    reason=options["reason"],
                    using=OPERATOR,
                )
                for one, _ in counted
            ]

    def _wait(self, replays: Sequence[Replay], total: int, options: dict[str, Any]) -> None:
        with Progress(total, hidden=options["json"]) as bar:
            while any(replay.finished_at is None for replay in replays):
                time.sleep(LOOK)
                for replay in replays:
                    replay.refresh_from_db(using=OPERATOR)
                if stuck := replaying.stuck(replays, using=OPERATOR):
                    said = f"{len(stuck)} are stuck: replay their jobs, --lane replays."
                    raise CommandError(said)
                bar.to(sum(replay.done + replay.skipped for replay in replays))

    def _tell(
        self, options: dict[str, Any], counted: Counted, replays: Sequence[Replay], said: str
    ) -> None:
        if not options["json"]:
            self.stdout.write(said)
            return
        answer = {
            "found": sum(found.count for _, found in counted),
            "capped": any(found.capped for _, found in counted),
            "left_out": sum(sum(found.left_out.values()) for _, found in counted),
            "tenants": len(counted),
            "sample": [str(one.id) for _, found in counted for one in found.sample][:SHOWN],
            "replays": [
                {
                    "id": f"rpl_{replay.pk}",
                    "status": replay.status,
                    "total": max(replay.total, replay.done),
                    "done": replay.done,
                    "skipped": replay.skipped,
                }
                for replay in replays
            ],
        }
        self.stdout.write(json.dumps(answer))
