"""What the API of sign-ups answers: types for mypy and the OpenAPI document, and no code."""

from typing import Any, NotRequired, TypedDict

from config.moments import Moment
from onboarding.states import Progress, StepState


class TenantAddress(TypedDict):
    """Where the tenant will be."""

    slug: str
    url: str


class AcceptedAnswer(TypedDict):
    """A sign-up that was taken in. The claim token is shown to nobody else, and stored nowhere."""

    request_id: str
    status: Progress
    status_url: str
    events_url: str
    tenant: TenantAddress
    claim_token: str


class StepAnswer(TypedDict):
    """A provisioning step, and where it stands."""

    name: str
    state: StepState


class TenantOfSignUp(TypedDict):
    """The tenant that a sign-up makes; it has an id when it is ready."""

    slug: str
    name: str
    url: str
    id: NotRequired[str]


class StatusAnswer(TypedDict):
    """Where a sign-up stands. What need not be there is for platform keys."""

    request_id: str
    status: Progress
    delayed: bool
    tenant: TenantOfSignUp
    steps: list[StepAnswer]
    created_at: Moment
    ready_at: Moment | None
    plan: NotRequired[str]
    state: NotRequired[str]
    attempts: NotRequired[int]
    last_error: NotRequired[str]
    caller: NotRequired[str]


class ClaimAnswer(TypedDict):
    """The tenant's first API key."""

    key: str
    prefix: str
    scopes: list[str]
    tenant: TenantOfSignUp


class ResendAnswer(TypedDict):
    """The sign-up whose welcome mail is sent again."""

    request_id: str


QuietHours = TypedDict("QuietHours", {"from": str, "until": str})  # "21:00", in its time zone.


class WorkspaceAnswer(TypedDict):
    """What the tenant started with."""

    quiet_hours: QuietHours
    default_role: str
    segments: list[dict[str, Any]]


class DayAnswer(TypedDict):
    """What was counted of the tenant on a day."""

    day: str
    members: int
    customers: int
