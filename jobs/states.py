"""Where a work stands, and the moves between."""

from django.db import models


class State(models.TextChoices):
    """Where a work stands. docs/states.md draws it; a test holds the two together."""

    SCHEDULED = "scheduled"  # Not due yet. The promoter moves it to PENDING at due_at.
    PENDING = "pending"  # May run now; a drainer with a free slot claims it.
    PROCESSING = (
        "processing"  # Claimed. Only its lease's holder moves it on, or rescue from the dead.
    )
    HELD = "held"  # Its lane is shut: a disabled endpoint's. Waits for somebody to open it.
    FAILED = "failed"  # The last try failed; the promoter moves it to PENDING at due_at.
    SUCCEEDED = "succeeded"  # Done.
    DEAD_LETTER = "dead_letter"  # Out of attempts, or failed for good. Waits for an operator.
    DISCARDING = "discarding"  # It was given up; what it made is being undone, under a lease too.
    DISCARDED = "discarded"  # Given up, undone, with a reason in the audit trail.
    CANCELLED = "cancelled"  # Withdrawn before it was done.
    UNKNOWN = "unknown"  # Done or not: nobody can tell. Only in queues whose model says so.


# Each move, and who makes it.
TRANSITIONS = frozenset(
    {
        (State.SCHEDULED, State.PENDING),  # promoter, at due_at; services.retry_now, of the tried
        (State.FAILED, State.PENDING),  # promoter, at due_at; services.retry_now
        (State.PENDING, State.PROCESSING),  # claim
        (State.PROCESSING, State.SUCCEEDED),  # settle
        (State.PROCESSING, State.FAILED),  # settle: to be tried again
        (State.PROCESSING, State.DEAD_LETTER),  # settle; rescue, after three losses in a row
        (State.PROCESSING, State.SCHEDULED),  # settle: snoozed
        (State.PROCESSING, State.PENDING),  # handed back unstarted; throttled; rescue
        (State.PROCESSING, State.CANCELLED),  # settle: its step found that nobody wants it any more
        (State.PROCESSING, State.UNKNOWN),  # settle; rescue of what must not happen twice
        (State.PENDING, State.UNKNOWN),  # jobs.restoring: of a restored past; below too
        (State.SCHEDULED, State.UNKNOWN),
        (State.FAILED, State.UNKNOWN),
        (State.UNKNOWN, State.SUCCEEDED),  # told afterwards that it was done
        (State.UNKNOWN, State.FAILED),  # told afterwards that it was not
        (State.UNKNOWN, State.PENDING),  # the queue's policy, or an operator: try again
        (State.UNKNOWN, State.DEAD_LETTER),  # told afterwards that it failed for good
        (State.DEAD_LETTER, State.PENDING),  # services.replay
        (
            State.SUCCEEDED,
            State.PENDING,
        ),  # services.replay, where Work.replayable says so; below too
        (State.DISCARDED, State.PENDING),
        (State.CANCELLED, State.PENDING),
        (State.DEAD_LETTER, State.DISCARDING),  # services.discard
        (State.SCHEDULED, State.DISCARDING),  # services.cancel of what was begun, here and below
        (State.PENDING, State.DISCARDING),
        (State.FAILED, State.DISCARDING),
        (State.UNKNOWN, State.DISCARDING),
        (State.DISCARDING, State.DISCARDED),  # settle: undone
        (State.DISCARDING, State.DEAD_LETTER),  # settle: undoing ran out of attempts
        (State.SCHEDULED, State.HELD),  # shutting.hold: its lane was shut, here and below
        (State.PENDING, State.HELD),
        (State.FAILED, State.HELD),
        (State.HELD, State.PENDING),  # shutting.release: its lane is open again
        (State.HELD, State.DEAD_LETTER),  # more is held than a lane keeps: the oldest
        (State.HELD, State.DISCARDING),  # services.cancel of what was begun
        (State.HELD, State.CANCELLED),  # services.cancel
        (State.SCHEDULED, State.CANCELLED),  # services.cancel
        (State.PENDING, State.CANCELLED),  # services.cancel
        (State.FAILED, State.CANCELLED),  # services.cancel
        (State.DEAD_LETTER, State.CANCELLED),  # services.cancel
        (State.UNKNOWN, State.CANCELLED),  # services.cancel
    }
)

WAITING = (State.SCHEDULED, State.FAILED)
LEASED = (State.PROCESSING, State.DISCARDING)  # States in which a lease may be held.
FINISHED = (State.SUCCEEDED, State.DISCARDED, State.CANCELLED)
CANCELLABLE = tuple(
    start
    for start, end in sorted(TRANSITIONS)
    if end == State.CANCELLED and start not in LEASED  # Those their drainer alone can cancel.
)


class Priority(models.IntegerChoices):
    """Which works of a lane go first: the lower number."""

    FIRST = 0  # A first try.
    RETRY = 1
    REPLAY = 2  # In bulk, and long overdue anyway.
