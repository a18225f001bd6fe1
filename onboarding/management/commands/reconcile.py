"""manage.py reconcile: does the world hold what the ledger says, and nothing else of ours?"""

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from config.terminal import Progress, ShowsExamples, actor
from onboarding import reconciling


class Command(ShowsExamples, BaseCommand):
    """Exit codes: 0 ledger and world agree (or were made to), 3 they differ and were left so."""

    help = (
        "Compare the ledger of provisioned resources with the world, and mend what can be mended."
    )
    examples = """
  manage.py reconcile --dry-run
  manage.py reconcile --tenant 42 --reason "their files were lost"
  manage.py reconcile --remove-orphans --reason "left by the crash of May" --json
"""
    exit_codes = "0 they agree, or were made to; 1 refused; 3 they differ and were left so."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="Look, and change nothing.")
        parser.add_argument("--json", action="store_true", help="Answer as one JSON object.")
        parser.add_argument(
            "--remove-orphans", action="store_true", help="Delete what belongs to no tenant."
        )
        parser.add_argument("--reason", default="", help="Why: the audit trail keeps it.")
        parser.add_argument("--tenant", type=int, help="Look at the tenant of this number alone.")

    def handle(self, *args: Any, **options: Any) -> None:
        if not (options["dry_run"] or options["reason"].strip()):
            raise CommandError("Say why with --reason, or only look with --dry-run.")
        findings = reconciling.compare(tenant_id=options["tenant"])
        mended = 0 if options["dry_run"] else self._mend(findings, options)
        if options["json"]:
            listed = [finding._asdict() for finding in findings]
            self.stdout.write(json.dumps({"findings": listed, "mended": mended}))
        else:
            for finding in findings:
                self.stdout.write(f"{finding.what}: {finding.name} (tenant {finding.tenant_id})")
            self.stdout.write(f"{len(findings)} differences, {mended} being mended.")
        if len(findings) > mended:
            raise SystemExit(3)

    def _mend(self, findings: list[reconciling.Finding], options: dict[str, Any]) -> int:
        mended = 0
        with Progress(len(findings), hidden=options["json"]) as bar:
            for finding in findings:
                mended += reconciling.mend(
                    finding,
                    actor=actor(),
                    reason=options["reason"].strip(),
                    remove_orphans=options["remove_orphans"],
                )
                bar.step(1, finding.name)
        return mended
