"""Events are published here, and nowhere else."""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson
from django.db import DEFAULT_DB_ALIAS, connections, transaction
from django.db.models import Count
from django.db.transaction import TransactionManagementError

from config.ids import uuid7
from config.problems import FieldError
from jobs.services import wake_after_commit
from tenants.context import PLATFORM_ID
from webhooks import catalogue, fan_out
from webhooks.errors import EventTooLarge, IdempotencyConflict, InvalidEvent
from webhooks.fan_out import Chunk, Row
from webhooks.models import Delivery, Event

DATA_LIMIT = 256 * 1024  # Bytes of JSON.
TYPE_LIMIT = 100  # Characters.
MOST_ERRORS = 100  # Told of one call.
QUEUE = "deliveries"
TOO_LONG = "data_too_long"

TYPE = re.compile(r"[a-zA-Z0-9_]+(\.[a-zA-Z0-9_]+)*")
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")


@dataclass(frozen=True, slots=True)
class NewEvent:
    """Something that happened, to be published."""

    type: str
    payload: Mapping[str, Any]
    idempotency_key: str | None = None
    version: int | None = None  # Of its type in the catalogue; None is the latest.
    batch: int = 1  # How many were sent under one key: with another number it is no repetition.


@dataclass(frozen=True, slots=True)
class Published:
    """An event, and how many endpoints are told of it."""

    event: Event
    deliveries: int
    replayed: bool = False


def publish(
    *,
    tenant_id: int,
    type: str,
    payload: Mapping[str, Any],
    idempotency_key: str | None = None,
    version: int | None = None,
    using: str = DEFAULT_DB_ALIAS,
) -> Event | None:
    """Write an event in the caller's transaction: it happened if, and only if, the deed did.

    Its deliveries are written with it, one for each endpoint of the tenant's that listens; and, for
    catalogue.platform_events(), the platform's event and deliveries.
    Returns None when this tenant's `idempotency_key` was published before.
    Raises InvalidEvent with every error, EventTooLarge; TransactionManagementError outside a
    transaction, where a deed without its event could commit.
    """
    event = NewEvent(type, payload, idempotency_key, version)
    [published] = _publish([event], tenant_id=tenant_id, using=using, places=[""])
    return published.event if published else None


def publish_many(
    *, tenant_id: int, events: Sequence[NewEvent], using: str = DEFAULT_DB_ALIAS
) -> list[Event | None]:
    """As `publish`, thousands at a time: all or none.

    Of more than fan_out.UNCOUNTED events it asks how many endpoints there are, and then writes with
    each statement at most 2,000 events, and about 5,000 deliveries.
    Endpoints that want them in order get them in the order given. None stands in the place of an
    event whose key was published before. Errors point into the sequence: "/events/3/data".
    """
    places = [f"/events/{index}" for index in range(len(events))]
    published = _publish(events, tenant_id=tenant_id, using=using, places=places)
    return [each.event if each else None for each in published]


def accept(*, tenant_id: int, events: Sequence[NewEvent], places: Sequence[str]) -> list[Published]:
    """Publish what a caller of the API sent, all or none; a repetition is answered as before.

    `places` are where the errors of each event point to. Raises what `publish` does, and
    IdempotencyConflict for a key that was used for something else.
    """
    _refuse_reserved(events, places=places)
    with transaction.atomic():
        published = _publish(events, tenant_id=tenant_id, using=DEFAULT_DB_ALIAS, places=places)
        if all(published):
            return [each for each in published if each]
        if any(published):  # The half of a batch under the key of another.
            raise IdempotencyConflict
        return _replay(events, tenant_id=tenant_id)


def _publish(
    events: Sequence[NewEvent], *, tenant_id: int, using: str, places: Sequence[str]
) -> list[Published | None]:
    if not connections[using].in_atomic_block:
        raise TransactionManagementError(
            "Publish in the transaction of the deed: transaction.atomic()."
        )
    rows = _rows(events, using=using, places=places)
    published: list[Published | None] = []
    for chunk in fan_out.chunks(rows, tenant_id=tenant_id, using=using):
        published += _write(chunk, tenant_id=tenant_id, using=using)
    return published


def _write(chunk: Chunk, *, tenant_id: int, using: str) -> list[Published | None]:
    written = fan_out.fan_out(chunk, tenant_id=tenant_id, using=using)
    if any(each.deliveries for each in written.values()):
        wake_after_commit(QUEUE, tenant_id=tenant_id, using=using)
    if tenant_id != PLATFORM_ID:
        _tell_platform([row for row in chunk.rows if row.id in written], using=using)
    return [
        Published(_event(row, tenant_id, written[row.id]), written[row.id].deliveries)
        if row.id in written
        else None
        for row in chunk.rows
    ]


def _tell_platform(rows: Sequence[Row], *, using: str) -> None:
    """The platform's own event of each that is its business: another id, since another's row."""
    listening = catalogue.platform_events()
    rows = [replace(row, id=uuid7()) for row in rows if row.type in listening]
    if rows and fan_out.tell_platform(rows, using=using):
        wake_after_commit(QUEUE, tenant_id=PLATFORM_ID, using=using)


def _event(row: Row, tenant_id: int, written: fan_out.Written) -> Event:
    return Event(
        id=row.id,
        tenant_id=tenant_id,
        type=row.type,
        version=row.version,
        idempotency_key=row.key,
        fingerprint=row.fingerprint,
        created_at=written.created_at,
    )


def _replay(events: Sequence[NewEvent], *, tenant_id: int) -> list[Published]:
    """What was published with these keys. Raises IdempotencyConflict when it is something else.

    Statements of their own: the insert's snapshot cannot see the rows that won.
    """
    keys = [event.idempotency_key for event in events]
    rows = Event.objects.filter(tenant_id=tenant_id, idempotency_key__in=keys)
    found = {row.idempotency_key: row for row in rows}
    told = dict(
        Delivery.objects.filter(tenant_id=tenant_id, event__in=[row.pk for row in found.values()])
        .values_list("event")
        .annotate(Count("id"))
    )
    replayed = []
    for event in events:
        row = found.get(event.idempotency_key)
        if row is None or row.fingerprint != _fingerprint(event):
            raise IdempotencyConflict
        replayed.append(Published(row, told.get(row.pk, 0), replayed=True))
    return replayed


# ---- What may be published ----


def _rows(events: Sequence[NewEvent], *, using: str, places: Sequence[str]) -> list[Row]:
    """Raises InvalidEvent with every event's errors, EventTooLarge."""
    known = catalogue.load({event.type for event in events}, using=using)
    rows, errors = [], []
    for event, place in zip(events, places, strict=True):
        data = _encoded(event.payload)
        flaws = list(_flaws(event, data))
        version = None
        if not flaws:
            version, flaws = catalogue.judge(
                known[event.type], version=event.version, data=orjson.loads(data)
            )
        errors += [error._replace(pointer=f"{place}{error.pointer}") for error in flaws]
        fingerprint = _fingerprint(event) if event.idempotency_key and not flaws else ""
        rows.append(
            Row(uuid7(), event.type, version, event.idempotency_key, fingerprint, data.decode())
        )
    if errors:
        too_large = any(error.code == TOO_LONG for error in errors)
        raise (EventTooLarge if too_large else InvalidEvent)(errors=errors[:MOST_ERRORS])
    return rows


def _encoded(payload: Mapping[str, Any]) -> bytes:
    """The data as JSON, empty when it cannot be said in JSON."""
    try:
        return orjson.dumps(dict(payload))
    except (TypeError, ValueError):  # orjson.JSONEncodeError is a TypeError.
        return b""


def _flaws(event: NewEvent, data: bytes) -> Iterator[FieldError]:
    if len(event.type) > TYPE_LIMIT:
        yield FieldError("/type", "too_long", f"At most {TYPE_LIMIT} characters.")
    elif not TYPE.fullmatch(event.type):
        message = "Use words of letters, digits and _, with dots between."
        yield FieldError("/type", "invalid_format", message)
    if not data:
        yield FieldError("/data", "not_json", "It cannot be written as JSON.")
    elif len(data) > DATA_LIMIT:
        yield FieldError("/data", TOO_LONG, f"At most {DATA_LIMIT} bytes of JSON.")
    elif _NUL.search(data):
        # Receivers that keep it in a database cannot.
        yield FieldError("/data", "control_character", "It has NUL in it.")


def _refuse_reserved(events: Sequence[NewEvent], *, places: Sequence[str]) -> None:
    """Raises InvalidEvent for types that only code publishes."""
    reserved = catalogue.reserved()
    errors = [
        FieldError(f"{place}/type", "reserved_event_type", "Only Slipway publishes this type.")
        for event, place in zip(events, places, strict=True)
        if event.type in reserved
    ]
    if errors:
        raise InvalidEvent(errors=errors[:MOST_ERRORS])


def _fingerprint(event: NewEvent) -> str:
    """SHA-256 of what makes a repetition, whatever the order of the data's members."""
    said = [event.type, event.version, dict(event.payload), event.batch]
    return hashlib.sha256(orjson.dumps(said, option=orjson.OPT_SORT_KEYS)).hexdigest()
