"""Waiting, at a terminal, for what workers do; and the archive that a terminal writes itself."""

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError

from config.terminal import Progress
from jobs.models import Job
from jobs.states import State
from lifecycle import archive, closing, exporting, plans
from lifecycle.archive import Written
from lifecycle.models import Export, PlanMove
from tenants.models import Tenant
from tenants.services import OPERATOR
from tenants.states import TenantStatus

LOOK = 0.5  # Seconds between two looks at how far it is.


def move(found: PlanMove, *, hidden: bool) -> None:
    """Until a change of plan is done. Raises CommandError when it is stuck."""
    with Progress(hidden=hidden) as bar:
        while found.finished_at is None:
            time.sleep(LOOK)
            found.refresh_from_db(using=OPERATOR)
            bar.total = found.rows_total
            bar.to(found.rows_done, found.phase)
            if plans.stuck([found], using=OPERATOR):
                raise CommandError("It is stuck: see the dead letters of jobs.")


def export(found: Export, *, hidden: bool) -> None:
    """Until an archive is written. Raises CommandError when nobody goes on with it."""
    with Progress(hidden=hidden) as bar:
        while found.finished_at is None:
            time.sleep(LOOK)
            found.refresh_from_db(using=OPERATOR)
            bar.to(found.rows, found.table)
            if exporting.stuck(found):
                raise CommandError("It is stuck: see the dead letters of jobs.")


def purge(tenant: Tenant, *, hidden: bool) -> None:
    """Until nothing of a tenant is left. Raises CommandError when nobody goes on with it."""
    with Progress(hidden=hidden) as bar:
        while tenant.status != TenantStatus.CLOSED:
            time.sleep(LOOK)
            tenant.refresh_from_db(using=OPERATOR)
            closure = closing.last(tenant.pk, using=OPERATOR)
            if closure is None or tenant.status not in (TenantStatus.CLOSING, TenantStatus.CLOSED):
                raise CommandError(f"It is {tenant.status}.")
            bar.to(closure.rows, closure.phase)
            dead = Job.objects.using(OPERATOR).filter(pk=closure.pk, state=State.DEAD_LETTER)
            if dead.exists():
                raise CommandError("It is stuck: see the dead letters of jobs.")


def written(tenant: Tenant, options: Mapping[str, Any], *, actor: str) -> Written:
    """Write an archive to a file that is not there yet: nobody finds half of one under its name."""
    path = Path(options["file"])
    if path.exists():
        raise CommandError(f"{path} is there already.")
    exporting.refuse_unless_there(tenant.pk, using=OPERATOR)
    half = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        # Whatever the machine's habit: nobody else is to read it.
        opened = os.open(half, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(opened, "w+b") as file, Progress(hidden=options["json"]) as bar:
            told = lambda table, rows: bar.to(rows, table)  # noqa: E731
            done = archive.write(file, tenant_id=tenant.pk, heard=told)
        half.rename(path)
    except OSError as error:
        raise CommandError(f"{path} cannot be written: {error}") from None
    finally:
        half.unlink(missing_ok=True)
    exporting.record_written(tenant, actor=actor, reason=options["reason"])
    return done
