"""`manage.py roles`: the four database roles and Slipway's database, made by a superuser."""

import os
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from psycopg import conninfo

from config.terminal import ShowsExamples
from tenants import roles

PASSWORDS = {
    roles.OWNER: "OWNER_DATABASE_URL",
    roles.APP: "DATABASE_URL",
    roles.OPERATOR: "OPERATOR_DATABASE_URL",
    roles.ANALYTICS: "ANALYTICS_DATABASE_URL",
}


class Command(ShowsExamples, BaseCommand):
    help = (
        "Make the four database roles and the database, with the passwords that the DATABASE_URLs"
        " of the environment have. Needs a superuser's address once; may be run again."
    )
    examples = """
  manage.py roles --superuser-url postgresql://postgres:…@db/postgres
  SUPERUSER_DATABASE_URL=postgresql://… manage.py roles
"""
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--superuser-url",
            default=os.environ.get("SUPERUSER_DATABASE_URL", ""),
            help="postgresql://… of a superuser (or SUPERUSER_DATABASE_URL).",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        superuser = options["superuser_url"]
        if not superuser:
            raise CommandError("Say --superuser-url or set SUPERUSER_DATABASE_URL.")
        urls = {role: os.environ.get(name, "") for role, name in PASSWORDS.items()}
        parts = {role: conninfo.conninfo_to_dict(url) for role, url in urls.items() if url}
        passwords = {
            role: str(part["password"]) for role, part in parts.items() if part.get("password")
        }
        roles.create_roles(superuser, passwords=passwords)
        name = str(parts.get(roles.OWNER, parts.get(roles.APP, {})).get("dbname", "slipway"))
        made = roles.create_database(superuser, name)
        self.stdout.write(f"Roles are in place; database {name} {'made' if made else 'was there'}.")
