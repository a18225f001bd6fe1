"""What a delivery and its attempts look like outside."""

from typing import Any, TypedDict

from config.ids import format_id
from config.moments import Moment
from jobs.models import Attempt, DeadLetter
from jobs.states import WAITING, Priority
from webhooks.exchange import envelope
from webhooks.models import Delivery, Payload

BODY_SHOWN = 16 * 1024  # Bytes of the body in each attempt; GET /v1/events/… has all of it.


class DeliveryAnswer(TypedDict):
    """The telling of one event to one endpoint."""

    id: str
    event_id: str
    event_type: str
    endpoint_id: str
    state: str
    test: bool
    replayed: bool
    attempts: int
    max_attempts: int
    next_attempt_at: Moment | None
    last_error: str
    created_at: Moment
    finished_at: Moment | None


class LetterAnswer(TypedDict):
    """Why a delivery is tried no more, with its last request and response."""

    reason: str
    error: str
    request: dict[str, Any] | None
    response: dict[str, Any] | None
    created_at: Moment


class OneDeliveryAnswer(DeliveryAnswer):
    """A delivery, with its dead letter while that is open."""

    dead_letter: LetterAnswer | None


class AttemptAnswer(TypedDict):
    """One try. Signatures and the endpoint's own headers are redacted; long bodies are cut."""

    id: str
    number: int
    outcome: str
    error: str
    started_at: Moment
    duration_ms: int | None
    request: dict[str, Any] | None
    response: dict[str, Any] | None


def delivery_as_json(delivery: Delivery) -> DeliveryAnswer:
    """Its event comes with it."""
    return {
        "id": format_id("dlv", delivery.pk),
        "event_id": format_id("evt", delivery.event_id),
        "event_type": delivery.event.type,
        "endpoint_id": format_id("ep", delivery.endpoint_id),
        "state": delivery.state,
        "test": delivery.test,
        "replayed": delivery.priority == Priority.REPLAY,
        "attempts": delivery.attempts,
        "max_attempts": delivery.max_attempts,
        "next_attempt_at": delivery.due_at if delivery.state in WAITING else None,
        "last_error": delivery.last_error,
        "created_at": delivery.created_at,
        "finished_at": delivery.finished_at,
    }


def letter_as_json(letter: DeadLetter) -> LetterAnswer:
    return {
        "reason": letter.reason,
        "error": letter.error,
        "request": letter.request,
        "response": letter.response,
        "created_at": letter.created_at,
    }


def attempt_as_json(attempt: Attempt, body: bytes | None) -> AttemptAnswer:
    """`body` is what the delivery sends on each try; None where that is kept no longer."""
    request = None
    if attempt.request is not None:
        request = {**attempt.request, **_shown(body)}
    return {
        "id": format_id("att", attempt.pk),
        "number": attempt.number,
        "outcome": attempt.outcome,
        "error": attempt.error,
        "started_at": attempt.started_at,
        "duration_ms": attempt.duration_ms,
        "request": request,
        "response": attempt.response,
    }


def body_of(delivery: Delivery) -> bytes | None:
    """What each try of a delivery sends, put together from its event; None where that is gone."""
    event = delivery.event
    rows = Payload.objects.filter(event_id=event.pk, created_at=event.created_at)
    said = event.kept_payload or rows.values_list("data", flat=True).first()
    if said is None:
        return None
    return envelope({"type": event.type, "happened_at": event.created_at, "payload": said})


def _shown(body: bytes | None) -> dict[str, Any]:
    if body is None:
        return {"body": None, "body_truncated": False}
    cut = len(body) > BODY_SHOWN
    return {"body": body[:BODY_SHOWN].decode(errors="ignore"), "body_truncated": cut}
