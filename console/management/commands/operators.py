"""manage.py operators: who may come into the console, and as what."""

import getpass
import json
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.core.validators import validate_email

from config.problems import Problem
from config.terminal import ShowsExamples, printable
from console import operators
from console.roles import Role

WHY = "For the audit trail."
NOTHING = "Look, and change nothing."


class Command(ShowsExamples, BaseCommand):
    """The services of console.operators, from a terminal: also for whoever is locked out."""

    help = "List and add operators, change their roles, shut them out, reset their second factor."
    examples = """
  manage.py operators list
  manage.py operators add ada@example.com --role operator --reason "on call from June"
  manage.py operators role ada@example.com administrator --reason "leads the team"
  manage.py operators disable ada@example.com --reason "left"
  manage.py operators reset-otp ada@example.com --reason "lost the phone; seen in person"
"""

    def add_arguments(self, parser: CommandParser) -> None:
        acts = parser.add_subparsers(dest="act", required=True, metavar="ACT")
        acts.add_parser("list", help="All of them, those who are out too.")
        adding = acts.add_parser("add", help="Make one; the password is shown once.")
        adding.add_argument("--role", choices=list(map(str, Role)), default="viewer", help="viewer")
        adding.add_argument("--name", default="", help="The person's.")
        moving = acts.add_parser("role", help="Give one another role.")
        acts.add_parser("disable", help="Shut one out, with their next click.")
        acts.add_parser("reset-otp", help="Forget one's second factor, so that they enrol anew.")
        for act, one in acts.choices.items():
            one.add_argument("--json", action="store_true", help="Answer as one JSON value.")
            if act != "list":
                one.add_argument("email", help="The operator's address.")
                one.add_argument("--reason", required=True, help=WHY)
                one.add_argument("--dry-run", action="store_true", help=NOTHING)
        moving.add_argument("role", choices=list(map(str, Role)), help="The new one.")

    def handle(self, *args: Any, **options: Any) -> None:
        acts = {"list": self._list, "add": self._add}
        try:
            acts.get(options["act"], self._change)(options)
        except Problem as problem:
            raise CommandError(str(problem)) from None

    def _list(self, options: dict[str, Any]) -> None:
        rows = [one.row() for one in operators.listed()]
        lines = [
            f"{row['email']:<40}{row['role'] or 'no role':<15}"
            f"{'in' if row['active'] else 'out':<5}"
            f"{'second factor' if row['second_factor'] else 'no second factor'}"
            for row in rows
        ]
        self._tell(options, "\n".join(lines), rows)

    def _add(self, options: dict[str, Any]) -> None:
        email = _address(options["email"])
        if options["dry_run"]:
            there = any(one.user.email == email for one in operators.listed())
            text = f"{email} is {'one already' if there else 'none yet'}; nothing was changed."
            self._tell(options, text, {"changed": False})
            return
        made = operators.add(
            email=email,
            name=options["name"],
            role=Role(options["role"]),
            actor=_actor(),
            reason=options["reason"],
        )
        text = f"{made.user.email}, password {made.password} (shown this once)."
        self._tell(options, text, {"email": made.user.email, "password": made.password})

    def _change(self, options: dict[str, Any]) -> None:
        user = operators.find(options["email"])
        if options["dry_run"]:
            [shown] = operators.listed([user.pk])
            self._tell(
                options,
                f"{user.email} is {shown.role or 'without a role'},"
                f" {'in' if user.is_active else 'out'}; nothing was changed.",
                {"changed": False},
            )
            return
        said: dict[str, Any] = {"user": user, "actor": _actor(), "reason": options["reason"]}
        if options["act"] == "role":
            changed = operators.set_role(role=Role(options["role"]), **said)
        elif options["act"] == "disable":
            changed = operators.disable(**said)
        else:
            changed = operators.reset_second_factor(**said)
        self._tell(options, "Done." if changed else "It was so already.", {"changed": changed})

    def _tell(self, options: dict[str, Any], text: str, value: Any) -> None:
        self.stdout.write(json.dumps(value) if options["json"] else printable(text))


def _address(text: str) -> str:
    try:
        validate_email(text.strip())
    except ValidationError:
        raise CommandError(f"{text!r} is no e-mail address.") from None
    return text.strip().lower()


def _actor() -> str:
    """Who sits at the terminal, by the name that the machine knows."""
    return f"system:terminal:{getpass.getuser()}"[:100]
