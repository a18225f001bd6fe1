"""manage.py doctor: is everything there that Slipway stands on?"""

import argparse
import json
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from config import doctor
from config.doctor import DEADLINE, Level, Report
from config.terminal import ShowsExamples, printable

CODES = {Level.OK: 0, Level.WARN: 1, Level.FAIL: 2}


class Command(ShowsExamples, BaseCommand):
    """Looks, and changes nothing. Needs the operator's URL; on a worker's machine it sees most."""

    help = "Look at everything that Slipway stands on, and say what is wrong and what to do."
    examples = """
  manage.py doctor
  manage.py doctor --only redis --only drainers
  manage.py doctor --json --timeout 30
"""
    exit_codes = "0 all is well; 1 something should be looked after; 2 something does not work."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--only",
            action="append",
            choices=list(settings.SLIPWAY["DOCTOR"]),
            metavar="PART",
            help=f"This part alone; may be repeated: {', '.join(settings.SLIPWAY['DOCTOR'])}.",
        )
        parser.add_argument(
            "--timeout", type=float, default=DEADLINE, help="Seconds for each (10)."
        )
        parser.add_argument("--json", action="store_true", help="Answer as one JSON object.")

    def handle(self, *args: Any, **options: Any) -> None:
        reports = []
        for report in doctor.examine(options["only"], deadline=options["timeout"]):
            reports.append(report)
            if not options["json"]:
                self._show(report)
        level = doctor.worst(report.level for report in reports)
        if options["json"]:
            answer = {"level": level, "parts": [report.as_json() for report in reports]}
            self.stdout.write(json.dumps(answer))
        if CODES[level]:
            raise SystemExit(CODES[level])

    def _show(self, report: Report) -> None:
        styles = {
            Level.OK: self.style.SUCCESS,
            Level.WARN: self.style.WARNING,
            Level.FAIL: self.style.ERROR,
        }
        for nth, finding in enumerate(report.findings):
            name = report.name if nth == 0 else ""
            level = styles[finding.level](f"{finding.level:<5}")
            self.stdout.write(f"{name:<12}{level} {printable(finding.said)}")
            if finding.do:
                self.stdout.write(f"{'':<18}→ {printable(finding.do)}")
