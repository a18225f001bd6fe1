"""What was published before its endpoint was there: `manage.py backfill events`."""

from argparse import ArgumentParser
from collections.abc import Iterator, Mapping
from typing import Any

from jobs import replaying
from jobs.choosing import OPERATOR, moment
from jobs.models import Replay
from jobs.selection import Selection
from webhooks.choosing import Deliveries


class Events:
    """The backfill `events`: the deliveries that a new endpoint would have had since a time."""

    help = "Tell an endpoint of the events that were published before it was there."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--endpoint", required=True, help="Which one: ep_…")
        parser.add_argument("--since", required=True, type=moment, help="RFC 3339; or a date.")
        parser.add_argument("--until", type=moment, help="Published before this time.")
        parser.add_argument("--type", default="", help="Of one type of event.")

    def find(self, options: Mapping[str, Any]) -> list[Any]:
        """The deliveries to make. Raises LookupError when there is no such endpoint."""
        (selection,) = self._selections(options)
        missing = replaying.preview(selection, action=Replay.Action.MISSING, using=OPERATOR, size=0)
        return [selection] * missing.count

    def fill(self, found: list[Any], options: Mapping[str, Any], *, actor: str) -> Iterator[str]:
        """Hand them over to one job; yields a word for each."""
        if found:
            replaying.start(
                selection=found[0],
                action=Replay.Action.MISSING,
                actor=actor,
                reason=options["reason"],
                using=OPERATOR,
            )
        for selection in found:
            yield selection.lane

    def _selections(self, options: Mapping[str, Any]) -> list[Selection]:
        unasked: dict[str, Any] = {
            "tenant": None,
            "states": None,
            "lane": "",
            "dead_reason": "",
            "ids": [],
        }
        return Deliveries("deliveries").selections({**unasked, **options, "missing": True})
