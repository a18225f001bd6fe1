"""`python -m campaigns.sandbox`: what `manage.py sandbox` and `make up` run, without Django."""

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import uvloop

from campaigns.sandbox import server
from campaigns.sandbox.ledger import Ledger
from jobs.engine import interpreter


def main(words: Sequence[str] | None = None) -> int:
    """0 when told to stop, 1 when it could not start."""
    options = _parse(words)
    try:
        interpreter.prepare()  # What it stands still for, its callers would be blamed for.
        ledger = Ledger(options.ledger)
        usual = server.profile(options.profile)
        uvloop.run(_serve(server.Sandbox(ledger, usual), options.host, options.port))
    except (OSError, ValueError) as error:
        sys.stderr.write(f"The sandbox cannot start: {error}\n")
        return 1
    return 0


async def _serve(sandbox: server.Sandbox, host: str, port: int) -> None:
    await server.serve(sandbox, host=host, port=port, ready=partial(_ready, host))


def _ready(host: str, port: int) -> None:
    shown = f"[{host}]" if ":" in host else host
    sys.stdout.write(f"ready at http://{shown}:{port}\n")
    sys.stdout.flush()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--port", type=_port, default=8002, help="0 is any that is free.")
    parser.add_argument(
        "--host", default="127.0.0.1", help="Another than this machine's own opens it to others."
    )
    parser.add_argument(
        "--ledger", type=Path, help="Keep what was accepted in this file, past the process's end."
    )
    parser.add_argument(
        "--profile", default="{}", metavar="JSON", help="Of senders that nobody told of."
    )


def _port(text: str) -> int:
    number = int(text)
    if not 0 <= number <= 65535:
        raise argparse.ArgumentTypeError("a port is from 0 to 65535")
    return number


def _parse(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="sandbox", description=__doc__)
    add_arguments(parser)
    return parser.parse_args(words)


if __name__ == "__main__":
    sys.exit(main())
