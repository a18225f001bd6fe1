"""The catalogue: which types of event there are, and what the data of each looks like.

Some types are Slipway's own (BUILT_IN), some a project's code adds (SLIPWAY["EVENT_TYPES"]), and
the rest are the platform's, put there by the API. A type outside the catalogue may be published
too, with any data, unless SLIPWAY["WEBHOOKS"]["catalogue_only"].
"""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, connections, transaction

from config.problems import FieldError
from tenants import audit
from tenants.context import PLATFORM, PLATFORM_ID, tenant_context
from tenants.expiring import ExpiringMap
from tenants.keys import Proof
from webhooks import schemas
from webhooks.errors import BuiltInType, EventTypeNotFound
from webhooks.models import EventType

BUILT_IN: Mapping[str, str] = {
    "tenant.ready": "The tenant is set up and open.",
    "tenant.closing": "The tenant is closed, and can be reopened until its days of grace are over.",
    "tenant.closed": "The tenant is purged: nothing of it is left.",
    "endpoint.disabled": "An endpoint is told nothing any more: it answered 410, or only failed.",
    "delivery.exhausted": "A delivery is not tried again: it failed too often, or for good.",
    "delivery.recovered": "An endpoint that had failed takes deliveries again.",
    "webhook.test": "Somebody asked to see an event arrive.",
    "campaign.completed": "Each message of a campaign has come to its end.",
    "campaign.failed": "A campaign could not begin: it has no content, or no audience.",
}
# The platform's endpoints hear of these, whichever tenant they happen to. The database holds the
# same: slipway.tell_platform takes no type of another beginning.
PLATFORM_EVENTS = frozenset(
    {"tenant.ready", "endpoint.disabled", "delivery.exhausted", "delivery.recovered"}
)
# Another process goes on with what it remembers of a type for at most this long.
REMEMBERED = 3.0  # Seconds.


@dataclass(frozen=True, slots=True)
class Kind:
    """One version of a type of event."""

    name: str
    version: int
    description: str = ""
    schema: dict[str, Any] | bool | None = None
    created_at: datetime | None = None  # None for those that are in the code.
    archived_at: datetime | None = None


Versions = Mapping[int, Kind]  # Of one type; none: it is not in the catalogue.

_remembered: ExpiringMap[str, Versions] = ExpiringMap(seconds=REMEMBERED, size=10_000)


def built_in() -> dict[str, Kind]:
    """Slipway's own types, which nobody but Slipway publishes or changes."""
    return {name: Kind(name, 1, description) for name, description in BUILT_IN.items()}


def in_code() -> dict[str, Kind]:
    """The types that no row holds: Slipway's own and the project's."""
    added = {
        name: Kind(name, 1, each.get("description", ""), each.get("schema"))
        for name, each in settings.SLIPWAY["EVENT_TYPES"].items()
    }
    return added | built_in()


def platform_events() -> frozenset[str]:
    """The types that the platform's endpoints hear too."""
    return PLATFORM_EVENTS | set(settings.SLIPWAY["PLATFORM_EVENTS"])


def reserved() -> frozenset[str]:
    """The types that only code publishes: who hears one must be able to believe it."""
    return platform_events() | BUILT_IN.keys()


# ---- Looking up, which publishing does ----


def load(names: Collection[str], *, using: str = DEFAULT_DB_ALIAS) -> dict[str, Versions]:
    """Every version of each of these types; asks the database at most once."""
    known: dict[str, Versions] = {
        name: {kind.version: kind} for name, kind in in_code().items() if name in names
    }
    asked: dict[str, dict[int, Kind]] = {}
    for name in set(names) - known.keys():
        remembered = _remembered.get(name)
        if remembered is None:
            asked[name] = {}
        else:
            known[name] = remembered
    if asked:
        for row in EventType.objects.using(using).filter(name__in=list(asked)):
            asked[row.name][row.version] = kind_of(row)
    for name, versions in asked.items():
        _remembered.put(name, versions)
    return known | asked


def judge(
    versions: Versions, *, version: int | None, data: Any
) -> tuple[int | None, list[FieldError]]:
    """The version that an event is of (None: of no catalogued type), and what is wrong with it.

    Pointers are into {"type", "version", "data"}.
    """
    if not versions:
        if version is None and not settings.SLIPWAY["WEBHOOKS"]["catalogue_only"]:
            return None, []
        return None, [FieldError("/type", "unknown_event_type", "It is not in the catalogue.")]
    kind = versions.get(max(versions) if version is None else version)
    if kind is None:
        return None, [FieldError("/version", "unknown_version", "There is no such version.")]
    if kind.archived_at is not None:
        return None, [FieldError("/type", "archived_event_type", "It is published no more.")]
    if kind.schema is None:
        return kind.version, []
    validator = schemas.validator(kind.name, kind.version, orjson.dumps(kind.schema))
    return kind.version, list(schemas.flaws(validator, data, pointer="/data"))


def forget(name: str) -> None:
    """Let this process ask the database for the type again."""
    _remembered.forget(name)


def kind_of(row: EventType) -> Kind:
    return Kind(row.name, row.version, row.description, row.schema, row.created_at, row.archived_at)


# ---- The platform's changes, which the database does for who shows a key ----


def put(*, name: str, description: str, schema: Any, proof: Proof, actor: str) -> tuple[Kind, bool]:
    """Add a type, or the next version of one whose schema is another; says whether it did.

    A type that was archived is published again. Raises BuiltInType, InvalidSchema.
    """
    if name in in_code():
        raise BuiltInType
    schemas.check(schema, pointer="/schema")
    text = None if schema is None else orjson.dumps(schema).decode()
    with _changing() as cursor:
        cursor.execute(
            "select made, version, changed from slipway.platform_put_event_type"
            "(%s, %s, %s, %s, %s::jsonb)",
            [proof.prefix, proof.digest, name, description, text],
        )
        made, version, changed = cursor.fetchone()
        if changed:
            audit.record(
                actor=actor,
                action="event_type.added" if made else "event_type.changed",
                target=f"event_type:{name}",
                tenant_id=PLATFORM_ID,
                after={"version": version},
            )
        found = EventType.objects.get(name=name, version=version)
    forget(name)
    return kind_of(found), made


def archive(*, name: str, proof: Proof, actor: str) -> None:
    """Let a type be published no more; doing it again changes nothing. What was, is delivered.

    Raises BuiltInType, EventTypeNotFound.
    """
    if name in in_code():
        raise BuiltInType
    with _changing() as cursor:
        cursor.execute(
            "select slipway.platform_archive_event_type(%s, %s, %s)",
            [proof.prefix, proof.digest, name],
        )
        (archived,) = cursor.fetchone()
        if archived:
            audit.record(
                actor=actor,
                action="event_type.archived",
                target=f"event_type:{name}",
                tenant_id=PLATFORM_ID,
            )
        elif not EventType.objects.filter(name=name).exists():
            raise EventTypeNotFound
    forget(name)


@contextmanager
def _changing() -> Iterator[Any]:
    """A transaction in the platform's context: the trail of what it does is its own."""
    with (
        tenant_context(PLATFORM),
        transaction.atomic(),
        connections[DEFAULT_DB_ALIAS].cursor() as cursor,
    ):
        yield cursor


# ---- Reading, for everybody ----


def listed(*, after: str | None, limit: int) -> list[Kind]:
    """The latest version of each type, by name, from after the name `after`."""
    rows = EventType.objects.order_by("name", "-version").distinct("name")
    rows = rows.filter(name__gt=after) if after else rows
    added = (kind for kind in in_code().values() if not after or kind.name > after)
    kinds = {row.name: kind_of(row) for row in rows[:limit]} | {kind.name: kind for kind in added}
    return sorted(kinds.values(), key=lambda kind: kind.name)[:limit]


def versions_of(name: str) -> Iterator[Kind]:
    """Every version of a type, newest first."""
    known = in_code().get(name)
    if known is not None:
        yield known
        return
    yield from map(kind_of, EventType.objects.filter(name=name).order_by("-version"))
