"""What the public is told of a sign-up. docs/states.md draws it beside the engine's own states.

An end user never sees attempts, queues or dead letters: a sign-up that waits for an operator is
`provisioning`, and `delayed`, like one that waits for a slow mail server.
"""

from datetime import datetime, timedelta

from django.db import models

from jobs.states import State

DELAYED_AFTER = timedelta(seconds=30)  # Ready takes well under a second; this is honestly late.


class Progress(models.TextChoices):
    """Where a sign-up stands, in public."""

    PENDING = "pending"  # Taken in; nothing was tried yet.
    PROVISIONING = "provisioning"  # Being built, retried, or waiting for an operator.
    READY = "ready"  # The tenant is active. Never left again.
    CANCELLED = "cancelled"  # Given up; the address is free, or will be when the undoing is done.


class StepState(models.TextChoices):
    """Where one step of a sign-up stands, in public."""

    WAITING = "waiting"  # Comes after one that is not done.
    RUNNING = "running"  # The first that is not done, of a sign-up under way.
    DONE = "done"  # Recorded in the ledger.


_GIVEN_UP = frozenset({State.CANCELLED, State.DISCARDING, State.DISCARDED})


def progress(state: str, *, begun: bool) -> Progress:
    """The public word for the engine's state; `begun` says that a try was made, or a step done."""
    if state == State.SUCCEEDED:
        return Progress.READY
    if state in _GIVEN_UP:
        return Progress.CANCELLED
    if state == State.PENDING and not begun:
        return Progress.PENDING
    return Progress.PROVISIONING


def is_delayed(
    progress: Progress, state: str, *, attempts: int, created_at: datetime, now: datetime
) -> bool:
    """Whether an honest page says "this takes longer than usual"."""
    if progress not in {Progress.PENDING, Progress.PROVISIONING}:
        return False
    failed_before = attempts > 1 or state in {State.FAILED, State.DEAD_LETTER}
    return failed_before or now - created_at > DELAYED_AFTER
