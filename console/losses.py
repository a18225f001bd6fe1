"""Works that nobody accounts for, whatever their age, and rows that are gone with good reason.

A minute's works are asked after for a day (console.rollup). What was accepted before lies in one of
a few states that an index leads to, and in these alone it can be forgotten: in progress, or being
undone, by a drainer that is gone; dead, without a letter.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from django.conf import settings
from django.db.backends.utils import CursorWrapper

from console import counting
from jobs.registry import Queue
from jobs.states import FINISHED
from jobs.works import LISTED_SQL

LOST = "lost"  # In `depth`, and no state: works of this kind that no minute counts.
MOST = 10_000  # Of one sort and queue; nobody needs to know of more.

# A drainer that has just died is still somebody: its works are rescued.
ANSWERS = """exists (select from jobs_drainer d where d.id = w.drainer
    and (d.dead_at is null or d.dead_at > now() - interval '2 minutes'))"""
# Its letter goes before it when its tenant is purged.
PURGED = """exists (select from tenants_tenant t where t.id = w.tenant_id
    and t.status in ('closing', 'closed') and t.closes_at <= now())"""
LETTER = """exists (select from jobs_deadletter l where l.tenant_id = w.tenant_id
    and l.queue = '{name}' and l.work_id = w.id and l.resolved_at is null)"""

_TAKEN = """
(select '{name}', w.id, w.state, w.created_at from {table} w where w.state = 'processing'
  and not {answers} limit {most})
union all
(select '{name}', w.id, w.state, w.created_at from {table} w where w.state = 'discarding'
  and w.lease is not null and not {answers} limit {most})"""
# Dead letters may be many: once an hour, and each time while there is something to be told.
_DEAD = """
(select '{name}', w.id, w.state, w.created_at from {table} w where w.state = 'dead_letter'
  and w.{indexed} and (%(deep)s or exists (select from console_minute
    where at = (select max(at) from console_minute) and depth -> '{lost}' is not null))
  and not {letter} and not {purged} limit {most})"""
_PURGED_LAST = """
select max(coalesce(finished_at, now())) from lifecycle_closure where begun_at is not null"""


@dataclass(frozen=True, slots=True)
class Stray:
    """A work that nobody accounts for."""

    queue: str
    id: str
    state: str
    at: datetime  # When it was accepted, as counting.made has it.

    @property
    def told(self) -> dict[str, str]:
        """For the list of them; `since` says that no minute counts it."""
        return {"id": self.id, "state": self.state, "since": f"{self.at:%Y-%m-%d %H:%M}"}


@dataclass(frozen=True, slots=True)
class Deleted:
    """Until when services deleted works that had been accepted: then a row may be gone."""

    purged: datetime | None
    now: datetime

    def may_be_gone(self, queue: str, at: datetime) -> bool:
        """Whether a purge was at it since, or the queue keeps nothing for as long."""
        if self.purged is not None and at <= self.purged:
            return True
        name = settings.SLIPWAY["QUEUES"].get(queue, {}).get("retention")
        kept = settings.SLIPWAY["RETENTION"].get(name) if name else None
        return kept is not None and at < self.now - timedelta(days=kept)


def strays(cursor: CursorWrapper, *, deep: bool) -> list[Stray]:
    """All there are; of dead letters, unless `deep`, only where there were some the last time."""
    asked = [
        statement.format(
            name=served.name,
            table=served.table,
            answers=ANSWERS,
            letter=LETTER.format(name=served.name),
            purged=PURGED,
            lost=LOST,
            indexed=LISTED_SQL,
            most=MOST,
        )
        for served in counting.served()
        for statement in (_TAKEN, _DEAD)
    ]
    cursor.execute(" union all ".join(asked), {"deep": deep})
    ordered = {served.name: counting.is_ordered(served) for served in counting.served()}
    return [
        Stray(name, str(id_), state, _accepted(id_.int) if ordered[name] else created)
        for name, id_, state, created in cursor.fetchall()
    ]


def deleted(cursor: CursorWrapper, now: datetime) -> Deleted:
    """What services deleted of late."""
    cursor.execute(_PURGED_LAST)
    return Deleted(cursor.fetchone()[0], now)


def traced(served: Queue) -> str:
    """SQL over a work `w`: somebody, or something, answers for it.

    An ended one says when, a dead one has its letter, one in progress or being undone a drainer
    that lives or has just died; all others lie where the engine looks.
    """
    finished = ", ".join(f"'{state.value}'" for state in FINISHED)
    return f"""case
  when w.state in ({finished}) then w.finished_at is not null
  when w.finished_at is not null then false
  when w.state = 'dead_letter' then {LETTER.format(name=served.name)} or {PURGED}
  when w.state = 'processing' or w.state = 'discarding' and w.lease is not null then {ANSWERS}
  else true end"""


def _accepted(id_: int) -> datetime:
    """The moment that a UUID of version 7 tells (RFC 9562)."""
    return datetime.fromtimestamp((id_ >> 80) / 1000, tz=UTC)
