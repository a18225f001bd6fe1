"""What a campaign's messages, and those who got none, look like outside."""

from collections.abc import Mapping
from typing import Any, TypedDict

from campaigns.models import Message, Skip
from config.ids import format_id
from config.moments import Moment
from jobs.states import WAITING, State
from webhooks.custom_headers import MASK

# What a message's state is called outside → the states that it stands for.
STATUSES: Mapping[str, tuple[State, ...]] = {
    "queued": (State.PENDING, State.SCHEDULED, State.HELD),
    "sending": (State.PROCESSING,),
    "sent": (State.SUCCEEDED,),
    "retrying": (State.FAILED,),
    "failed": (State.DEAD_LETTER,),
    "unknown": (State.UNKNOWN,),
    "cancelled": (State.CANCELLED, State.DISCARDING, State.DISCARDED),
}
_STATUS_OF = {state: status for status, states in STATUSES.items() for state in states}


class MessageAnswer(TypedDict):
    """A campaign's message to one customer. What is personal is masked without customers:read.

    `status` is queued, sending, sent, retrying, failed, unknown or cancelled. What the provider
    told of it afterwards stands beside: when it was delivered, read, or could not be delivered.
    """

    id: str
    campaign_id: str
    customer_id: str | None
    phone: str
    params: dict[str, Any]
    status: str
    test: bool
    attempts: int
    error: str
    provider_id: str
    next_attempt_at: Moment | None
    created_at: Moment
    sent_at: Moment | None
    delivered_at: Moment | None
    read_at: Moment | None
    undelivered_at: Moment | None
    undelivered_why: str


class SkipAnswer(TypedDict):
    """A customer of the segment who gets no message, and why."""

    id: str
    customer_id: str | None
    reason: str
    detail: str


def message_as_json(message: Message, *, personal: bool = True) -> MessageAnswer:
    """All of it; without what is `personal`, to whom it went and what of them stood in it."""
    customer_id = message.customer_id
    return {
        "id": format_id("msg", message.pk),
        "campaign_id": format_id("cmp", message.campaign_id),
        "customer_id": None if customer_id is None else format_id("cus", customer_id),
        "phone": message.phone if personal else masked_phone(message.phone),
        "params": message.params if personal else dict.fromkeys(message.params, MASK),
        "status": status_of(message.state),
        "test": message.test,
        "attempts": message.attempts,
        "error": message.last_error,
        # An id of WhatsApp's has the number in it.
        "provider_id": message.provider_id if personal or not message.provider_id else MASK,
        "next_attempt_at": message.due_at if message.state in WAITING else None,
        "created_at": message.created_at,
        "sent_at": message.finished_at if message.state == State.SUCCEEDED else None,
        "delivered_at": message.delivered_at,
        "read_at": message.read_at,
        "undelivered_at": message.undelivered_at,
        "undelivered_why": message.undelivered_why,
    }


def skip_as_json(skip: Skip) -> SkipAnswer:
    return {
        "id": format_id("skp", skip.pk),
        "customer_id": None if skip.customer_id is None else format_id("cus", skip.customer_id),
        "reason": skip.reason,
        "detail": skip.detail,
    }


def masked_phone(phone: str) -> str:
    """A number's last two digits: enough to tell one from another beside one's own list."""
    return f"{MASK}{phone[-2:]}" if phone else ""


def status_of(state: str) -> str:
    """What a message's state is called outside."""
    return _STATUS_OF[State(state)]
