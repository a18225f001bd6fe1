"""Whether a wished campaign can be, and its frozen columns: what it says then stays as it is.

All that is wrong is told at once. No customer is looked at, and no provider asked.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import orjson
from django.conf import settings
from django.utils import timezone

from campaigns import filters, variables
from campaigns.errors import InvalidCampaign
from campaigns.models import Campaign, ProviderAccount, Segment, Template
from campaigns.quiet import clock
from campaigns.states import AccountStatus, OnUnknown
from campaigns.wishes import FollowUp, Wish
from config import moments
from config.problems import FieldError, Problem
from config.spelling import is_unseen
from tenants.context import require_tenant
from tenants.models import Tenant

NAME_MOST = 100  # Characters.
FURTHEST = timedelta(days=365)
SOONEST_FOLLOW_UP, LATEST_FOLLOW_UP = timedelta(hours=1), timedelta(days=30)
BRIEF_LIMIT = 16 * 1024  # Bytes of JSON.
TEMPLATE = "template"  # The generator that makes nothing up.

Errors = list[FieldError]


def columns(wish: Wish) -> dict[str, Any]:
    """The columns of a campaign as wished. Raises InvalidCampaign with every error."""
    found = _Found(wish)
    errors: Errors = []
    said: dict[str, Any] = {"generator": wish.generator, "on_unknown": wish.on_unknown}
    for part in (_named, _account, _audience, _content, _times, _quiet, _follow_up):
        said |= part(wish, found, errors)
    if errors:
        raise InvalidCampaign(errors=errors)
    return said


class _Found:
    """What a wish names, as it stands, in one query of each sort."""

    def __init__(self, wish: Wish) -> None:
        self.account = ProviderAccount.objects.filter(pk=wish.account_id, deleted_at=None).first()
        self.segment: Segment | None = None
        if wish.segment_id is not None:
            self.segment = Segment.objects.filter(pk=wish.segment_id, deleted_at=None).first()
        wanted = (wish.template_id, wish.follow_up.template_id if wish.follow_up else None)
        named = [template_id for template_id in wanted if template_id is not None]
        rows = Template.objects.filter(pk__in=named, deleted_at=None) if named else ()
        self.templates: dict[UUID | None, Template] = {row.pk: row for row in rows}


def _named(wish: Wish, found: _Found, errors: Errors) -> dict[str, Any]:
    name = wish.name.strip()
    if not 1 <= len(name) <= NAME_MOST:
        errors.append(FieldError("/name", "name_length", f"Use 1 to {NAME_MOST} characters."))
    elif any(map(is_unseen, name)):
        message = "It has invisible or control characters in it."
        errors.append(FieldError("/name", "unseen_character", message))
    return {"name": name}


def _account(wish: Wish, found: _Found, errors: Errors) -> dict[str, Any]:
    if found.account is None:
        errors.append(FieldError("/account_id", "account_not_found", "There is no such account."))
    elif found.account.status != AccountStatus.ACTIVE:
        why = found.account.paused_reason
        message = f"The account is paused: {why}" if why else "The account is paused."
        errors.append(FieldError("/account_id", "account_paused", message))
    return {"account_id": wish.account_id}


def _audience(wish: Wish, found: _Found, errors: Errors) -> dict[str, Any]:
    filter = wish.filter
    if (wish.segment_id is None) == (wish.filter is None):
        message = "Name a segment or give a filter, and not both."
        errors.append(FieldError("/filter", "segment_or_filter", message))
    elif wish.segment_id is not None:
        filter = found.segment.filter if found.segment else None
        if found.segment is None:
            message = "There is no such segment."
            errors.append(FieldError("/segment_id", "segment_not_found", message))
    if filter is not None:
        with _collecting(errors, "/filter"):
            filters.parse(filter, pointer="/filter")
    return {"segment_id": wish.segment_id, "filter": filter}


def _content(wish: Wish, found: _Found, errors: Errors) -> dict[str, Any]:
    said = {"template_id": wish.template_id, "variables": dict(wish.variables), "content": None}
    if wish.generator not in settings.SLIPWAY["GENERATORS"]:
        message = "There is no such generator."
        errors.append(FieldError("/generator", "unknown_generator", message))
    elif wish.generator == TEMPLATE:
        frozen = _template(found, wish.template_id, "", wish.variables, errors)
        if wish.brief:
            message = "A template needs no brief; name the generator that reads it."
            errors.append(FieldError("/brief", "needless", message))
        return said | {"brief": {"template": frozen}}
    elif wish.template_id is not None:
        message = f"The generator {wish.generator} is given a brief, not a template."
        errors.append(FieldError("/template_id", "needless", message))
    elif len(orjson.dumps(dict(wish.brief or {}))) > BRIEF_LIMIT:
        message = f"At most {BRIEF_LIMIT} bytes of JSON."
        errors.append(FieldError("/brief", "too_long", message))
    with _collecting(errors, "/variables"):
        variables.check("", wish.variables, pointer="/variables")
    return said | {"brief": dict(wish.brief or {})}


def _template(
    found: _Found,
    template_id: UUID | None,
    place: str,
    mapping: Mapping[str, Any],
    errors: Errors,
) -> dict[str, Any]:
    """A template as it stands, with whatever is wrong about it and the variables given for it."""
    template = found.templates.get(template_id)
    if template is None:
        message = "There is no such template." if template_id else "Name a template."
        errors.append(FieldError(f"{place}/template_id", "template_not_found", message))
        return {}
    with _collecting(errors, f"{place}/variables"):
        variables.check(template.parts.whole, mapping, pointer=f"{place}/variables")
    told = {"external_name": template.external_name, "language": template.language}
    return template.parts.as_json() | told


def _times(wish: Wish, found: _Found, errors: Errors) -> dict[str, Any]:
    now = timezone.now()
    begins = _moment(wish.scheduled_at, "/scheduled_at", after=now, errors=errors)
    ends = _moment(wish.send_until, "/send_until", after=now, errors=errors)
    if begins and ends and ends <= begins:
        errors.append(FieldError("/send_until", "too_early", "It is not after scheduled_at."))
    return {"scheduled_at": begins, "send_until": ends}


def _moment(
    moment: datetime | None, pointer: str, *, after: datetime, errors: Errors
) -> datetime | None:
    if moment is None:
        return None
    if flaw := moments.flaw(moment):
        errors.append(FieldError(pointer, *flaw))
        return None
    if moment <= after:
        errors.append(FieldError(pointer, "in_the_past", "Use a time in the future."))
    elif moment > after + FURTHEST:
        errors.append(FieldError(pointer, "too_late", f"At most {FURTHEST.days} days from now."))
    return moments.utc(moment)


def _quiet(wish: Wish, found: _Found, errors: Errors) -> dict[str, Any]:
    zone = wish.time_zone or _zone_of_tenant()
    try:
        ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        message = "Use a name of the IANA data base, such as Europe/Zurich."
        errors.append(FieldError("/time_zone", "time_zone_unknown", message))
    hours = wish.quiet_hours
    if hours is not None:
        errors += _hours_flaws(hours)
    return {"time_zone": zone, "quiet_hours": dict(hours) if hours is not None else None}


def _hours_flaws(hours: Mapping[str, str]) -> Iterator[FieldError]:
    times = {name: clock(hours.get(name)) for name in ("from", "until")}
    for name, at in times.items():
        if at is None:
            message = "Say it as 21:00 or 08:30."
            yield FieldError(f"/quiet_hours/{name}", "invalid_time", message)
    if unknown := hours.keys() - times.keys():
        message = f"It knows from and until, not {', '.join(sorted(unknown))}."
        yield FieldError("/quiet_hours", "unknown_member", message)
    if times["from"] is not None and times["from"] == times["until"]:
        message = "They would be the whole day."
        yield FieldError("/quiet_hours/until", "never_ends", message)


def _zone_of_tenant() -> str:
    rows = Tenant.objects.filter(pk=require_tenant().id)
    return rows.values_list("time_zone", flat=True).first() or "UTC"


def _follow_up(wish: Wish, found: _Found, errors: Errors) -> dict[str, Any]:
    follow_up = wish.follow_up
    if follow_up is None:
        return {"follow_up": None}
    least, most = SOONEST_FOLLOW_UP.total_seconds(), LATEST_FOLLOW_UP.total_seconds()
    if not least <= follow_up.after <= most:
        message = "Between one hour and 30 days after the first one."
        errors.append(FieldError("/follow_up/after", "out_of_range", message))
    mapping = follow_up.variables
    frozen = _template(found, follow_up.template_id, "/follow_up", mapping, errors)
    said = {
        "after": follow_up.after,
        "template_id": str(follow_up.template_id),
        "template": frozen,
        "variables": dict(mapping),
    }
    return {"follow_up": said}


def wish_of(campaign: Campaign) -> Wish:
    """What a draft asks for, to be looked at again."""
    later = campaign.follow_up
    return Wish(
        name=campaign.name,
        account_id=campaign.account_id,
        segment_id=campaign.segment_id,
        filter=campaign.filter if campaign.segment_id is None else None,
        template_id=campaign.template_id,
        brief=campaign.brief if campaign.generator != TEMPLATE else None,
        generator=campaign.generator,
        variables=campaign.variables,
        scheduled_at=campaign.scheduled_at,
        send_until=campaign.send_until,
        quiet_hours=campaign.quiet_hours,
        time_zone=campaign.time_zone,
        follow_up=FollowUp(
            after=later["after"],
            template_id=UUID(later["template_id"]),
            variables=later["variables"],
        )
        if later
        else None,
        on_unknown=OnUnknown(campaign.on_unknown),
    )


@contextmanager
def _collecting(errors: Errors, pointer: str) -> Iterator[None]:
    """A problem in the block becomes errors, and what comes after the block goes on."""
    try:
        yield
    except Problem as problem:
        errors += problem.errors or [FieldError(pointer, problem.code, str(problem))]
