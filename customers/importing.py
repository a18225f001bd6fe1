"""Taking in a file of customers: stored and queued by the request, read by a job.

The job reads and judges some rows, then writes them with how far it is in one transaction, fenced
by its lease: killed anywhere, it goes on behind what it wrote, and no row is counted twice.
"""

import posixpath
import time
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from typing import IO, Any
from uuid import UUID

from django.conf import settings
from django.core.files.base import File
from django.db import IntegrityError, connection, transaction
from django.db.models import F, Q
from django.db.models.functions import Coalesce, Now
from django.utils import timezone

from config.idempotency import KEPT
from config.ids import uuid7
from config.problems import Problem
from customers import rows as reading
from customers.errors import (
    AlreadyFinished,
    BadFile,
    IdempotencyConflict,
    ImportNotFound,
    TooManyImports,
)
from customers.models import Import, RejectedRow
from customers.serializers.imports import fields_of, reason_of
from customers.uploads import Upload
from customers.upserting import Batch, prepared, write
from jobs.fence import hold
from jobs.outcomes import Outcome, Snooze, Succeeded
from jobs.services import enqueue
from jobs.steps import Claim
from tenants import audit, files
from tenants.context import require_tenant, tenant_context

KIND = "customers.import"
CHUNK = 8000  # Rows in a transaction: two fifths of a second.
CHUNK_BYTES = 1024 * 1024  # Of the file, in a transaction of wider rows: a chunk is in memory.
STRETCH = 20.0  # Seconds at a time; then others' jobs have their turn.


@dataclass(slots=True)
class Chunk:
    """Some rows, judged and ready to be written, and where the file goes on behind them."""

    taken: Batch
    rejected: list[tuple[int, str]]
    place: int
    line: int
    ended: bool

    @property
    def read(self) -> int:
        return self.taken.rows + len(self.rejected)


def begin(*, upload: Upload, format: str, actor: str, key: bytes | None) -> tuple[Import, bool]:
    """Store a file and have it taken in; whether this is the repetition of an earlier call.

    Raises BadFile, IdempotencyConflict, TooManyImports.
    """
    if key is not None and (found := _sent_before(key)) is not None:
        return _same(found, upload), True
    reading.check(format, upload.file)
    _make_room()
    name = _store(upload.file, format)
    made = Import(
        format=format, file=name, size=upload.size, digest=upload.digest, idempotency_key=key,
        actor=actor,
    )  # fmt: skip
    try:
        _begin(made)
    except IntegrityError:
        files.storage().delete(name)
        found = _sent_before(key) if key is not None else None
        if found is None:
            raise
        return _same(found, upload), True
    made.refresh_from_db()
    return made, False


def cancel(*, import_id: UUID, actor: str) -> None:
    """Take no more of it in: what was written stays. The rows written just now are the last.

    Raises ImportNotFound, AlreadyFinished.
    """
    with transaction.atomic():
        found = Import.objects.select_for_update().filter(pk=import_id).first()
        if found is None:
            raise ImportNotFound
        if found.finished_at is not None:
            raise AlreadyFinished
        Import.objects.filter(pk=import_id).update(cancelled_at=Now(), finished_at=Now())
        _record(found, "import.cancelled", actor, {"read": found.read})
        _enqueue(found, once=None)  # It deletes the file, should the first one be dead.


def judged(rows: Iterator[reading.Row], lines: reading.Lines, *, most: int = CHUNK) -> Chunk:
    """The next rows, each taken or rejected. Raises BadFile."""
    taken, rejected, ended = [], [], True
    edge = lines.place + CHUNK_BYTES
    for number, row in enumerate(rows, start=1):
        try:
            if row.flaw:
                raise BadFile(row.flaw)
            taken.append(fields_of(row.body))
        except Problem as problem:
            rejected.append((row.line, reason_of(problem)))
        if number == most or lines.place >= edge:
            ended = False
            break
    return Chunk(prepared(taken), rejected, lines.place, lines.line, ended)


def chunks(rows: Iterator[reading.Row], lines: reading.Lines) -> Generator[Chunk, None, None]:
    """The rows, judged; the next ones while the caller writes these. Raises BadFile."""
    with ThreadPoolExecutor(1) as beside:
        coming = beside.submit(judged, rows, lines)
        while not (chunk := coming.result()).ended:
            coming = beside.submit(judged, rows, lines)
            yield chunk
        yield chunk


def one_at_a_time() -> None:
    """Until the transaction ends: two that make the same customers at once would deadlock."""
    with connection.cursor() as cursor:
        name = f"{KIND}:{require_tenant().id}"
        cursor.execute("select pg_advisory_xact_lock(hashtextextended(%s, 0))", [name])


def run(claim: Claim) -> Outcome:
    """The job `customers.import`."""
    ends_at = min(time.monotonic() + STRETCH, claim.deadline - STRETCH)
    with tenant_context(claim.tenant):
        found = Import.objects.filter(pk=UUID(claim.data["args"]["import"])).first()
        if found is None:
            return Succeeded()
        if found.finished_at is None and not _go_on(claim, found, ends_at):
            return Snooze(0.0, "there is more to do")
        files.storage().delete(found.file)
    return Succeeded()


def _go_on(claim: Claim, found: Import, ends_at: float) -> bool:
    """Take in what there is time for; whether that was the end."""
    try:
        with files.storage().open(found.file) as file:
            lines, rows = reading.read(found.format, file, place=found.place, line=found.line)
            with closing(chunks(rows, lines)) as judging:
                while time.monotonic() < ends_at:
                    if _write(claim, found.pk, next(judging)):
                        return True
    except BadFile as problem:
        return _give_up(claim, found.pk, reason_of(problem))
    except FileNotFoundError:
        return _give_up(claim, found.pk, "The file is gone.")
    return False


def _write(claim: Claim, import_id: UUID, chunk: Chunk) -> bool:
    """One transaction; whether it was the last one."""
    with transaction.atomic():
        hold(claim)
        found = Import.objects.select_for_update().get(pk=import_id)
        if found.finished_at is not None:
            return True
        one_at_a_time()
        written = write(chunk.taken, source=f"import:{import_id}")
        _reject(found, chunk.rejected)
        Import.objects.filter(pk=import_id).update(
            place=chunk.place,
            line=chunk.line,
            read=F("read") + chunk.read,
            created=F("created") + written.created,
            updated=F("updated") + written.updated,
            unchanged=F("unchanged") + written.unchanged,
            rejected=F("rejected") + len(chunk.rejected),
            started_at=Coalesce("started_at", Now()),
            finished_at=Now() if chunk.ended else None,
        )
    return chunk.ended


def _reject(found: Import, rejected: list[tuple[int, str]]) -> None:
    """Keep the first of them: how many there are is counted, and thousands tell no more."""
    room = max(0, int(settings.SLIPWAY["CUSTOMERS"]["rejected_most"]) - found.rejected)
    RejectedRow.objects.bulk_create(
        [RejectedRow(of=found, line=line, reason=reason) for line, reason in rejected[:room]]
    )


def _give_up(claim: Claim, import_id: UUID, error: str) -> bool:
    with transaction.atomic():
        hold(claim)
        rows = Import.objects.filter(pk=import_id, finished_at=None)
        rows.update(error=error, finished_at=Now(), started_at=Coalesce("started_at", Now()))
    return True


def _begin(made: Import) -> None:
    with transaction.atomic():
        made.save(force_insert=True)
        _enqueue(made, once=made.pk)  # So that customers.jobless finds it.
        _record(made, "import.begun", made.actor, {"format": made.format, "bytes": made.size})


def _enqueue(found: Import, *, once: UUID | None) -> None:
    args = {"import": str(found.pk)}
    enqueue(KIND, tenant_id=found.tenant_id, args=args, lane="imports", once=once)


def _make_room() -> None:
    """Forget old imports and old keys. Raises TooManyImports."""
    limits = settings.SLIPWAY["CUSTOMERS"]
    if Import.objects.filter(finished_at=None).count() >= limits["imports_most"]:
        raise TooManyImports(f"At most {limits['imports_most']} wait at once.")
    now = timezone.now()
    kept = timedelta(days=settings.SLIPWAY["RETENTION"]["imports"])
    with transaction.atomic():
        old = Import.objects.filter(finished_at__lt=now - kept)
        RejectedRow.objects.filter(of__in=old).delete()
        old.delete()
        stale = Q(created_at__lt=now - KEPT) & ~Q(idempotency_key=None)
        Import.objects.filter(stale).update(idempotency_key=None)


def _sent_before(key: bytes) -> Import | None:
    since = timezone.now() - KEPT
    return Import.objects.filter(idempotency_key=key, created_at__gte=since).first()


def _same(found: Import, upload: Upload) -> Import:
    if bytes(found.digest) != upload.digest:
        raise IdempotencyConflict
    return found


def _store(file: IO[bytes], format: str) -> str:
    tenant = require_tenant().id
    name = posixpath.join(files.prefix_of(tenant), "imports", f"{uuid7()}.{format}")
    file.seek(0)
    return files.storage().save(name, File(file))


def _record(found: Import, action: str, actor: str, after: dict[str, Any]) -> None:
    audit.record(
        actor=actor, action=action, target=f"import:{found.pk}", tenant_id=found.tenant_id,
        after=after,
    )  # fmt: skip
