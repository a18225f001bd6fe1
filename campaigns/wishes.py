"""What a caller wants of a campaign, before anybody has looked whether it can be."""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson

from campaigns.states import OnUnknown


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowUp:
    """A second message, to those who did not read the first."""

    after: float  # Seconds after the first campaign has come to its end.
    template_id: UUID
    variables: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """A campaign as its caller describes it; pointers of errors are those of these names.

    Either a segment or a filter; either a template, or a brief for a generator that is not
    "template". `time_zone` is the tenant's when it is None.
    """

    name: str
    account_id: UUID
    segment_id: UUID | None = None
    filter: Any | None = None
    template_id: UUID | None = None
    brief: Mapping[str, Any] | None = None
    generator: str = "template"
    variables: Mapping[str, Any] = field(default_factory=dict)
    scheduled_at: datetime | None = None
    send_until: datetime | None = None
    quiet_hours: Mapping[str, str] | None = None  # {"from": "21:00", "until": "08:00"}
    time_zone: str | None = None
    follow_up: FollowUp | None = None
    on_unknown: OnUnknown = OnUnknown.HOLD
    draft: bool = False

    def fingerprint(self) -> bytes:
        """SHA-256 of all of it, whatever the order of its members."""
        said = orjson.dumps(asdict(self), option=orjson.OPT_SORT_KEYS)
        return hashlib.sha256(said).digest()
