"""Make partitions ahead of time, and drop those past their retention."""

import argparse
import json
from datetime import UTC, date, datetime
from typing import Any

import structlog
from django.core.management.base import BaseCommand
from django.db import connections

from config import health
from config.terminal import ShowsExamples
from jobs import partitions
from jobs.partitions import Partitioned

FEW_DAYS = 7  # Of the fourteen that an hourly run keeps: it has not run for a week.
_log = structlog.get_logger(__name__)


class Command(ShowsExamples, BaseCommand):
    """Runs as the owner, hourly: by beat (jobs.tasks), or by any scheduler. Idempotent."""

    help = "Make partitions 14 days ahead, drop those older than RETENTION."
    examples = """
  manage.py partitions --dry-run
  manage.py partitions --json
"""
    exit_codes = "0 done; 1 when a table stays locked: the next run tries again."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="Only say what would be done.")
        parser.add_argument("--json", action="store_true", help="Answer as JSON.")

    def handle(self, *args: Any, **options: Any) -> None:
        today = datetime.now(UTC).date()
        answer: dict[str, list[str]] = {"made": [], "dropped": [], "refused": []}
        ahead = health.days_ahead(using="owner")
        self._warn(ahead)
        for table in partitions.tables():
            done = self._plan(table, today) if options["dry_run"] else self._keep_up(table, today)
            for what, names in done.items():
                answer[what] += names
        if options["json"]:
            self.stdout.write(json.dumps({**answer, "days_ahead": ahead}))
        else:
            self.stdout.write(", ".join(f"{len(names)} {what}" for what, names in answer.items()))

    def _warn(self, ahead: dict[str, int]) -> None:
        """Tell of tables that nobody has made partitions for of late."""
        for table, days in ahead.items():
            if days < FEW_DAYS:
                _log.warning("Few partitions are left", table=table, days_ahead=days)
                self.stderr.write(f"{table} has partitions for {days} days after today.")

    def _plan(self, table: Partitioned, today: date) -> dict[str, list[str]]:
        wanted, old = self._find(table, today)
        return {
            what: [partitions.name_of(day, parent=table.parent) for day in days]
            for what, days in (("made", wanted), ("dropped", old))
        }

    def _keep_up(self, table: Partitioned, today: date) -> dict[str, list[str]]:
        wanted, old = self._find(table, today)
        free = [day for day in old if table.before_drop is None or table.before_drop(day)]
        with connections["owner"].cursor() as cursor:
            return {
                "made": partitions.make(cursor, wanted, parent=table.parent),
                "dropped": partitions.drop(cursor, free, parent=table.parent),
                "refused": [
                    partitions.name_of(day, parent=table.parent) for day in old if day not in free
                ],
            }

    def _find(self, table: Partitioned, today: date) -> tuple[list[date], list[date]]:
        with connections["owner"].cursor() as cursor:
            return (
                partitions.missing(cursor, today=today, parent=table.parent),
                partitions.expired(
                    cursor, today=today, keep_days=table.keep_days, parent=table.parent
                ),
            )
