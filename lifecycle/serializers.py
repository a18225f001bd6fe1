"""What a tenant's life looks like outside."""

from collections.abc import Iterator
from typing import Annotated, Any, TypedDict

import msgspec

from config.ids import format_id
from config.moments import Moment
from config.problems import FieldError
from lifecycle.models import PlanMove
from tenants.serializers import Because, Reason


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
