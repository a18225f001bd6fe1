"""How far a campaign is: its counters, and what follows from them.

The counters are kept by the transactions that move the messages (Message.tally), so that nothing is
counted here. Tests are in none of them.
"""

import math
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import TypedDict
from uuid import UUID

from campaigns.models import Campaign
from campaigns.states import CampaignState
from config.moments import Moment

LONGEST_ESTIMATE = timedelta(days=365)


class CountsAnswer(TypedDict):
    """A campaign's messages by what became of them. All but the last three add up to `total`.

    `skipped` customers of the segment got no message. `delivered`, `read` and `undelivered` are of
    the sent ones, by the provider's word.
    """

    total: int
    skipped: int
    remaining: int
    sent: int
    failed: int
    unknown: int
    cancelled: int
    delivered: int
    read: int
    undelivered: int


class ProgressAnswer(TypedDict):
    """How far a campaign is.

    `progress` is the part of its messages that have come to their end, null until all of them are
    made. `rate` is how many do so each second; both it and the estimate are null unless it sends.
    """

    state: str
    reason: str
    counts: CountsAnswer
    progress: float | None
    rate: float | None
    estimated_finish_at: Moment | None
    finished_at: Moment | None


@dataclass(frozen=True, slots=True)
class Standing:
    """What a campaign's row says of how far it is."""

    id: UUID
    state: str
    reason: str
    total: int
    skipped: int
    sent: int
    failed: int
    unknown: int
    cancelled: int
    delivered: int
    read: int
    undelivered: int
    materialised_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None

    @classmethod
    def of(cls, campaign: Campaign) -> "Standing":
        return cls(*(getattr(campaign, name) for name in COLUMNS))

    @property
    def done(self) -> int:
        """Messages that have come to their end."""
        return self.sent + self.failed + self.unknown + self.cancelled

    @property
    def remaining(self) -> int:
        return max(0, self.total - self.done)

    @property
    def part(self) -> float | None:
        """How much of it is done, from 0 to 1."""
        if self.materialised_at is None:
            return None
        return round(min(1.0, self.done / self.total), 4) if self.total else 1.0

    def average(self, now: datetime) -> float | None:
        """Messages a second since it started; None unless it sends."""
        if self.state != CampaignState.RUNNING or self.started_at is None or not self.done:
            return None
        return significant(self.done / max(1.0, (now - self.started_at).total_seconds()))

    def estimate(self, rate: float | None, now: datetime) -> datetime | None:
        """When the last message goes out at this rate; None when that cannot be told."""
        if not rate or self.part is None or not self.remaining:
            return None
        left = timedelta(seconds=math.ceil(self.remaining / rate))
        return None if left > LONGEST_ESTIMATE else (now + left).replace(microsecond=0)


COLUMNS = tuple(field.name for field in fields(Standing))


def progress_as_json(standing: Standing, rate: float | None, now: datetime) -> ProgressAnswer:
    """`rate` is in messages a second."""
    return {
        "state": standing.state,
        "reason": standing.reason,
        "counts": {
            "total": standing.total,
            "skipped": standing.skipped,
            "remaining": standing.remaining,
            "sent": standing.sent,
            "failed": standing.failed,
            "unknown": standing.unknown,
            "cancelled": standing.cancelled,
            "delivered": standing.delivered,
            "read": standing.read,
            "undelivered": standing.undelivered,
        },
        "progress": standing.part,
        "rate": rate,
        "estimated_finish_at": standing.estimate(rate, now),
        "finished_at": standing.finished_at,
    }


def significant(number: float, digits: int = 3) -> float:
    """The number with so many significant digits."""
    return float(f"{number:.{digits}g}")
