"""What `manage.py replay deliveries` and `discard deliveries` take besides (jobs.choosing)."""

from argparse import ArgumentParser
from collections.abc import Mapping
from typing import Any, cast

from config.ids import InvalidId, parse_id
from jobs.choosing import OPERATOR, Choice
from jobs.selection import Selection
from webhooks.models import Endpoint


class Deliveries(Choice):
    """Deliveries are also chosen by endpoint; what is missing, by time."""

    prefix = "dlv"

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--endpoint", help="To one endpoint: ep_…")
        parser.add_argument(
            "--missing",
            action="store_true",
            help="Replay: make the deliveries that should be there and are not. Needs --since.",
        )

    def selections(self, options: Mapping[str, Any]) -> list[Selection]:
        options = dict(options)
        if options["endpoint"]:
            owner, options["lane"] = _lane(options["endpoint"])
            if not options["tenant"]:
                return [self.of(owner, options)]
        if not options["missing"]:
            return super().selections(options)
        if not options["since"] or not (options["tenant"] or options["endpoint"]):
            raise LookupError("--missing needs --since, and --tenant or --endpoint.")
        return super().selections(options)


def _lane(text: str) -> tuple[int, str]:
    """Whose the endpoint is, and its lane. Raises LookupError."""
    try:
        found = Endpoint.objects.using(OPERATOR).filter(pk=parse_id("ep", text)).first()
    except InvalidId:
        found = None
    if found is None:
        raise LookupError(f"There is no endpoint {text!r}.")
    return cast("int", found.tenant_id), found.lane
