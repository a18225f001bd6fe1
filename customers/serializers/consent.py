"""What the log of consent and the list of suppressed numbers look like outside."""

from collections.abc import Iterator
from typing import Annotated, Any, TypedDict

import msgspec
from msgspec import Meta

from config.moments import Moment
from config.problems import FieldError
from customers.models import ConsentChange, Suppression
from customers.phones import InvalidPhone, normalise
from customers.serializers.customers import PHONE_FLAW, Phone

PHONES_MOST = 1000


class ConsentAnswer(TypedDict):
    """A change of a customer's consent: when, and by whose word."""

    before: str
    after: str
    source: str
    reason: str
    at: Moment


class SuppressionAnswer(TypedDict):
    """A number that no campaign writes to, and why."""

    phone: str
    reason: str
    actor: str
    created_at: Moment


class SuppressionsWish(msgspec.Struct, forbid_unknown_fields=True):
    """The body of POST: numbers with their country codes."""

    phones: Annotated[list[Phone], Meta(min_length=1, max_length=PHONES_MOST)]

    @staticmethod
    def flaws(read: Any) -> Iterator[FieldError]:
        """What the types cannot say."""
        if not isinstance(read.phones, list):
            return
        for index, phone in enumerate(read.phones):
            try:
                normalise(phone)
            except InvalidPhone:
                yield FieldError(f"/phones/{index}", *PHONE_FLAW)


class SuppressedAnswer(TypedDict):
    """How many numbers were put on the list, and how many were on it before."""

    added: int
    known: int


def consent_as_json(change: ConsentChange) -> ConsentAnswer:
    return {
        "before": change.before,
        "after": change.after,
        "source": change.source,
        "reason": change.reason,
        "at": change.at,
    }


def suppression_as_json(found: Suppression) -> SuppressionAnswer:
    return {
        "phone": found.phone,
        "reason": found.reason,
        "actor": found.actor,
        "created_at": found.created_at,
    }
