"""Where a sign-up stands, as its caller, its owner-to-be and the set-up page see it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from django.db import connection
from django.utils import timezone

from config.ids import format_id
from onboarding.answers import StatusAnswer, StepAnswer, TenantOfSignUp
from onboarding.states import Progress, StepState, is_delayed, progress
from onboarding.steps import step_names
from onboarding.steps.step import tenant_uuid
from tenants.hosts import tenant_url

COLUMNS = (
    "id, tenant_id, slug, tenant_name, plan, home, state, attempts, last_error, caller, created_at,"
    " finished_at, steps"
)
_SOON, _LATER = 1, 5  # Seconds to wait before asking again.


@dataclass(frozen=True, slots=True)
class SignUpRow:
    """The columns of slipway.onboarding_by_request."""

    id: UUID
    tenant_id: int
    slug: str
    tenant_name: str
    plan: str
    home: str
    state: str
    attempts: int
    last_error: str
    caller: str
    created_at: datetime
    finished_at: datetime | None
    steps: Mapping[str, str]  # Step → when it was recorded.

    @property
    def progress(self) -> Progress:
        return progress(self.state, begun=bool(self.attempts or self.steps))

    @property
    def is_delayed(self) -> bool:
        return is_delayed(
            self.progress,
            self.state,
            attempts=self.attempts,
            created_at=self.created_at,
            now=timezone.now(),
        )

    @property
    def retry_after(self) -> int | None:
        """Seconds until it is worth asking again; None when nothing will change."""
        if self.progress in {Progress.READY, Progress.CANCELLED}:
            return None
        return _LATER if self.is_delayed else _SOON


def find(request_id: UUID) -> SignUpRow | None:
    """The sign-up of this id, which is what its caller knows: no tenant need be set."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"select {COLUMNS} from slipway.onboarding_by_request(%s)",  # noqa: S608 - a constant.
            [request_id],
        )
        row = cursor.fetchone()
    return read_row(row) if row else None


def read_row(values: Sequence[Any]) -> SignUpRow:
    """COLUMNS as a value. Django's cursors leave jsonb as text, others do not."""
    steps = values[-1]
    parsed = orjson.loads(steps) if isinstance(steps, str) else steps
    return SignUpRow(*[*values[:-1], parsed])


def find_by_slug(slug: str) -> dict[str, Any] | None:
    """The progress of the sign-up under way for an address, without its id."""
    with connection.cursor() as cursor:
        cursor.execute(
            "select tenant_name, home, state, attempts, created_at, steps"
            " from slipway.onboarding_by_slug(%s)",
            [slug],
        )
        row = cursor.fetchone()
    if row is None:
        return None
    name, home, state, attempts, created_at, text = row
    steps = orjson.loads(text)
    now = progress(state, begun=bool(attempts or steps))
    return {
        "name": name,
        "status": now,
        "delayed": is_delayed(
            now, state, attempts=attempts, created_at=created_at, now=timezone.now()
        ),
        "steps": step_list(home, now, steps),
    }


def public(row: SignUpRow) -> StatusAnswer:
    """What everybody who knows the id may see: no address, no error, no attempt."""
    tenant: TenantOfSignUp = {
        "slug": row.slug,
        "name": row.tenant_name,
        "url": tenant_url(row.slug),
    }
    if row.progress == Progress.READY:
        tenant["id"] = format_id("tnt", tenant_uuid(row.id))
    return {
        "request_id": format_id("req", row.id),
        "status": row.progress,
        "delayed": row.is_delayed,
        "tenant": tenant,
        "steps": step_list(row.home, row.progress, row.steps),
        "created_at": row.created_at,
        "ready_at": row.finished_at if row.progress == Progress.READY else None,
    }


def full(row: SignUpRow) -> StatusAnswer:
    """What platform keys see too."""
    return {
        **public(row),
        "plan": row.plan,
        "state": row.state,
        "attempts": row.attempts,
        "last_error": row.last_error,
        "caller": row.caller,
    }


def step_list(home: str, now: Progress, done: Mapping[str, str]) -> list[StepAnswer]:
    """Each step and its state; at most one runs at a time."""
    steps: list[StepAnswer] = []
    running = now in {Progress.PROVISIONING}
    for name in step_names(home):
        if name in done or now == Progress.READY:
            steps.append({"name": name, "state": StepState.DONE})
        else:
            steps.append(
                {"name": name, "state": StepState.RUNNING if running else StepState.WAITING}
            )
            running = False
    return steps
