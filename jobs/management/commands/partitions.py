"""Make the attempts' partitions ahead of time, and drop those past their retention."""

import argparse
import json
from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand
from django.db import connections

from jobs import partitions


class Command(BaseCommand):
    """Runs as the owner, daily: by beat (jobs.tasks), or by any scheduler. Idempotent."""

    help = "Make the attempts' partitions 14 days ahead, drop those older than RETENTION."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="Only say what would be done.")
        parser.add_argument("--json", action="store_true", help="Answer as JSON.")

    def handle(self, *args: Any, **options: Any) -> None:
        today = datetime.now(UTC).date()
        keep_days = int(settings.SLIPWAY["RETENTION"]["attempts"])
        with connections["owner"].cursor() as cursor:
            wanted = partitions.missing(cursor, today=today)
            old = partitions.expired(cursor, today=today, keep_days=keep_days)
            if not options["dry_run"]:
                made, dropped = partitions.make(cursor, wanted), partitions.drop(cursor, old)
            else:
                made, dropped = (
                    [partitions.name_of(day) for day in days] for days in (wanted, old)
                )
        answer = {"made": made, "dropped": dropped}
        if options["json"]:
            self.stdout.write(json.dumps(answer))
        else:
            self.stdout.write(f"{len(answer['made'])} made, {len(answer['dropped'])} dropped")
