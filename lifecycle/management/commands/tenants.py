"""manage.py tenants: what operators do to tenants, people and platform keys from a terminal."""

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from config.problems import Problem
from config.terminal import HelpFormatter, ShowsExamples, actor, printable
from lifecycle.management import acts
from lifecycle.management.acts import Act


class Command(ShowsExamples, BaseCommand):
    """Runs as the operator; each act is the service that the API and the console call."""

    help = "Tenants: look, suspend, reopen, move, export, close; people: erase; platform keys."
    examples = """
  manage.py tenants list --status suspended
  manage.py tenants show acme
  manage.py tenants suspend acme --reason "unpaid since May"
  manage.py tenants reopen acme --reason "paid"
  manage.py tenants plan acme pro --reason "upgraded" --wait
  manage.py tenants currency acme CHF --reason "its accounts are in francs"
  manage.py tenants export acme --reason "moves away" --file acme.zip
  manage.py tenants close acme --reason "asked for it, ticket 812"
  manage.py tenants close acme --reason "asked for it at once" --now --confirm acme
  manage.py tenants erase-person ada@example.org --reason "asked for it" --dry-run
  manage.py tenants tidy
  manage.py tenants make-key billing --scope tenants:read --reason "invoices"
  manage.py tenants revoke-key slp_h6qmec5yxv62 --reason "leaked"
"""
    exit_codes = (
        "0 done, handed over, or nothing to do; 1 refused, or nobody to ask; 2 not confirmed."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        named = parser.add_subparsers(dest="act", required=True, metavar="ACT")
        for name, act in acts.ACTS.items():
            one = named.add_parser(
                name, help=act.help, epilog=self.epilog(), formatter_class=HelpFormatter
            )
            act.add_arguments(one)
            if act.changes:
                if act.explained:
                    one.add_argument("--reason", required=True, help="For the audit trail.")
                one.add_argument("--dry-run", action="store_true", help="Look, change nothing.")
            one.add_argument("--json", action="store_true", help="Answer as one JSON value.")

    def handle(self, *args: Any, **options: Any) -> None:
        act: Act = acts.ACTS[options["act"]]
        if act.explained and not options["reason"].strip():
            raise CommandError("Say why with --reason: the audit trail keeps it.")
        try:
            said = act.run(options, actor=actor())
        except (Problem, LookupError) as error:
            raise CommandError(printable(_words(error))) from None
        self.stdout.write(json.dumps(said.value, default=str) if options["json"] else said.text)


def _words(error: Exception) -> str:
    return str(error.args[0]) if isinstance(error, LookupError) and error.args else str(error)
