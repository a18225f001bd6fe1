"""manage.py clearsessions: delete sessions that have ended."""

import argparse
import json
from typing import Any

from django.core.management.base import BaseCommand
from django.utils import timezone

from config.terminal import ShowsExamples
from tenants.models import Session
from tenants.sessions import SessionStore


class Command(ShowsExamples, BaseCommand):
    """Runs as the operator, daily: by beat (tenants.tasks), or by any scheduler. Idempotent."""

    help = "Delete expired sessions, of tenants' pages and of the console."
    examples = """
  manage.py clearsessions --dry-run
  manage.py clearsessions --json
"""
    exit_codes = "0 done, or nothing to do."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="Count, and change nothing.")
        parser.add_argument("--json", action="store_true", help="Answer as JSON.")

    def handle(self, *args: Any, **options: Any) -> None:
        ended = Session.objects.using("operator").filter(expire_date__lt=timezone.now())
        count = ended.count()
        if not options["dry_run"]:
            SessionStore.clear_expired()
        if options["json"]:
            told = {"expired": count, "changed": not options["dry_run"]}
            self.stdout.write(json.dumps(told))
        else:
            said = "are expired; nothing was changed" if options["dry_run"] else "deleted"
            self.stdout.write(f"{count} sessions {said}.")
