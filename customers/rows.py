"""Files of customers, row by row, with the byte at which each ends: an import goes on from there.

A row of CSV is read as the JSON that it means, so that both go through the API's own door.
"""

import csv
import json
from collections.abc import Iterator
from typing import IO, NamedTuple

import orjson

from config.problems import FieldError, escape
from config.spreadsheets import plain
from customers.errors import BadFile
from customers.models import Import
from customers.serializers.customers import CustomerChange

ROW_MOST = 64 * 1024  # Bytes.
COLUMNS_MOST = 100
COLUMNS = CustomerChange.__struct_fields__
_ATTRIBUTE = "attributes."
_BOM = b"\xef\xbb\xbf"


class Row(NamedTuple):
    """One row: its JSON, or why it cannot even be read."""

    line: int  # Where it begins, from 1.
    body: bytes
    flaw: str = ""


class Lines:
    """The lines of a file, and how far they were read: `place` in bytes, `line` in lines."""

    def __init__(self, file: IO[bytes], *, place: int = 0, line: int = 0) -> None:
        self.place, self.line = place, line
        self._file = file
        self._row_began = place
        file.seek(place)

    def __iter__(self) -> "Lines":
        return self

    def __next__(self) -> bytes:
        raw = self._file.readline(ROW_MOST + 1)
        if not raw:
            raise StopIteration
        if self.place + len(raw) - self._row_began > ROW_MOST:
            raise BadFile(
                f"The row in line {self.line + 1} is longer than {ROW_MOST} bytes. Is a quote left"
                " open before it?"
            )
        self.line += 1
        self.place += len(raw)
        return raw.removeprefix(_BOM) if self.line == 1 else raw

    def begin_row(self) -> int:
        """The line at which the next row begins; a row may have several."""
        self._row_began = self.place
        return self.line + 1


def read(
    kind: str, file: IO[bytes], *, place: int = 0, line: int = 0
) -> tuple[Lines, Iterator[Row]]:
    """The rows from `place` on, and the lines they are made of.

    Raises BadFile, now or at a row, when the file as a whole makes no sense.
    """
    if kind == Import.Format.JSONL:
        lines = Lines(file, place=place, line=line)
        return lines, _json_rows(lines)
    lines = Lines(file)
    header = _Header(lines)
    if place:
        lines = Lines(file, place=place, line=line)
    return lines, _csv_rows(lines, header)


def check(kind: str, file: IO[bytes]) -> None:
    """Look at the beginning of a file before it is taken.

    Raises BadFile.
    """
    read(kind, file)


def _json_rows(lines: Lines) -> Iterator[Row]:
    begins = lines.begin_row()
    for raw in lines:
        if body := raw.strip():
            yield Row(begins, body)
        begins = lines.begin_row()


def _csv_rows(lines: Lines, header: "_Header") -> Iterator[Row]:
    reader = header.reader(lines)
    while True:
        begins = lines.begin_row()
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield Row(begins, b"", f"It is not CSV: {error}.")
            continue
        if any(cells):
            yield header.row(begins, cells)


class _Header:
    """The first line of a CSV file: what its columns are, and what parts them."""

    def __init__(self, lines: Lines) -> None:
        """Raises BadFile with everything that is wrong with it."""
        first = next(lines, b"")
        try:
            text = first.decode()
        except UnicodeDecodeError:
            raise BadFile("The file is not UTF-8.") from None
        # What spreadsheets write, in one country or another.
        self.delimiter = max(",;\t", key=text.count)
        try:
            self.names = [name.strip() for name in next(self.reader(iter([first])), [])]
        except csv.Error as error:
            raise BadFile(f"The first line is not CSV: {error}.") from None
        if errors := list(self._flaws()):
            raise BadFile("The first line names the columns.", errors=errors)
        # With each name, that of the attribute which it means, if it does.
        self.columns = [
            (name, name.removeprefix(_ATTRIBUTE) if name.startswith(_ATTRIBUTE) else "")
            for name in self.names
        ]

    def reader(self, lines: Iterator[bytes]) -> Iterator[list[str]]:
        """Parses lines; what is no UTF-8 becomes surrogates, which `row` finds."""
        texts = (line.decode(errors="surrogateescape") for line in lines)
        return csv.reader(texts, delimiter=self.delimiter, strict=True)

    def row(self, line: int, cells: list[str]) -> Row:
        """An empty cell says nothing: the field stays as it is."""
        if len(cells) != len(self.names):
            return Row(line, b"", f"It has {len(cells)} cells, the header {len(self.names)}.")
        try:
            return Row(line, orjson.dumps(self._fields(cells)))
        except json.JSONDecodeError:
            return Row(line, b"", "/attributes: It is not a JSON object.")
        except (TypeError, UnicodeEncodeError):
            return Row(line, b"", "It is not UTF-8.")

    def _fields(self, cells: list[str]) -> dict[str, object]:
        fields: dict[str, object] = {}
        attributes: dict[str, object] = {}
        for (name, attribute), cell in zip(self.columns, cells, strict=True):
            if not cell:
                continue
            value = plain(cell) if cell[0] == "'" else cell
            if attribute:
                attributes[attribute] = value
            elif name == "attributes":
                attributes |= _object(cell)
            else:
                fields[name] = value
        if attributes:
            fields["attributes"] = attributes
        return fields

    def _flaws(self) -> Iterator[FieldError]:
        if len(self.names) > COLUMNS_MOST:
            yield FieldError("", "too_many", f"At most {COLUMNS_MOST} columns.")
            return
        if "external_id" not in self.names:
            yield FieldError("/external_id", "required", "There is no column external_id.")
        for index, name in enumerate(self.names):
            pointer = f"/{escape(name[:70])}"
            if name in self.names[:index]:
                yield FieldError(pointer, "duplicate", "There are two columns of this name.")
            elif name not in COLUMNS and not (
                name.startswith(_ATTRIBUTE) and len(name) > len(_ATTRIBUTE)
            ):
                message = "Name the fields of a customer; others are attributes.<name>."
                yield FieldError(pointer, "unknown_field", message)


def _object(cell: str) -> dict[str, object]:
    """Raises json.JSONDecodeError for what is no JSON object."""
    read: object = orjson.loads(cell)
    if not isinstance(read, dict):
        raise json.JSONDecodeError("no object", cell, 0)
    return read
