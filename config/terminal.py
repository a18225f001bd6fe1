"""How every command's --help reads: what it does, its options, and examples to copy."""

from typing import Any, ClassVar

from django.core.management.base import CommandParser, DjangoHelpFormatter

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
