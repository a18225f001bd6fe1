"""`manage.py sandbox`: a provider of messages to try. It goes on as a leaner process of this id."""

import os
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from campaigns.sandbox.__main__ import add_arguments
from config.terminal import ShowsExamples


class Command(ShowsExamples, BaseCommand):
    help = "Be a provider of messages that behaves as it is told, until Ctrl-C."
    examples = """
  manage.py sandbox
  manage.py sandbox --port 0 --ledger accepted.jsonl
  manage.py sandbox --profile '{"latency": {"kind": "lognormal", "p50": 0.3, "p99": 2}}'
  curl -X PUT http://127.0.0.1:8002/control/accounts/shop -d '{"faults": {"accept_500": 0.1}}'
  curl 'http://127.0.0.1:8002/control/ledger?sender=shop'

Whoever reaches it controls it: leave --host alone but in a test network.
Slipway sends to it only where WEBHOOK_OPEN_DESTINATIONS names it, or `make up` has started it.
"""
    exit_codes = "0 when told to stop; 1 when it could not start."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        add_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        words = ["--host", options["host"], "--port", str(options["port"])]
        words += ["--profile", options["profile"]]
        if options["ledger"]:
            words += ["--ledger", str(options["ledger"])]
        command = [sys.executable, "-m", "campaigns.sandbox", *words]
        os.execv(sys.executable, command)  # noqa: S606 - our own interpreter and module
