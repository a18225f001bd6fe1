"""Run the drainer loop alone, without Celery."""

import argparse
import asyncio
import signal
from typing import Any

import uvloop
from django.core.management.base import BaseCommand

from config.terminal import ShowsExamples
from jobs.engine import interpreter
from jobs.engine.drainer import Drainer


class Command(ShowsExamples, BaseCommand):
    """Serve all queues until SIGTERM or SIGINT, then finish what runs; a second one ends it."""

    help = "Do the work that is queued, until told to stop."
    examples = """
  manage.py drain
  manage.py drain --grace 30
"""
    exit_codes = "0 after a stop; 1 when it could not start."
    # Without those of addresses, templates and pages, which take as long as all else at its start.
    requires_system_checks = ("tenancy", "webhooks")

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--grace",
            type=float,
            help="Seconds for running steps after SIGTERM; default: all they need.",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        drainer = Drainer(grace=options["grace"])
        interpreter.prepare()
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._run(drainer))

    async def _run(self, drainer: Drainer) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop, drainer, number)
        await drainer.run()

    def _stop(self, drainer: Drainer, number: signal.Signals) -> None:
        drainer.stop()
        # The next one gets the system's own treatment: works in mid-step are rescued by others.
        asyncio.get_running_loop().remove_signal_handler(number)
        signal.signal(number, signal.SIG_DFL)
