"""`manage.py prepare`: bring the database to where Slipway can start; may be run again."""

import os
import secrets
from io import StringIO
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.core.management.base import BaseCommand
from django.utils.module_loading import import_string

from config.terminal import ShowsExamples


class Command(ShowsExamples, BaseCommand):
    help = (
        "Make the database's roles (when SUPERUSER_DATABASE_URL says who may), migrate, make the"
        " partitions of the next days, and see to an operator's account and a platform key for this"
        " machine. May be run again."
    )
    examples = """
  manage.py prepare
  SUPERUSER_DATABASE_URL=postgresql://… manage.py prepare
"""
    exit_codes = "0 done; 1 when the database is not as it must be."
    requires_system_checks: list[str] = []  # They take longer than all of the rest.

    def handle(self, *args: Any, **options: Any) -> None:
        if os.environ.get("SUPERUSER_DATABASE_URL"):
            call_command("roles", stdout=StringIO())
        call_command("migrate", interactive=False, verbosity=0, skip_checks=True)
        # After a long stop there is none for today, and beat looks no sooner than in an hour.
        call_command("partitions", stdout=StringIO(), skip_checks=True)
        if "operator" in settings.DATABASES:
            # Refuses a database whose roles or policies would not keep tenants apart.
            call_command("check", databases=["operator"], tags=["database"], stdout=StringIO())
            self._operator_account()
            self._platform_key(settings.STATE_DIR / "platform-key")

    def _operator_account(self) -> None:
        """The first staff account. Its password is shown now and never again."""
        people = get_user_model()._default_manager.db_manager("operator")
        if people.filter(is_superuser=True).exists():
            return
        email = os.environ.get("OPERATOR_EMAIL") or f"operator@{settings.TENANT_DOMAIN}"
        password = secrets.token_urlsafe(12)
        people.create_superuser(email, password)
        self.stdout.write(f"Console account: {email}, password {password} (shown this once).")

    def _platform_key(self, path: Path) -> None:
        """A key for the back end on this machine; a new one when the database does not know it."""
        recognise = import_string("tenants.keys.recognise")
        if path.exists() and recognise(path.read_text().strip()) is not None:
            return
        make = import_string("tenants.keys.create_platform")
        token = make(name="development", actor="system:prepare").token
        path.unlink(missing_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(f"{token}\n")
