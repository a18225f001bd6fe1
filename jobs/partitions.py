"""Partitions, one a day (UTC): made ahead of time, dropped when they are old.

SLIPWAY["PARTITIONED"] lists the tables: parent → {"retention": a name in SLIPWAY["RETENTION"]}, and
`before_drop`, the dotted path of what must be done, and hold, before a day may go.

There is no default partition: an attempt without a place is logged instead (jobs.engine.settle),
and a default one would have to be scanned under lock by every later attach. Partitions carry no
grants, so that all access goes through the parent and its policy.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from django.conf import settings
from django.db.utils import OperationalError
from django.utils.module_loading import import_string

ATTEMPTS = "jobs_attempt"
DAYS_AHEAD = 14
LOCK_TIMEOUT = "2s"  # Attaching waits behind long readers, and everybody behind it: rather give up.
_NAME = re.compile(r"([a-z_]+)_(\d{4})(\d\d)(\d\d)")


@dataclass(frozen=True, slots=True)
class Partitioned:
    """A table with a partition a day."""

    parent: str
    keep_days: int
    # Given a day that is about to go; answers whether it may: False keeps it for the next time.
    before_drop: Callable[[date], bool] | None


def tables() -> list[Partitioned]:
    """All of them, from the settings."""
    return [
        Partitioned(
            parent,
            int(settings.SLIPWAY["RETENTION"][spec["retention"]]),
            import_string(spec["before_drop"]) if spec.get("before_drop") else None,
        )
        for parent, spec in settings.SLIPWAY["PARTITIONED"].items()
    ]


def name_of(day: date, *, parent: str = ATTEMPTS) -> str:
    """The partition of a day."""
    return f"{parent}_{day:%Y%m%d}"


def day_of(name: str) -> date | None:
    """The day of a partition; None for a table that is no partition of ours."""
    found = _NAME.fullmatch(name)
    return date(int(found[2]), int(found[3]), int(found[4])) if found else None


def existing(cursor: Any, *, parent: str = ATTEMPTS) -> set[date]:
    """The days that have a partition."""
    cursor.execute(
        "select inhrelid::regclass::text from pg_inherits where inhparent = %s::regclass", [parent]
    )
    days = (day_of(name.removeprefix("public.")) for (name,) in cursor.fetchall())
    return {day for day in days if day}


def missing(
    cursor: Any, *, today: date, days_ahead: int = DAYS_AHEAD, parent: str = ATTEMPTS
) -> list[date]:
    """The days from yesterday on (a work may have started then) that want a partition."""
    there = existing(cursor, parent=parent)
    wanted = (today + timedelta(days=n) for n in range(-1, days_ahead + 1))
    return [day for day in wanted if day not in there]


def make(cursor: Any, days: Iterable[date], *, parent: str = ATTEMPTS) -> list[str]:
    """Create and attach partitions, as the owner. CREATE … PARTITION OF would stop all readers.

    Raises OperationalError when the parent stays locked: try again later.
    """
    made = []
    for day in days:
        name = name_of(day, parent=parent)
        for statement in _statements(name, day, parent):
            cursor.execute(statement)
        made.append(name)
    return made


def _statements(name: str, day: date, parent: str) -> list[str]:
    bounds = f"from ('{day} 00:00+00') to ('{day + timedelta(days=1)} 00:00+00')"
    return [
        # One that was created and not attached is left from a try that gave up.
        f'drop table if exists "{name}"',
        f'create table "{name}" (like {parent} including defaults including storage)',
        f'revoke all on "{name}" from slipway_app, slipway_operator, slipway_analytics',
        f'alter table "{name}" enable row level security',
        f'alter table "{name}" force row level security',
        f"set lock_timeout = '{LOCK_TIMEOUT}'",
        f'alter table {parent} attach partition "{name}" for values {bounds}',
        "reset lock_timeout",
    ]


def expired(cursor: Any, *, today: date, keep_days: int, parent: str = ATTEMPTS) -> list[date]:
    """The days whose rows are older than `keep_days`."""
    days = existing(cursor, parent=parent)
    return sorted(day for day in days if day < today - timedelta(days=keep_days))


def drop(cursor: Any, days: Iterable[date], *, parent: str = ATTEMPTS) -> list[str]:
    """Detach and drop partitions, as the owner, outside a transaction.

    One that stays locked is left for the next time.
    """
    dropped = []
    for day in days:
        name = name_of(day, parent=parent)
        try:
            cursor.execute(f"set lock_timeout = '{LOCK_TIMEOUT}'")
            cursor.execute(f'alter table {parent} detach partition "{name}" concurrently')
            cursor.execute(f'drop table "{name}"')
        except OperationalError:
            continue
        finally:
            cursor.execute("reset lock_timeout")
        dropped.append(name)
    return dropped
