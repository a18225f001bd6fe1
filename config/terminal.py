"""How commands read: their --help, what they ask first, and what of strangers' text they show."""

import re
import sys
from typing import Any, ClassVar

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
