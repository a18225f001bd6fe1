"""What a tenant's life looks like outside."""

from collections.abc import Iterator
from typing import Annotated, Any, TypedDict

import msgspec

from config.ids import format_id
from config.moments import Moment
from config.problems import FieldError
from config.spelling import unseen_flaw
from lifecycle.models import Export, PlanMove
from tenants.serializers import REASON_MOST, Because, Reason


class PlanWish(msgspec.Struct, forbid_unknown_fields=True):
    """The plan that a tenant is to have, and why."""

    plan: Annotated[str, msgspec.Meta(min_length=1, max_length=40)]
    reason: Reason

    def __post_init__(self) -> None:
        self.reason = self.reason.strip()

    @staticmethod
    def flaws(read: Any) -> Iterator[FieldError]:
        """What the types cannot say."""
        yield from Because.flaws(read)


class CheckAnswer(TypedDict):
    """What a table came to, the same in both homes."""

    rows: int
    checksum: str


class PlanAnswer(TypedDict):
    """A change of plan, and how far it is."""

    id: str
    plan_before: str
    plan: str
    home_before: str
    home: str
    status: str
    phase: str
    rows_total: int
    rows_done: int
    changes: int
    checks: dict[str, CheckAnswer]
    refused_ms: int | None
    created_at: Moment
    started_at: Moment | None
    moved_at: Moment | None
    finished_at: Moment | None


def plan_move_as_json(move: PlanMove, *, stuck: bool = False) -> PlanAnswer:
    """`stuck`: its job is dead, and waits for an operator."""
    return {
        "id": format_id("mov", move.pk),
        "plan_before": move.plan_before,
        "plan": move.plan_after,
        "home_before": move.home_before,
        "home": move.home_after,
        "status": "stuck" if stuck else move.status,
        "phase": move.phase,
        "rows_total": move.rows_total,
        "rows_done": move.rows_done,
        "changes": move.changes,
        "checks": move.checks,
        "refused_ms": move.refused_ms,
        "created_at": move.created_at,
        "started_at": move.started_at,
        "moved_at": move.moved_at,
        "finished_at": move.finished_at,
    }


class ArchiveWish(msgspec.Struct, forbid_unknown_fields=True):
    """Why a tenant's archive is wanted, where that is to be known later."""

    reason: Annotated[str, msgspec.Meta(max_length=REASON_MOST)] = ""

    @staticmethod
    def flaws(read: Any) -> Iterator[FieldError]:
        """What the types cannot say."""
        if isinstance(read.reason, str) and (flaw := unseen_flaw(read.reason)):
            yield FieldError("/reason", *flaw)


class ArchiveAnswer(TypedDict):
    """A tenant's archive; `file_url` is null until it is finished. `sha256` is the file's."""

    id: str
    status: str
    table: str | None
    rows: int
    bytes: int
    sha256: str | None
    file_url: str | None
    created_at: Moment
    started_at: Moment | None
    taken_at: Moment | None
    finished_at: Moment | None


def export_as_json(found: Export, *, reference: str, stuck: bool = False) -> ArchiveAnswer:
    """`reference` is how the caller names the tenant; `stuck`: its job waits for an operator."""
    shown = format_id("exp", found.pk)
    url = f"/v1/tenants/{reference}/exports/{shown}/file"
    return {
        "id": shown,
        "status": "stuck" if stuck else found.status,
        "table": found.table or None,
        "rows": found.rows,
        "bytes": found.size,
        "sha256": found.digest or None,
        "file_url": url if found.finished_at else None,
        "created_at": found.created_at,
        "started_at": found.started_at,
        "taken_at": found.taken_at,
        "finished_at": found.finished_at,
    }
