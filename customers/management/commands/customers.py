"""manage.py customers: a tenant's customers from a file, and into one."""

import json
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from config.terminal import Progress, ShowsExamples, actor, printable
from customers.errors import BadFile
from customers.exporting import record, write
from customers.loading import Loaded, load
from customers.models import Import
from customers.serializers.imports import reason_of
from tenants.context import tenant_context
from tenants.models import Tenant

FORMATS = {".csv": Import.Format.CSV, ".jsonl": Import.Format.JSONL, ".ndjson": Import.Format.JSONL}


class Command(ShowsExamples, BaseCommand):
    help = (
        "Take a file of customers in for one tenant, as often as you like; write one of them all."
    )
    examples = """
  manage.py customers import --tenant acme customers.csv --dry-run
  manage.py customers import --tenant acme customers.jsonl
  manage.py customers export --tenant acme customers.csv
"""
    exit_codes = "0 every row was taken; 1 some were not, or the file cannot be read."

    def add_arguments(self, parser: CommandParser) -> None:
        acts = parser.add_subparsers(dest="act", required=True, metavar="ACT")
        bring = acts.add_parser("import", help="CSV or lines of JSON, by external_id.")
        bring.add_argument("--dry-run", action="store_true", help="Judge each row; write none.")
        acts.add_parser("export", help="Write all customers to a new file.")
        for act in acts.choices.values():
            act.add_argument("file", type=Path, help=f"Its name ends in {', '.join(FORMATS)}.")
            act.add_argument("--tenant", required=True, help="Its slug.")
            act.add_argument("--json", action="store_true", help="Answer as one JSON object.")

    def handle(self, *args: Any, **options: Any) -> None:
        tenant = Tenant.objects.using("operator").filter(slug=options["tenant"]).first()
        if tenant is None:
            raise CommandError(f"There is no tenant {options['tenant']!r}.")
        path: Path = options["file"]
        format = FORMATS.get(path.suffix.lower())
        if format is None:
            raise CommandError(f"Name a file that ends in {', '.join(FORMATS)}.")
        act = self._import if options["act"] == "import" else self._export
        with tenant_context(tenant):
            act(path, format, options)

    def _export(self, path: Path, format: Import.Format, options: dict[str, Any]) -> None:
        try:
            with path.open("xb") as file:
                rows = write(file, format)
        except OSError as error:
            raise CommandError(f"{path} cannot be written: {error.strerror}.") from None
        record(actor=actor(), target="customers", format=format)
        told = json.dumps({"rows": rows}) if options["json"] else f"{rows} customers"
        self.stdout.write(told)

    def _import(self, path: Path, format: Import.Format, options: dict[str, Any]) -> None:
        try:
            with path.open("rb") as file, Progress(100, hidden=options["json"]) as bar:
                size = max(1, path.stat().st_size)
                loaded = load(
                    file=file,
                    format=format,
                    actor=actor(),
                    dry_run=options["dry_run"],
                    tell=lambda so_far: bar.to(
                        100 * so_far.place // size, f"per cent, {so_far.read} rows"
                    ),
                )
        except OSError as error:
            raise CommandError(f"{path} cannot be read: {error.strerror}.") from None
        except BadFile as problem:
            raise CommandError(f"{path} cannot be imported: {reason_of(problem)}") from None
        self._tell(loaded, options)

    def _tell(self, loaded: Loaded, options: dict[str, Any]) -> None:
        if options["json"]:
            self.stdout.write(json.dumps(loaded.as_json() | {"dry_run": options["dry_run"]}))
        else:
            for line, reason in loaded.reasons:
                self.stdout.write(f"line {line}: {printable(reason)}")
            self.stdout.write(_summary(loaded, dry_run=options["dry_run"]))
        if loaded.rejected:
            raise CommandError(f"{loaded.rejected} of {loaded.read} rows were rejected.")


def _summary(loaded: Loaded, *, dry_run: bool) -> str:
    if dry_run:
        return f"{loaded.read - loaded.rejected} of {loaded.read} rows are fine; none was written."
    counts = loaded.written._asdict() | {"rejected": loaded.rejected}
    return f"{loaded.read} rows: " + ", ".join(f"{many} {name}" for name, many in counts.items())
