"""Everything of a tenant in an archive (lifecycle.archive), for whoever moves away.

A job of the platform's writes it on its machine, stores it below the tenant's own prefix and says
so: killed anywhere, it begins anew, and a half file is given to nobody. What takes longer than a
job may is written in stretches: each stores what there is, and the next one goes on from that. It
works for suspended tenants and for those in their days of grace too.
"""

import hashlib
import os
import posixpath
import shutil
import time
from collections.abc import Collection, Iterable
from contextlib import suppress
from datetime import timedelta
from typing import IO, Any
from uuid import UUID

from django.conf import settings
from django.core.files.base import File
from django.db import connections, transaction
from django.db.models import Q, QuerySet
from django.db.models.functions import Now

from config.ids import format_id, uuid7
from customers.uploads import spool
from jobs.fence import hold
from jobs.models import Job
from jobs.outcomes import Fail, Outcome, Snooze, Succeeded
from jobs.services import enqueue
from jobs.states import State
from jobs.steps import Claim
from lifecycle import archive
from lifecycle.archive import Written
from lifecycle.errors import TenantGone, TooManyExports
from lifecycle.models import Export
from tenants import audit, files, problems
from tenants.context import NOWHERE, PLATFORM, PLATFORM_ID, TenantRef, tenant_context
from tenants.models import Tenant
from tenants.services import Door
from tenants.states import TenantStatus
from tenants.summary import TenantSummary

KIND = "tenants.export"
OPERATOR = "operator"
TELL_SECONDS = 2.0  # Between two words on how far it is.
SPARE = 30.0  # Seconds before the deadline that are left for storing the file, at the least.
_NOBODYS = (State.DEAD_LETTER, State.DISCARDING, State.DISCARDED, State.CANCELLED)

# The app role may not name the columns that it may not write: Django would name all.
_INSERT = "insert into lifecycle_export (id, tenant_id, actor, reason) values (%s, %s, %s, %s)"
_LOCK = "select pg_advisory_xact_lock(hashtextextended('slipway export ' || %s::bigint, 0))"


class TooLong(Exception):
    """It takes longer than a job may."""


def begin(*, tenant_id: int, actor: str, reason: str = "", door: Door | None = None) -> Export:
    """Have a tenant's archive written. Raises TenantNotFound, TenantNotReady, TenantGone,
    TooManyExports.
    """
    alias = (door or Door()).alias
    most = int(settings.SLIPWAY["EXPORTS"]["most"])
    with tenant_context(TenantRef(tenant_id, NOWHERE)), transaction.atomic(using=alias):
        uuid = refuse_unless_there(tenant_id, using=alias)
        _wait_for_others(tenant_id, using=alias)
        rows = Export.objects.using(alias).filter(tenant_id=tenant_id)
        if rows.filter(finished_at=None).count() >= most:
            raise TooManyExports(f"At most {most} wait at once.")
        made = Export(tenant_id=tenant_id)
        with connections[alias].cursor() as cursor:
            cursor.execute(_INSERT, [made.pk, tenant_id, actor, reason])
        audit.record(
            actor=actor,
            action="tenant.export_begun",
            target=format_id("tnt", uuid),
            tenant_id=tenant_id,
            reason=reason,
            after={"export": format_id("exp", made.pk)},
            using=alias,
        )
        made.refresh_from_db(using=alias)
        args = {"export": str(made.pk)}
        with tenant_context(PLATFORM):
            enqueue(
                KIND, tenant_id=PLATFORM_ID, args=args, lane="exports", once=made.pk, using=alias
            )
    return made


def refuse_unless_there(tenant_id: int, *, using: str) -> UUID:
    """The public id of a tenant that has something. Raises as `begin` says."""
    rows = Tenant.objects.using(using).filter(pk=tenant_id)
    found = rows.values_list("uuid", "status").first()
    if found is None:
        raise problems.TenantNotFound
    uuid, status = found
    if status == TenantStatus.CLOSED:
        raise TenantGone
    if status == TenantStatus.PROVISIONING:
        raise problems.TenantNotReady(headers={"Retry-After": "5"})
    return UUID(str(uuid))


def run(claim: Claim) -> Outcome:
    """The job `tenants.export`."""
    found = _rows(claim).first()
    if found is None:
        return Succeeded()
    if found.started_at is None:  # At its beginning, or somebody was erased since.
        _tell(claim, started_at=Now(), file="")
        found.file = ""
    tenant_id = int(found.tenant_id or 0)
    _forget_halves(found, tenant_id)
    with spool() as file:
        teller = _Teller(claim)
        _fetch(found, file)
        teller.leave_time_for_as_much()
        try:
            written = archive.write(file, tenant_id=tenant_id, heard=teller, enough=teller.enough)
        except TooLong:
            return Fail(f"too large for a job: manage.py tenants export --file, for {found.pk}")
        except TenantGone:
            return Fail("the tenant is gone")
        size, digest = file.seek(0, os.SEEK_END), digest_of(file)
        name = files.storage().save(_name(found, tenant_id), File(file))
    return _settle(claim, found, written, name, size=size, digest=digest)


def _settle(
    claim: Claim, found: Export, written: Written, name: str, *, size: int, digest: str
) -> Outcome:
    """Say what was stored: the archive, or as much of it as there was time for."""
    try:
        done = _finish(claim, written, name, size=size, digest=digest)
    except BaseException:
        _delete_unless_named(found, name)
        raise
    if not done:
        files.storage().delete(name)
        return Snooze(0.0, "somebody whom it shows was erased meanwhile: it begins anew")
    if found.file:
        files.storage().delete(found.file)
    return Succeeded() if written.is_whole else Snooze(0.0, "there is more to write")


def _fetch(found: Export, file: IO[bytes]) -> None:
    """What an earlier stretch stored; nothing when it is gone: then it begins anew."""
    if name := file_of(found):
        with suppress(FileNotFoundError), files.storage().open(name) as stored:
            shutil.copyfileobj(stored, file, 1 << 20)


def file_of(found: Export) -> str | None:
    """The name of an archive's file; None where what its row names is not this archive's.

    Nobody but the job may name a file. Were there a way, it would lead to no other tenant's.
    """
    place, _, name = found.file.rpartition("/")
    is_own = place == _place(int(found.tenant_id or 0)) and name.startswith(f"{found.pk}-")
    return found.file if is_own else None


def erase_from(tenant_ids: Collection[int]) -> int:
    """Take back what the archives of these tenants show of somebody who is being erased: how many.

    In the caller's transaction. From its commit on nobody is given them, and then they are deleted;
    what is just being written begins anew.
    """
    for tenant_id in sorted(tenant_ids):
        _wait_for_others(tenant_id, using=OPERATOR)
    rows = Export.objects.using(OPERATOR).filter(tenant_id__in=tenant_ids)
    # First: one that ends at this moment is finished in the next statement's eyes.
    begun = rows.filter(finished_at=None)
    parts = [name for each in begun.select_for_update() if (name := file_of(each))]
    begun.update(started_at=None, file="")
    count = finished(tenant_ids).update(erased_at=Now())
    gone = rows.filter(erased_at__isnull=False)
    # Whatever is left of them goes with the old ones.
    transaction.on_commit(lambda: _forget(gone), using=OPERATOR, robust=True)
    transaction.on_commit(lambda: _delete(parts), using=OPERATOR, robust=True)
    return count


def finished(tenant_ids: Collection[int]) -> QuerySet[Export]:
    """The archives of these tenants that somebody could take away."""
    rows = Export.objects.using(OPERATOR).filter(tenant_id__in=tenant_ids)
    return rows.filter(finished_at__isnull=False, erased_at=None)


def record_taken(tenant: TenantSummary, found: Export, *, actor: str) -> None:
    """The audit trail's entry of who took the archive away."""
    with tenant_context(tenant.ref):
        audit.record(
            actor=actor,
            action="tenant.export_taken",
            target=format_id("tnt", tenant.uuid),
            tenant_id=tenant.ref.id,
            after={"export": format_id("exp", found.pk)},
        )


def stuck(found: Export) -> bool:
    """Whether nobody goes on with it: its job is dead, or was withdrawn."""
    if found.finished_at is not None:
        return False
    with tenant_context(PLATFORM):
        return Job.objects.filter(pk=found.pk, state__in=_NOBODYS).exists()


def digest_of(file: IO[bytes]) -> str:
    """SHA-256 of a file, in hexadecimal digits; it stands at its beginning afterwards."""
    file.seek(0)
    digest = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
    file.seek(0)
    return digest


def record_written(tenant: Tenant, *, actor: str, reason: str) -> None:
    """The audit trail's entry of an archive that a terminal wrote itself."""
    audit.record(
        actor=actor,
        action="tenant.export_taken",
        target=format_id("tnt", tenant.uuid),
        tenant_id=tenant.pk,
        reason=reason,
        using=OPERATOR,
    )


def old() -> QuerySet[Export]:
    """Archives older than SLIPWAY["RETENTION"]["archives"], or of which somebody was erased.

    As old as that they are given up too that never were finished, with what there is of them.
    """
    kept = timedelta(days=float(settings.SLIPWAY["RETENTION"]["archives"]))
    gone = Q(finished_at__lt=Now() - kept) | Q(erased_at__isnull=False)
    gone |= Q(finished_at=None, created_at__lt=Now() - kept)
    return Export.objects.using(OPERATOR).filter(gone)


def forget_old() -> int:
    """Delete the old ones; says how many."""
    return _forget(old())


def _delete(names: Iterable[str]) -> None:
    for name in names:
        files.storage().delete(name)


def _forget(rows: Iterable[Export]) -> int:
    """Delete archives, the file first: a row that is left says that there may be one."""
    count = 0
    for each in rows:
        if name := file_of(each):
            files.storage().delete(name)
        count += each.delete(using=OPERATOR)[0]
    return count


class _Teller:
    """Says in the export's row how far it is, and ends what would take too long."""

    def __init__(self, claim: Claim) -> None:
        self.claim, self.told, self.spare = claim, time.monotonic(), SPARE

    def leave_time_for_as_much(self) -> None:
        """What was fetched since is stored again, with more."""
        self.spare += 2 * (time.monotonic() - self.told)

    def enough(self) -> bool:
        """Whether what there is should be stored."""
        return time.monotonic() > self.claim.deadline - self.spare

    def __call__(self, table: str, rows: int) -> None:
        now = time.monotonic()
        if now > self.claim.deadline - self.spare / 2:  # The table cannot be left in the middle.
            raise TooLong
        if now - self.told > TELL_SECONDS:
            self.told = now
            _tell(self.claim, table=table, rows=rows)


def _rows(claim: Claim) -> QuerySet[Export]:
    rows = Export.objects.using(OPERATOR).filter(pk=UUID(claim.data["args"]["export"]))
    return rows.filter(finished_at=None)


def _tell(claim: Claim, **columns: object) -> None:
    with transaction.atomic(using=OPERATOR):
        hold(claim, using=OPERATOR)
        _rows(claim).update(**columns)


def _finish(claim: Claim, written: Written, name: str, *, size: int, digest: str) -> bool:
    """Say that it is there; False when somebody was erased since it was begun (`erase_from`)."""
    columns: dict[str, Any] = {"table": written.table, "rows": written.rows, "file": name}
    if written.is_whole:
        columns |= {"taken_at": written.taken_at, "size": size, "digest": digest}
        columns |= {"finished_at": Now()}
    with transaction.atomic(using=OPERATOR):
        hold(claim, using=OPERATOR)
        count = _rows(claim).filter(started_at__isnull=False).update(**columns)
    return bool(count)


def _delete_unless_named(found: Export, name: str) -> None:
    """After a failure: what was written may be committed all the same, its answer lost.

    Where the database does not say, the file stays: the next try deletes it, or it is the archive.
    """
    try:
        with transaction.atomic(using=OPERATOR):
            rows = Export.objects.using(OPERATOR).select_for_update()  # Awaits one under way.
            names = list(rows.filter(pk=found.pk).values_list("file", flat=True))
    except Exception:
        return
    if name not in names:
        files.storage().delete(name)


def _forget_halves(found: Export, tenant_id: int) -> None:
    """Delete what a try left behind that was killed while it stored its file."""
    place = _place(tenant_id)
    kept = posixpath.basename(found.file)
    with suppress(FileNotFoundError):
        for name in files.storage().listdir(place)[1]:
            if name.startswith(f"{found.pk}-") and name != kept:
                files.storage().delete(posixpath.join(place, name))


def _name(found: Export, tenant_id: int) -> str:
    """Another name for each try: nothing is ever written over."""
    return posixpath.join(_place(tenant_id), f"{found.pk}-{uuid7()}.zip")


def _place(tenant_id: int) -> str:
    return posixpath.join(files.prefix_of(tenant_id), "archives")


def _wait_for_others(tenant_id: int, *, using: str) -> None:
    """One at a time, until the transaction ends: what is counted is not counted by two at once."""
    with connections[using].cursor() as cursor:
        cursor.execute(_LOCK, [tenant_id])
