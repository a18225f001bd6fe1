"""SQL that migrations run, one file a matter. A landed file is never edited; a new one follows."""

from pathlib import Path

from django.db.migrations import RunSQL

HERE = Path(__file__).parent


def run_file(name: str, *, undo: str) -> RunSQL:
    """The operation that runs one file of this directory, and the statement that undoes it."""
    return RunSQL((HERE / name).read_text(encoding="utf-8"), undo)
