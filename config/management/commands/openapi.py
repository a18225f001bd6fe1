"""`manage.py openapi`: bring docs/openapi.json, what callers were promised, up to date."""

from pathlib import Path
from typing import Any

import orjson
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from config.compatibility import breaks
from config.openapi import document
from config.terminal import ShowsExamples

PROMISED = Path(settings.BASE_DIR) / "docs" / "openapi.json"


class Command(ShowsExamples, BaseCommand):
    help = "Write docs/openapi.json. Refuses what would break callers, unless --breaking says so."
    examples = """
  manage.py openapi
  manage.py openapi --breaking
"""
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--breaking", action="store_true", help="Write it though callers will break."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        served = document()
        broken = breaks(orjson.loads(PROMISED.read_bytes()), served) if PROMISED.exists() else []
        if broken and not options["breaking"]:
            raise CommandError("This would break callers:\n" + "\n".join(broken))
        PROMISED.write_bytes(
            orjson.dumps(
                served,
                option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE,
            )
        )
        self.stdout.write(f"Wrote {PROMISED}: {len(served['paths'])} paths.")
