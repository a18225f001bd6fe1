"""The truth: every message that the sandbox accepted, in the order in which it did.

With a file, each line is written before anything is answered, and read again at the next start: a
killed sandbox forgets nothing of what it told anybody.
"""

import os
import time
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec


class Acceptance(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One line."""

    at: float  # Seconds since 1970.
    sender: str
    key: str  # The Idempotency-Key, else the callback data.
    phone: str
    id: str  # What the provider calls it.
    header: dict[str, str] = {}  # What the variables of the header and of the buttons said, where
    buttons: dict[str, str] = {}  # the template has any.


class Forgotten(msgspec.Struct, frozen=True):
    """A line that unsays what stands before it: of one sender, or of all."""

    forget: str | None


_READ = msgspec.json.Decoder(dict[str, Any])
_WRITE = msgspec.json.Encoder()


class Book:
    """One sender's acceptances, counted."""

    def __init__(self) -> None:
        self.entries: list[Acceptance] = []
        self.ids: dict[str, str] = {}  # Key → the id of its first acceptance.
        self.by_key: Counter[str] = Counter()
        self.by_phone: Counter[str] = Counter()

    def add(self, entry: Acceptance) -> None:
        self.entries.append(entry)
        self.ids.setdefault(entry.key, entry.id)
        self.by_key[entry.key] += 1
        self.by_phone[entry.phone] += 1

    def summary(self) -> dict[str, Any]:
        """What a test asks first. `duplicates` are acceptances beyond each key's first."""
        times = array("d", [entry.at for entry in self.entries])
        return {
            "accepted": len(self.entries),
            "keys": len(self.by_key),
            "phones": len(self.by_phone),
            "duplicates": len(self.entries) - len(self.by_key),
            "most_of_a_key": max(self.by_key.values(), default=0),
            "most_of_a_phone": max(self.by_phone.values(), default=0),
            "accepted_most_in_a_second": most_in_a_second(times),
            "first_at": times[0] if times else None,
            "last_at": times[-1] if times else None,
        }


class Ledger:
    """The books of all senders, and the file that outlives the process."""

    def __init__(self, path: Path | None = None) -> None:
        self._books: defaultdict[str, Book] = defaultdict(Book)
        self._file: int | None = None
        if path is not None:
            if path.exists():
                self._read(path)
            # Appended in one write each: what was written outlives this process at any moment.
            self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def of(self, sender: str) -> Book:
        return self._books[sender]

    def accept(
        self,
        *,
        sender: str,
        key: str,
        phone: str,
        header: dict[str, str] | None = None,
        buttons: dict[str, str] | None = None,
    ) -> Acceptance:
        """Write a message down as accepted. Raises OSError when it cannot be."""
        id_, now = f"sbx-{uuid4().hex}", time.time()
        entry = Acceptance(now, sender, key, phone, id_, header or {}, buttons or {})
        self._write(entry)
        self._books[sender].add(entry)
        return entry

    def lines(self, sender: str | None = None) -> Iterator[bytes]:
        """Acceptances as JSON lines, of one sender or of all."""
        books = self._books.values() if sender is None else [self._books[sender]]
        for book in list(books):
            for entry in list(book.entries):
                yield _WRITE.encode(entry) + b"\n"

    def forget(self, sender: str | None = None) -> None:
        """Begin anew, for one sender or for all."""
        self._write(Forgotten(sender))
        self._forget(sender)

    def _forget(self, sender: str | None) -> None:
        if sender is None:
            self._books.clear()
        else:
            self._books.pop(sender, None)

    def _write(self, line: Acceptance | Forgotten) -> None:
        if self._file is not None:
            os.write(self._file, _WRITE.encode(line) + b"\n")

    def _read(self, path: Path) -> None:
        with path.open("rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    continue  # Cut off with the machine: it was not answered.
                read = _READ.decode(line)
                if "forget" in read:
                    self._forget(read["forget"])
                else:
                    entry = msgspec.convert(read, Acceptance)
                    self._books[entry.sender].add(entry)


def most_in_a_second(times: "array[float]") -> int:
    """The most of these ascending times that lie within any one second."""
    most = first = 0
    for last, at in enumerate(times):
        while at - times[first] >= 1.0:
            first += 1
        most = max(most, last - first + 1)
    return most
