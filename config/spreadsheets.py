"""CSV as spreadsheets read it: a cell that begins like a formula is one, and runs.

OWASP, CSV Injection: such a cell gets an apostrophe in front. `plain` takes it away again, so that
what was exported can be imported: a phone number begins with "+".
"""

import csv
import io
import re
from collections.abc import Iterable, Sequence

CONTENT_TYPE = "text/csv; charset=utf-8"

_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_NEUTRAL = re.compile(r"'+[=+\-@\t\r]")


def neutral(cell: str) -> str:
    """The cell, with an apostrophe in front where a spreadsheet would calculate it."""
    return f"'{cell}" if _FORMULA.match(cell) else cell


def plain(cell: str) -> str:
    """The cell as it was before `neutral`."""
    return cell[1:] if cell[:1] == "'" and _NEUTRAL.match(cell) else cell


def as_csv(rows: Iterable[Sequence[str]]) -> bytes:
    """Rows of CSV (RFC 4180), each cell neutral."""
    text = io.StringIO()
    csv.writer(text).writerows([neutral(cell) for cell in row] for row in rows)
    return text.getvalue().encode()
