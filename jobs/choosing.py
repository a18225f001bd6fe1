"""How `manage.py replay`, `discard` and their like choose works: the options of every queue.

A queue with options of its own names a class in SLIPWAY["REPLAYS"]; the others have these alone.
"""

from argparse import ArgumentParser
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django.conf import settings
from django.utils.module_loading import import_string

from config.ids import InvalidId, parse_id
from config.moments import utc
from jobs import selection
from jobs.errors import UnknownQueue
from jobs.models import DeadLetter
from jobs.registry import queue as queue_named
from jobs.selection import Selection
from jobs.states import State
from tenants.context import PLATFORM_ID
from tenants.models import Tenant

OPERATOR = "operator"
PLATFORM = "platform"  # How --tenant names the platform's own.


class Choice:
    """The options of any queue. Raises LookupError for what names nothing."""

    prefix = ""  # Of the ids that --id takes; "" where they are bare UUIDs.

    def __init__(self, queue: str) -> None:
        self.queue = queue

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add them to the parser of one queue."""
        parser.add_argument("--tenant", help="Its slug or tnt_… id, or 'platform'; default: all.")
        parser.add_argument("--type", default="", help="Of one type of event, or kind of job.")
        parser.add_argument("--lane", default="", help="Of one lane, such as endpoint:<uuid>.")
        parser.add_argument(
            "--dead-reason", choices=DeadLetter.Reason.values, default="", help="Why it is dead."
        )
        parser.add_argument(
            "--state",
            action="append",
            choices=State.values,
            dest="states",
            metavar="STATE",
            help="These instead of dead ones, of one tenant: succeeded, held …; may be repeated.",
        )
        parser.add_argument("--error", default="", help="Whose last error has these words.")
        parser.add_argument("--since", type=moment, help="Made at this time or later (RFC 3339).")
        parser.add_argument("--until", type=moment, help="Made before this time.")
        parser.add_argument("--id", action="append", dest="ids", default=[], help="One of these.")

    def selections(self, options: Mapping[str, Any]) -> list[Selection]:
        """What the options choose: a selection for each tenant that has any."""
        return [self.of(tenant_id, options) for tenant_id in self._tenants(options)]

    def of(self, tenant_id: int, options: Mapping[str, Any]) -> Selection:
        """What they choose of one tenant."""
        states = [State(state) for state in options["states"] or [State.DEAD_LETTER]]
        if options["type"] and not queue_named(self.queue).model.typed:
            raise LookupError(f"Works of {self.queue} have no type.")
        return Selection(
            queue=self.queue,
            tenant_id=tenant_id,
            states=tuple(states),
            lane=options["lane"],
            type=options["type"],
            reason=options["dead_reason"],
            error=options.get("error", ""),
            since=options["since"],
            until=options["until"],
            ids=tuple(self._id(text) for text in options["ids"]),
        )

    def _tenants(self, options: Mapping[str, Any]) -> list[int]:
        if options["tenant"]:
            return [tenant_named(options["tenant"])]
        if set(options["states"] or [State.DEAD_LETTER]) != {State.DEAD_LETTER}:
            raise LookupError("Of all tenants only dead letters are taken: name one with --tenant.")
        return selection.tenants_of(self.queue)

    def _id(self, text: str) -> UUID:
        try:
            return parse_id(self.prefix, text) if self.prefix else UUID(text)
        except (InvalidId, ValueError):
            raise LookupError(f"{text!r} is no id of {self.queue}.") from None


def choice(queue: str) -> Choice:
    """How to choose in this queue. Raises UnknownQueue."""
    if queue not in settings.SLIPWAY["QUEUES"]:
        raise UnknownQueue(queue)
    path = settings.SLIPWAY["REPLAYS"].get(queue)
    made: Choice = (import_string(path) if path else Choice)(queue)
    return made


def tenant_named(reference: str) -> int:
    """A tenant's number, by slug or id. Raises LookupError."""
    if reference == PLATFORM:
        return PLATFORM_ID
    rows = Tenant.objects.using(OPERATOR)
    try:
        named = {"uuid": parse_id("tnt", reference)}
    except InvalidId:
        rows, named = rows.filter(slug=reference), {}
    found = rows.filter(**named).values_list("pk", flat=True).first()
    if found is None:
        raise LookupError(f"There is no tenant {reference!r}.")
    return int(found)


def moment(text: str) -> datetime:
    """A time as the terminal gives it; without a zone it is UTC. Raises ValueError."""
    read = datetime.fromisoformat(text)
    return utc(read if read.tzinfo else read.replace(tzinfo=UTC))
