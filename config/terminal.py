"""How commands read: their --help, what they ask first, and what of strangers' text they show."""

import getpass
import re
import sys
import time
from types import TracebackType
from typing import Any, ClassVar, Self

from django.core.management.base import CommandError, CommandParser, DjangoHelpFormatter

_SHOWN = "examples:\n"


class ShowsExamples:
    """Beside BaseCommand: `examples`, one call a line, end its --help."""

    examples: ClassVar[str]
    exit_codes: ClassVar[str] = "0 done, or nothing to do; 1 refused."

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        kwargs.setdefault("formatter_class", HelpFormatter)
        made: CommandParser = super().create_parser(prog_name, subcommand, **kwargs)  # type: ignore[misc]
        made.epilog = self.epilog()
        return made

    def epilog(self) -> str:
        """What stands below the options."""
        return f"{_SHOWN}  {self.examples.strip()}\n\nexit codes: {self.exit_codes}"


class HelpFormatter(DjangoHelpFormatter):
    """Wraps what is prose, and leaves examples as they stand."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if text.startswith(_SHOWN) else super()._fill_text(text, width, indent)


# C0, C1 and what turns the direction of text.
_UNPRINTABLE = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    """Without control characters, line breaks apart: none of a stranger's reaches a terminal."""
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text)


def confirm(question: str, *, yes: bool) -> None:
    """Ask whoever sits at the terminal, unless they said --yes before.

    Raises CommandError: exit code 1 where nobody sits there to be asked, 2 at anything but yes.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise CommandError("There is no terminal to ask at: say --yes, or --dry-run to count.")
    sys.stderr.write(f"{printable(question)} Type yes: ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() != "yes":
        raise CommandError("Nothing was changed.", returncode=2)


def actor() -> str:
    """Who acts: whoever is logged in at this machine."""
    return f"system:terminal:{getpass.getuser()}"[:100]


class Progress:
    """A bar on standard error, where somebody sits to see it; nowhere else, and never in JSON.

        with Progress(total, hidden=options["json"]) as bar:
            bar.to(done)

    Of what nobody has counted before (`total` 0) it shows how much is done.
    """

    WIDTH = 30
    GAP = 0.1  # Seconds between two drawings.

    def __init__(self, total: int = 0, *, hidden: bool = False) -> None:
        self.total, self.done = total, 0
        self._shown = sys.stderr.isatty() and not hidden
        self._drawn_at = 0.0
        self._word = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._drawn_at:
            self._draw()
            sys.stderr.write("\n")

    def to(self, done: int, word: str = "") -> None:
        """So much is done; `word` is what was done last."""
        self.done, self._word = done, word
        if self._shown and time.monotonic() - self._drawn_at > self.GAP:
            self._draw()

    def step(self, by: int = 1, word: str = "") -> None:
        """So much more is done."""
        self.to(self.done + by, word)

    def _draw(self) -> None:
        self._drawn_at = time.monotonic()
        word = printable(self._word).replace("\n", " ")[:40]
        if self.total:
            filled = min(self.WIDTH, self.WIDTH * self.done // self.total)
            bar = f"[{'#' * filled:<{self.WIDTH}}] {self.done}/{self.total}"
        else:
            bar = f"{self.done}"
        sys.stderr.write(f"\r{bar} {word:<40}")
        sys.stderr.flush()
