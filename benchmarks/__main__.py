"""Prints what Slipway costs, as ratios from one run: `python -m benchmarks --help`."""

import argparse
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from benchmarks.size import FULL, QUICK, Size
from benchmarks.stack import Stack
from benchmarks.table import Row, as_json, as_markdown, as_text

# Name → module; in the order in which they run.
MEASUREMENTS = {
    "inline": "benchmarks.inline",
    "throughput": "benchmarks.throughput",
    "claim": "benchmarks.claiming",
    "backlog": "benchmarks.backlog",
    "rls": "benchmarks.isolation",
    "ready": "benchmarks.readiness",
    "deliveries": "benchmarks.delivering",
    "fairness": "benchmarks.fairness",
    "publish": "benchmarks.publishing",
    "import": "benchmarks.importing",
    "coordinate": "benchmarks.campaigns.coordinating",
    "campaign": "benchmarks.campaigns.sending",
    "neighbours": "benchmarks.campaigns.neighbours",
    "audience": "benchmarks.campaigns.audience",
    "console": "benchmarks.console",
    "idle": "benchmarks.idle",
}


def main() -> int:
    """0 when every budget holds, 1 when one is missed, 2 when something could not be measured."""
    options = _parse(sys.argv[1:])
    names = options.only or list(MEASUREMENTS)
    rows, failed = run(names, QUICK if options.quick else FULL)
    show = as_json if options.json else as_markdown if options.markdown else as_text
    print(show(rows))
    return 2 if failed else 1 if any(row.verdict == "MISSED" for row in rows) else 0


def run(names: Sequence[str], size: Size) -> tuple[list[Row], list[str]]:
    """Run measurements one after another on servers of this run's own: rows, and what failed."""
    directory = Path(tempfile.mkdtemp(prefix="slipway-bench-"))
    directory.chmod(0o711)  # As root, Postgres runs as `nobody` and must find its files.
    stack = Stack(directory)
    rows: list[Row] = []
    failed = []
    try:
        stack.start()
        for name in names:
            began = time.monotonic()
            try:
                # Imported now: the modules need Django, which the stack has set up.
                rows += import_module(MEASUREMENTS[name]).measure(stack, size)
            except Exception:
                failed.append(name)
                _tell(f"{_end_of(directory / 'processes.log')}\n{traceback.format_exc()}")
            _tell(f"{name}: {time.monotonic() - began:.0f} s")
    finally:
        stack.stop()
        shutil.rmtree(directory, ignore_errors=True)
    return rows, failed


def _parse(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Ratios from one run, on a Postgres (durable), a Valkey and processes of the"
        " run's own. Takes a quarter of an hour; a quiet machine gives steadier numbers.",
    )
    parser.add_argument(
        "--only", action="append", choices=MEASUREMENTS, metavar="NAME",
        help=f"one of {', '.join(MEASUREMENTS)}; may be repeated",
    )  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="less of everything, in five minutes")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON")
    form.add_argument("--markdown", action="store_true", help="print the table of the docs")
    return parser.parse_args(words)


def _tell(text: str) -> None:
    """Progress, out of the way of the table."""
    print(text, file=sys.stderr, flush=True)


def _end_of(log: Path) -> str:
    return log.read_text(errors="replace")[-4000:] if log.exists() else ""


if __name__ == "__main__":
    sys.exit(main())
