"""What became of each customer that a campaign was for, as a file: read page by page.

As the app role, in the tenant's context, which is entered for each page and for nothing between
them. Every cell is neutral (config.spreadsheets).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from uuid import UUID

from campaigns.models import Message, Skip
from campaigns.serializers.messages import masked_phone, status_of
from config.ids import format_id
from config.spreadsheets import as_csv
from customers.models import Customer
from jobs.states import State
from tenants.context import TenantRef, tenant_context

COLUMNS = (
    "phone",
    "customer_id",
    "external_id",
    "status",
    "error",
    "attempts",
    "sent_at",
    "delivered_at",
    "read_at",
    "undelivered_at",
)
_AT_ONCE = 1000
_FIRST = UUID(int=0)


def rows_as_csv(tenant: TenantRef, campaign_id: UUID, *, personal: bool = True) -> Iterator[bytes]:
    """The whole file: messages in the order in which they were made, then who got none.

    Numbers are masked where it is not to be `personal`.
    """
    yield as_csv([COLUMNS])
    for read in (partial(_messages, personal=personal), _skips):
        place: UUID | None = _FIRST
        while place is not None:
            with tenant_context(tenant):
                rows, place = read(campaign_id, place)
            if rows:
                yield as_csv(rows)


Rows = tuple[list[Sequence[str]], UUID | None]


def _messages(campaign_id: UUID, after: UUID, *, personal: bool) -> Rows:
    """A page of them behind a place, and where the next begins; None at the end. No tests."""
    found = list(
        Message.objects.filter(campaign_id=campaign_id, pk__gt=after).order_by("id")[:_AT_ONCE]
    )
    known = _external_ids(message.customer_id for message in found)
    rows: list[Sequence[str]] = [
        _message(message, known, personal) for message in found if not message.test
    ]
    return rows, found[-1].pk if len(found) == _AT_ONCE else None


def _skips(campaign_id: UUID, after: UUID) -> Rows:
    found = list(
        Skip.objects.filter(campaign_id=campaign_id, pk__gt=after).order_by("id")[:_AT_ONCE]
    )
    known = _external_ids(skip.customer_id for skip in found)
    rows: list[Sequence[str]] = [
        (
            "",
            *_customer(skip.customer_id, known),
            "skipped",
            f"{skip.reason}: {skip.detail}" if skip.detail else skip.reason,
            "0",
            *[""] * 4,
        )
        for skip in found
    ]
    return rows, found[-1].pk if len(found) == _AT_ONCE else None


def _message(message: Message, known: Mapping[UUID, str], personal: bool) -> Sequence[str]:
    is_sent = message.state == State.SUCCEEDED
    return (
        message.phone if personal else masked_phone(message.phone),
        *_customer(message.customer_id, known),
        status_of(message.state),
        _error(message),
        str(message.attempts),
        _moment(message.finished_at if is_sent else None),
        _moment(message.delivered_at),
        _moment(message.read_at),
        _moment(message.undelivered_at),
    )


def _error(message: Message) -> str:
    if message.undelivered_at is not None:
        return message.undelivered_why
    # What was sent in the end may have failed before.
    return "" if message.state == State.SUCCEEDED else message.last_error


def _customer(customer_id: UUID | None, known: Mapping[UUID, str]) -> tuple[str, str]:
    if customer_id is None:
        return "", ""
    return format_id("cus", customer_id), known.get(customer_id, "")


def _external_ids(ids: Iterable[UUID | None]) -> dict[UUID, str]:
    """What the tenant calls these customers, those that it has a name for."""
    rows = Customer.objects.filter(pk__in=[id for id in ids if id is not None])
    return {id: name for id, name in rows.values_list("pk", "external_id") if name}


def _moment(moment: datetime | None) -> str:
    return "" if moment is None else moment.isoformat(timespec="milliseconds")
