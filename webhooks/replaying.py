"""What an owner does about its deliveries: send one again or at once, give up, or all it finds.

Everything runs in the owner's context, as the app role under RLS. An operator does the same through
jobs.services and jobs.replaying.
"""

from collections.abc import Sequence
from uuid import UUID

from django.db import DEFAULT_DB_ALIAS

from jobs import replaying as replays
from jobs import services
from jobs.errors import StaleState
from jobs.models import Replay
from jobs.replaying import Preview, cancel, preview, start
from jobs.selection import Selection
from jobs.states import State
from webhooks.errors import (
    CannotDiscard,
    CannotReplay,
    CannotRetry,
    DeliveryNotFound,
    ReplayEnded,
)
from webhooks.models import Delivery, Endpoint

QUEUE = "deliveries"


def replay(*, delivery_id: UUID, actor: str, reason: str) -> Delivery:
    """Send it again: dead, succeeded or given up. The same row, the same webhook-id.

    Raises DeliveryNotFound, CannotReplay.
    """
    try:
        services.replay_work(
            queue=QUEUE, work_id=delivery_id, actor=actor, reason=reason, using=DEFAULT_DB_ALIAS
        )
    except StaleState:
        raise CannotReplay(_why_not(find(delivery_id))) from None
    return find(delivery_id)


def retry(*, delivery_id: UUID, actor: str, reason: str) -> Delivery:
    """Try it at once, when it was tried and waits for its next time.

    Raises DeliveryNotFound, CannotRetry.
    """
    try:
        services.retry_now(
            queue=QUEUE, work_id=delivery_id, actor=actor, reason=reason, using=DEFAULT_DB_ALIAS
        )
    except StaleState:
        raise CannotRetry(f"It is {find(delivery_id).state}.") from None
    return find(delivery_id)


def discard(*, delivery_id: UUID, actor: str, reason: str) -> Delivery:
    """Give it up, wherever it waits; in an ordered lane, what is behind it goes then.

    Raises DeliveryNotFound, CannotDiscard.
    """
    try:
        services.skip(
            queue=QUEUE, work_id=delivery_id, actor=actor, reason=reason, using=DEFAULT_DB_ALIAS
        )
    except StaleState:
        raise CannotDiscard(f"It is {find(delivery_id).state}.") from None
    return find(delivery_id)


def find(delivery_id: UUID) -> Delivery:
    """One of the owner's. Raises DeliveryNotFound."""
    found = Delivery.objects.select_related("event").filter(pk=delivery_id).first()
    if found is None:
        raise DeliveryNotFound
    return found


def count(*, selection: Selection, action: Replay.Action) -> Preview:
    """What a replay would find; nothing is changed."""
    return preview(selection, action=action, using=DEFAULT_DB_ALIAS)


def begin(*, selection: Selection, action: Replay.Action, actor: str, reason: str) -> Replay:
    """Replay, discard or fill what the selection finds, in the background."""
    return start(
        selection=selection, action=action, actor=actor, reason=reason, using=DEFAULT_DB_ALIAS
    )


def stuck(found: Sequence[Replay]) -> set[UUID]:
    """Which of these nobody goes on with."""
    return replays.stuck(found, using=DEFAULT_DB_ALIAS)


def end(*, found: Replay, actor: str, reason: str) -> None:
    """Do no more of a replay. Raises ReplayEnded."""
    try:
        cancel(replay=found, actor=actor, reason=reason, using=DEFAULT_DB_ALIAS)
    except StaleState:
        raise ReplayEnded from None


def _why_not(delivery: Delivery) -> str:
    if delivery.state not in Delivery.replayable:
        waits = delivery.state in (State.HELD, State.SCHEDULED, State.FAILED, State.PENDING)
        return f"It is {delivery.state}" + (": it will be tried without this." if waits else ".")
    endpoint = Endpoint.objects.filter(pk=delivery.endpoint_id).first()
    if endpoint is None or endpoint.deleted_at is not None:
        return "Its endpoint is deleted."
    if endpoint.disabled_at is not None:
        return "Its endpoint is disabled; enable it first."
    return "What its event says is kept no longer."
