"""manage.py tenants: what operators do to tenants and platform keys from a terminal."""

import getpass
import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from config.problems import Problem
from config.terminal import ShowsExamples
from tenants import keys, services
from tenants.models import PlatformKey, Tenant
from tenants.states import TenantStatus

WHY = "For the audit trail."
NOTHING = "Look, and change nothing."


class Command(ShowsExamples, BaseCommand):
    """Exit codes: 0 done, or nothing to do; 1 refused."""

    help = "List, suspend and reopen tenants; make and revoke the platform's keys."
    examples = """
  manage.py tenants list --status suspended
  manage.py tenants suspend acme --reason "unpaid since May"
  manage.py tenants reopen acme --reason "paid"
  manage.py tenants make-key billing --scope tenants:read --scope events:write
  manage.py tenants revoke-key slp_h6qmec5yxv62 --reason "leaked"
"""

    def add_arguments(self, parser: CommandParser) -> None:
        acts = parser.add_subparsers(dest="act", required=True, metavar="ACT")
        listing = acts.add_parser("list", help="Tenants, newest first.")
        listing.add_argument("--status", choices=TenantStatus.values, help="In this state alone.")
        listing.add_argument("--limit", type=int, default=50, help="How many, at most (50).")
        for act in ("suspend", "reopen"):
            moving = acts.add_parser(act, help=f"{act.title()} one tenant.")
            moving.add_argument("slug", help="The tenant's, such as acme.")
            moving.add_argument("--reason", required=True, help=WHY)
            moving.add_argument("--dry-run", action="store_true", help=NOTHING)
        making = acts.add_parser("make-key", help="Make a key of the platform's; shown once.")
        making.add_argument("name", help="Who has it: a back end, a person.")
        making.add_argument("--scope", action="append", dest="scopes", help="All, unless named.")
        ending = acts.add_parser("revoke-key", help="End a key of the platform's.")
        ending.add_argument("prefix", help="What it begins with: slp_… up to the second _.")
        ending.add_argument("--reason", required=True, help=WHY)
        ending.add_argument("--dry-run", action="store_true", help=NOTHING)
        for command in acts.choices.values():
            command.add_argument("--json", action="store_true", help="Answer as one JSON value.")

    def handle(self, *args: Any, **options: Any) -> None:
        acts = {
            "list": self._list,
            "suspend": self._move,
            "reopen": self._move,
            "make-key": self._make_key,
            "revoke-key": self._revoke_key,
        }
        try:
            acts[options["act"]](options)
        except Problem as problem:
            raise CommandError(str(problem)) from None

    def _list(self, options: dict[str, Any]) -> None:
        rows = Tenant.objects.using("operator").order_by("-id")
        if options["status"]:
            rows = rows.filter(status=options["status"])
        found = list(rows.values("slug", "plan", "home", "status")[: options["limit"]])
        lines = ["{slug:<42}{plan:<12}{home:<11}{status}".format(**row) for row in found]
        self._tell(options, "\n".join(lines), found)

    def _move(self, options: dict[str, Any]) -> None:
        act = options["act"]
        tenant = Tenant.objects.using("operator").filter(slug=options["slug"]).first()
        if tenant is None:
            raise CommandError(f"There is no tenant {options['slug']!r}.")
        if options["dry_run"]:
            self._tell(options, f"It is {tenant.status}; nothing was changed.", {"changed": False})
            return
        service = services.suspend if act == "suspend" else services.reopen
        changed = service(tenant_id=tenant.pk, actor=_actor(), reason=options["reason"])
        word = "Done." if changed else "It was so already."
        self._tell(options, word, {"changed": changed})

    def _make_key(self, options: dict[str, Any]) -> None:
        scopes = {"scopes": options["scopes"]} if options["scopes"] else {}
        made = keys.create_platform(name=options["name"], actor=_actor(), **scopes)
        self._tell(options, made.token, {"key": made.token, "prefix": made.key.prefix})

    def _revoke_key(self, options: dict[str, Any]) -> None:
        prefix = options["prefix"].removeprefix("slp_").partition("_")[0]
        if options["dry_run"]:
            live = PlatformKey.objects.using("operator").filter(prefix=prefix, revoked_at=None)
            count = live.count()
            self._tell(options, f"{count} to revoke; nothing was changed.", {"found": count})
            return
        keys.revoke_platform(prefix=prefix, actor=_actor(), reason=options["reason"])
        self._tell(options, "Done.", {"revoked": prefix})

    def _tell(self, options: dict[str, Any], text: str, value: Any) -> None:
        self.stdout.write(json.dumps(value) if options["json"] else text)


def _actor() -> str:
    """Who sits at the terminal, by the name that the machine knows."""
    return f"system:terminal:{getpass.getuser()}"[:100]
