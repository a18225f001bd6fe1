"""Where a campaign stands, and the moves between."""

from django.db import models


class CampaignState(models.TextChoices):
    """Where a campaign stands. docs/campaigns.md draws it; a test holds the two together."""

    DRAFT = "draft"  # Nothing happens until it is launched.
    SCHEDULED = "scheduled"  # Begins at scheduled_at.
    MATERIALISING = "materialising"  # Content is generated, then each recipient gets a message.
    RUNNING = "running"  # Messages go out.
    PAUSED = "paused"  # None does. What is under way comes to its end.
    COMPLETED = "completed"  # Each message has come to its end.
    CANCELLED = "cancelled"  # What had not been sent never will be.
    FAILED = "failed"  # It never began: no content, or no audience could be made.


S = CampaignState

# Each move, and who makes it.
TRANSITIONS = frozenset(
    {
        (S.DRAFT, S.SCHEDULED),  # launched, for later
        (S.DRAFT, S.MATERIALISING),  # launched
        (S.SCHEDULED, S.MATERIALISING),  # its time has come
        (S.SCHEDULED, S.DRAFT),  # taken back
        (S.MATERIALISING, S.RUNNING),  # everybody has a message
        (S.MATERIALISING, S.PAUSED),
        (S.MATERIALISING, S.COMPLETED),  # nobody is to be written to
        (S.MATERIALISING, S.FAILED),
        (S.RUNNING, S.PAUSED),
        (S.RUNNING, S.COMPLETED),  # nothing remains
        (S.PAUSED, S.MATERIALISING),  # resumed before it was materialised
        (S.PAUSED, S.RUNNING),  # resumed
        (S.PAUSED, S.COMPLETED),  # what was under way was the last
        (S.PAUSED, S.FAILED),  # while it was being prepared
        (S.COMPLETED, S.RUNNING),  # what failed, or nobody knows of, is tried again
        (S.FAILED, S.MATERIALISING),  # generated again
        (S.DRAFT, S.CANCELLED),
        (S.SCHEDULED, S.CANCELLED),
        (S.MATERIALISING, S.CANCELLED),
        (S.RUNNING, S.CANCELLED),
        (S.PAUSED, S.CANCELLED),
        (S.FAILED, S.CANCELLED),
    }
)

CANCELLABLE = tuple(start for start, end in sorted(TRANSITIONS) if end == S.CANCELLED)
FINISHED = (S.COMPLETED, S.CANCELLED)


class AccountStatus(models.TextChoices):
    """Whether messages go through a provider account."""

    ACTIVE = "active"
    PAUSED = "paused"  # By its tenant; or its provider refused it, or was away for long.


class OnUnknown(models.TextChoices):
    """What becomes of messages of which nobody can tell whether they were sent."""

    HOLD = "hold"  # They stay unknown until the provider tells, or somebody decides: never twice.
    RETRY = "retry"  # They are sent again after a while: perhaps twice.
