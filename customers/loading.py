"""A file of customers on this machine, taken in by a command: no request, no job, no storage."""

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import IO

from django.db import transaction

from customers import rows as reading
from customers.importing import chunks, one_at_a_time
from customers.upserting import Written, write
from tenants import audit
from tenants.context import require_tenant

KEPT = 1000  # Reasons that are told; all are counted.


@dataclass(slots=True)
class Loaded:
    """How far it is."""

    written: Written = field(default_factory=Written)
    read: int = 0
    rejected: int = 0
    place: int = 0  # Bytes.
    reasons: list[tuple[int, str]] = field(default_factory=list)  # By line, the first KEPT.

    def as_json(self) -> dict[str, object]:
        return {
            "read": self.read,
            **self.written._asdict(),
            "rejected": self.rejected,
            "reasons": [{"line": line, "reason": reason} for line, reason in self.reasons],
        }


def load(
    *, file: IO[bytes], format: str, actor: str, dry_run: bool, tell: Callable[[Loaded], None]
) -> Loaded:
    """Take the file in for the current tenant; run again, it finds what it wrote.

    With `dry_run` each row is judged, and none written. `tell` is called every few thousand rows.
    Raises BadFile.
    """
    loaded = Loaded()
    try:
        for _ in _chunks(file, format, loaded, None if dry_run else actor):
            tell(loaded)
    finally:
        if not dry_run and loaded.read:
            _record(loaded, actor)
    return loaded


def _chunks(file: IO[bytes], format: str, loaded: Loaded, actor: str | None) -> Iterator[None]:
    """Each chunk, written by this actor; None writes none."""
    lines, rows = reading.read(format, file)
    with closing(chunks(rows, lines)) as judging:
        for chunk in judging:
            if actor is not None:
                with transaction.atomic():
                    one_at_a_time()
                    loaded.written = loaded.written.plus(write(chunk.taken, source=actor))
            loaded.read += chunk.read
            loaded.rejected += len(chunk.rejected)
            loaded.reasons += chunk.rejected[: KEPT - len(loaded.reasons)]
            loaded.place = chunk.place
            yield


def _record(loaded: Loaded, actor: str) -> None:
    tenant_id = require_tenant().id
    after = {"read": loaded.read, "rejected": loaded.rejected, **loaded.written._asdict()}
    audit.record(
        actor=actor,
        action="customers.imported",
        target="customers",
        tenant_id=tenant_id,
        after=after,
    )
