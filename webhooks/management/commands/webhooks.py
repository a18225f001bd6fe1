"""manage.py webhooks: a receiver for development, and a check of a captured request."""

import os
import sys
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from config.terminal import ShowsExamples, printable
from webhooks import listening

EXAMPLES = """
  WEBHOOK_SECRET=whsec_… manage.py webhooks listen --port 9000
  manage.py webhooks listen --secret-file secret.txt --forward http://127.0.0.1:8001/hooks
  pass show hook | manage.py webhooks verify --secret-file - --headers h.txt --body body.json

Everybody on this machine sees what commands are given (ps): keep a secret that matters out of
--secret.

Slipway sends to a listener on this machine only when WEBHOOK_OPEN_DESTINATIONS names it
(127.0.0.1:9000).
"""


class Command(ShowsExamples, BaseCommand):
    help = "Receive webhooks on this machine and verify them; verify a captured one."
    examples = EXAMPLES
    exit_codes = "0 verified, or told to stop; 1 not verified; 2 it cannot be read."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        acts = parser.add_subparsers(dest="act", required=True, metavar="ACT")
        listen = acts.add_parser("listen", help="Receive, verify and print until Ctrl-C.")
        listen.add_argument("--port", type=int, default=9000, help="On 127.0.0.1; 0 is any.")
        listen.add_argument("--status", type=int, default=204, help="What to answer.")
        listen.add_argument("--forward", help="Send each verified request on to this URL.")
        verify = acts.add_parser("verify", help="Verify one captured request.")
        verify.add_argument("--headers", required=True, help="A file of 'Name: value' lines.")
        verify.add_argument("--body", required=True, help="A file with the body's exact bytes.")
        verify.add_argument("--any-time", action="store_true", help="However old its timestamp is.")
        for one in acts.choices.values():
            given = one.add_mutually_exclusive_group()
            given.add_argument("--secret-file", help="Holds the endpoint's: whsec_…; - is stdin.")
            given.add_argument("--secret", help="Itself, for all to see; default: WEBHOOK_SECRET.")

    def handle(self, *args: Any, **options: Any) -> None:
        options["secret"] = _secret(options)
        if options["act"] == "listen":
            self._listen(options)
        else:
            self._verify(options)

    def _listen(self, options: dict[str, Any]) -> None:
        server = listening.Listener(
            secret=options["secret"],
            port=options["port"],
            status=options["status"],
            forward=options["forward"],
            tell=self._tell,
        )
        self._tell(f"listening on http://127.0.0.1:{server.port}/")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            self._tell("stopped")
        finally:
            server.server_close()

    def _tell(self, line: str) -> None:
        self.stdout.write(line)
        self.stdout.flush()

    def _verify(self, options: dict[str, Any]) -> None:
        try:
            headers = listening.read_headers(options["headers"])
            with open(options["body"], "rb") as file:
                body = file.read()
        except (OSError, ValueError) as error:
            raise CommandError(f"It cannot be read: {error}", returncode=2) from None
        why = listening.flaw(options["secret"], headers, body, any_time=options["any_time"])
        if why:
            raise CommandError(f"Not verified: {printable(why)}")
        self.stdout.write("Verified.")


def _secret(options: dict[str, Any]) -> str:
    """The endpoint's, from where it was put. Raises CommandError."""
    try:
        if path := options["secret_file"]:
            read = sys.stdin.readline() if path == "-" else Path(path).read_text(encoding="utf-8")
        else:
            read = options["secret"] or os.environ.get("WEBHOOK_SECRET", "")
    except (OSError, ValueError) as error:
        raise CommandError(f"It cannot be read: {error}", returncode=2) from None
    if not read.strip():
        raise CommandError("Set WEBHOOK_SECRET, or name a --secret-file.")
    return read.strip()
