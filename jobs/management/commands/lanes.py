"""manage.py lanes: what operators say about lanes from a terminal, by the console's services."""

import json
import math
from argparse import ArgumentParser, ArgumentTypeError
from datetime import UTC, datetime, timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connections
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone

from config.terminal import ShowsExamples, actor, printable
from jobs import lanes, registry
from jobs.choosing import PLATFORM, moment, tenant_named
from jobs.errors import PaceRefused, ReasonMissing
from jobs.models import Lane
from jobs.services import OPERATOR
from tenants.context import PLATFORM_ID
from tenants.models import Tenant

FOR_GOOD = datetime(9999, 12, 31, tzinfo=UTC)  # What Python can read, unlike infinity.
NONE = "none"
SHOWN = (
    *("paused_until", "paused_why", "window", "rate"),
    *("operator_paused_until", "operator_why", "operator_window", "operator_rate"),
    *("learnt_window", "learnt_rate", "failures", "trips", "failing_since", "opened_until"),
)
_HELD = Q(paused_until__gt=Now()) | Q(operator_paused_until__gt=Now())
# By each queue's own partial indexes.
_WORKS = """
select count(*) filter (where state = 'pending'), count(*) filter (where state = 'processing')
from {table} where tenant_id = %s and lane = %s and state in ('pending', 'processing')
"""


class Command(ShowsExamples, BaseCommand):
    """What is under way comes to its end, whatever is said."""

    help = "List and show lanes; pause and resume them, set their window and rate."
    examples = """
  manage.py lanes list --paused
  manage.py lanes show endpoint:018f… --tenant acme
  manage.py lanes pause endpoint:018f… --tenant acme --for 4 --reason "their gateway is down"
  manage.py lanes resume endpoint:018f… --tenant acme --reason "it is back"
  manage.py lanes window account:018f… 10 --tenant acme --reason "they asked for it"
  manage.py lanes rate account:018f… none --tenant acme --reason "as declared again"
"""

    def add_arguments(self, parser: CommandParser) -> None:
        acts = parser.add_subparsers(dest="act", required=True, metavar="ACT")
        listing = acts.add_parser("list", help="Lanes of which there is something to say.")
        listing.add_argument("--tenant", help="Its slug or tnt_… id, or 'platform'; default: all.")
        listing.add_argument("--paused", action="store_true", help="Those that are held back.")
        listing.add_argument("--failing", action="store_true", help="Those that only fail.")
        listing.add_argument("--limit", type=int, default=50, help="How many, at most (50).")
        _named(acts.add_parser("show", help="One lane, and what waits in it."))
        pausing = _changing(acts.add_parser("pause", help="Begin nothing more of it for now."))
        until = pausing.add_mutually_exclusive_group()
        until.add_argument("--for", type=_hours, dest="hours", help="Hours; default: until resume.")
        until.add_argument("--until", type=moment, help="Until this time (RFC 3339).")
        _changing(acts.add_parser("resume", help="Begin again; its breaker is closed, too."))
        window = _changing(acts.add_parser("window", help="How many at once."))
        window.add_argument("value", type=_whole_or_none, help="A number, or none for no limit.")
        rate = _changing(acts.add_parser("rate", help="How many a second."))
        rate.add_argument("value", type=_number_or_none, help="A number, or none for no limit.")
        for command in acts.choices.values():
            command.add_argument("--json", action="store_true", help="Answer as one JSON value.")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            if options["act"] == "list":
                self._list(options)
            elif options["act"] == "show":
                self._show(options)
            else:
                self._change(options)
        except (LookupError, PaceRefused, ReasonMissing) as error:
            raise CommandError(str(error)) from None

    def _list(self, options: dict[str, Any]) -> None:
        rows = Lane.objects.using(OPERATOR).order_by("-id")
        if options["tenant"]:
            rows = rows.filter(tenant_id=tenant_named(options["tenant"]))
        rows = rows.filter(_HELD) if options["paused"] else rows
        rows = rows.filter(failing_since__isnull=False) if options["failing"] else rows
        found = list(rows[: options["limit"]])
        slugs = _slugs({int(lane.tenant_id or 0) for lane in found})
        told = [_told(lane, slugs.get(int(lane.tenant_id or 0), "")) for lane in found]
        lines = [f"{one['tenant']:<24}{one['key']:<52}{_state(one)}" for one in told]
        self._tell(options, "\n".join(lines) or "None.", told)

    def _show(self, options: dict[str, Any]) -> None:
        key, tenant_id = _chosen(options)
        lane = Lane.objects.using(OPERATOR).filter(tenant_id=tenant_id, key=key).first()
        slug = _slugs({tenant_id}).get(tenant_id, "")
        told = _told(lane or Lane(tenant_id=tenant_id, key=key), slug)
        told["works"] = _works(key, tenant_id)
        lines = [f"{name}: {value}" for name, value in told.items() if value not in (None, "", {})]
        self._tell(options, "\n".join(lines), told)

    def _change(self, options: dict[str, Any]) -> None:
        key, tenant_id = _chosen(options)
        act = options["act"]
        _check(act, options)
        if not options["dry_run"]:
            said = {"key": key, "tenant_id": tenant_id, "actor": actor()}
            _do(act, {**said, "reason": options["reason"]}, options)
        slug = _slugs({tenant_id}).get(tenant_id, str(tenant_id))
        answer = {"act": act, "key": key, "tenant": slug, "changed": not options["dry_run"]}
        text = f"{key} of {slug}: " + ("nothing was changed." if options["dry_run"] else "done.")
        self._tell(options, text, answer)

    def _tell(self, options: dict[str, Any], text: str, value: Any) -> None:
        self.stdout.write(json.dumps(value) if options["json"] else printable(text))


def _check(act: str, options: dict[str, Any]) -> None:
    """What the act would refuse, a look refuses too. Raises PaceRefused, ReasonMissing."""
    if not options["reason"].strip():
        raise ReasonMissing("Say why: the audit trail keeps it.")
    if act == "window":
        lanes.check_window(options["value"])
    elif act == "rate":
        lanes.check_rate(options["value"])


def _do(act: str, said: dict[str, Any], options: dict[str, Any]) -> None:
    if act == "pause":
        until = options["until"] or FOR_GOOD
        if options["hours"] is not None:
            until = timezone.now() + timedelta(hours=options["hours"])
        lanes.pause(**said, until=until)
    elif act == "resume":
        lanes.resume(**said)
    elif act == "window":
        lanes.set_window(**said, window=options["value"])
    else:
        lanes.set_rate(**said, rate=options["value"])


def _named(parser: ArgumentParser) -> ArgumentParser:
    parser.add_argument("key", help="Such as endpoint:<uuid>, account:<uuid>, campaign:<uuid>.")
    parser.add_argument("--tenant", help="Its slug or tnt_… id, or 'platform'.")
    return parser


def _changing(parser: ArgumentParser) -> ArgumentParser:
    _named(parser)
    parser.add_argument("--reason", required=True, help="Why: the audit trail keeps it.")
    parser.add_argument("--dry-run", action="store_true", help="Look, and change nothing.")
    return parser


def _chosen(options: dict[str, Any]) -> tuple[str, int]:
    """The lane's key and tenant. Raises LookupError where the key alone does not say whose."""
    key: str = options["key"]
    if not 0 < len(key) <= 100:
        raise LookupError("A lane's key has from 1 to 100 characters.")
    if options["tenant"]:
        return key, tenant_named(options["tenant"])
    rows = Lane.objects.using(OPERATOR).filter(key=key)
    found = list(rows.values_list("tenant_id", flat=True)[:2])
    if len(found) != 1:
        raise LookupError(f"Say whose {key} is: --tenant.")
    return key, int(found[0])


def _works(key: str, tenant_id: int) -> dict[str, dict[str, int]]:
    """What may run and what is being done, by queue."""
    found = {}
    with connections[OPERATOR].cursor() as cursor:
        for name, queue in registry.queues().items():
            cursor.execute(_WORKS.format(table=queue.table), [tenant_id, key])
            pending, processing = cursor.fetchone()
            if pending or processing:
                found[name] = {"pending": pending, "processing": processing}
    return found


def _slugs(ids: set[int]) -> dict[int, str]:
    rows = Tenant.objects.using(OPERATOR).filter(pk__in=ids)
    return {PLATFORM_ID: PLATFORM, **dict(rows.values_list("pk", "slug"))}


def _told(lane: Lane, slug: str) -> dict[str, Any]:
    told: dict[str, Any] = {"tenant": slug or str(lane.tenant_id), "key": lane.key}
    for name in SHOWN:
        value = getattr(lane, name)
        told[name] = value.isoformat() if isinstance(value, datetime) else value
    return told


def _state(told: dict[str, Any]) -> str:
    """In a few words."""
    now = timezone.now().isoformat()
    words = []
    if (told["operator_paused_until"] or "") > now:
        words.append(f"paused by an operator: {told['operator_why']}")
    if (told["paused_until"] or "") > now:
        words.append(f"paused: {told['paused_why']}")
    for name in ("operator_window", "operator_rate"):
        if told[name] is not None:
            words.append(f"{name.removeprefix('operator_')} {told[name]:g}")
    if told["failures"]:
        words.append(f"{told['failures']} failures in a row")
    return "; ".join(words) or "open"


def _hours(text: str) -> float:
    hours = float(text)
    if not (math.isfinite(hours) and 0 < hours <= 24 * 366):
        raise ArgumentTypeError("from a moment to a year of hours")
    return hours


def _whole_or_none(text: str) -> int | None:
    return None if text == NONE else int(text)


def _number_or_none(text: str) -> float | None:
    return None if text == NONE else float(text)
