"""What a campaign looks like outside, and what its API takes."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Annotated, Any, Literal, TypedDict
from uuid import UUID

import msgspec
from django.conf import settings
from django.utils import timezone
from msgspec import UNSET, Meta, UnsetType

from campaigns import parts, tickets
from campaigns.models import Campaign
from campaigns.progress import ProgressAnswer, Standing, progress_as_json
from campaigns.serializers.templates import ButtonAnswer, buttons_as_json
from campaigns.states import OnUnknown
from campaigns.wishes import FollowUp, Wish
from config.ids import InvalidId, format_id, parse_id
from config.moments import Moment
from config.problems import FieldError, escape
from config.spelling import unseen_flaw
from tenants.context import require_tenant
from tenants.serializers import REASON_MOST, Because

Name = Annotated[str, Meta(min_length=1, max_length=100)]
Id = Annotated[str, Meta(max_length=50)]
Word = Annotated[str, Meta(max_length=40)]
Zone = Annotated[str, Meta(max_length=64)]
Reason = Annotated[str, Meta(max_length=REASON_MOST)]
Phone = Annotated[str, Meta(min_length=1, max_length=40)]
Params = Annotated[dict[str, Annotated[str, Meta(max_length=1000)]], Meta(max_length=100)]
Hour = Annotated[str, Meta(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$")]


class QuietHoursWish(msgspec.Struct, forbid_unknown_fields=True):
    """When nothing is sent, by the clocks of the campaign's time zone: 21:00 to 08:00."""

    begins: Hour = msgspec.field(name="from")
    until: Hour

    def plain(self) -> dict[str, str]:
        return {"from": self.begins, "until": self.until}


class FollowUpWish(msgspec.Struct, forbid_unknown_fields=True):
    """A second message, `after` seconds, to those who did not read the first."""

    after: float
    template_id: Id
    variables: dict[str, Any] = {}


class CampaignChange(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """The body of PATCH, for drafts: what is left out stays as it is, null takes it away."""

    name: Name | UnsetType = UNSET
    account_id: Id | UnsetType = UNSET
    segment_id: Id | UnsetType | None = UNSET
    filter: dict[str, Any] | UnsetType | None = UNSET
    template_id: Id | UnsetType | None = UNSET
    brief: dict[str, Any] | UnsetType | None = UNSET
    generator: Word | UnsetType = UNSET
    variables: dict[str, Any] | UnsetType = UNSET
    scheduled_at: datetime | UnsetType | None = UNSET
    send_until: datetime | UnsetType | None = UNSET
    quiet_hours: QuietHoursWish | UnsetType | None = UNSET
    time_zone: Zone | UnsetType | None = UNSET
    follow_up: FollowUpWish | UnsetType | None = UNSET
    on_unknown: OnUnknown | UnsetType = UNSET

    @staticmethod
    def flaws(read: Any) -> Iterator[FieldError]:
        """What the types cannot say; whether all of it can be, campaigns.checking finds out."""
        for name, prefix in _IDS.items():
            yield from _id_flaws(f"/{name}", prefix, getattr(read, name))
        if isinstance(read.follow_up, FollowUpWish):
            yield from _id_flaws("/follow_up/template_id", "tpl", read.follow_up.template_id)

    def changed(self, wish: Wish) -> Wish:
        """The wish, with what the body names. A segment takes a filter's place, and vice versa."""
        given = self.given()
        if given.get("segment_id") and "filter" not in given:
            given["filter"] = None
        if given.get("filter") and "segment_id" not in given:
            given["segment_id"] = None
        return replace(wish, **given)

    def given(self) -> dict[str, Any]:
        """The fields that the body names, as a Wish has them."""
        names = CampaignChange.__struct_fields__
        said = {name: getattr(self, name) for name in names}
        return {name: _read(name, value) for name, value in said.items() if value is not UNSET}


class CampaignWish(CampaignChange, kw_only=True):
    """The body of POST: a campaign that is to be. It begins at once, unless it is a draft."""

    name: Name
    account_id: Id
    draft: bool = False

    def wish(self) -> Wish:
        return Wish(**self.given(), draft=self.draft)


class WithReason(msgspec.Struct, forbid_unknown_fields=True):
    """The body of an act; its reason is for the audit trail, and shown with the campaign."""

    reason: Reason = ""

    @staticmethod
    def flaws(read: Any) -> Iterator[FieldError]:
        """What the types cannot say."""
        if isinstance(read.reason, str) and (flaw := unseen_flaw(read.reason)):
            yield FieldError("/reason", *flaw)


class RetryWish(Because, forbid_unknown_fields=True):
    """The body of retry-failed. `unknown`: those too that may have been sent, perhaps twice."""

    unknown: bool = False


class Resolving(Because, forbid_unknown_fields=True):
    """The body of resolve-unknown: what becomes of all that may or may not have been sent.

    `again` sends them once more, perhaps twice then; `given_up` cancels them; `sent` believes it.
    """

    to: Literal["again", "given_up", "sent"]


class TestWish(msgspec.Struct, forbid_unknown_fields=True):
    """The body of test-send: to which number, and what the variables say there."""

    phone: Phone
    params: Params = {}

    @staticmethod
    def flaws(read: Any) -> Iterator[FieldError]:
        """What the types cannot say."""
        if isinstance(read.params, Mapping):
            for name in read.params:
                if len(name) > 100:
                    pointer = f"/params/{escape(name[:100])}"
                    yield FieldError(pointer, "too_long", "Names have at most 100 characters.")


class ContentAnswer(TypedDict):
    """What a campaign says: its template's copy, or what its generator made."""

    text: str
    header: str
    buttons: list[ButtonAnswer]
    external_name: str
    language: str


class QuietHoursAnswer(TypedDict("_From", {"from": str})):
    """When nothing is sent."""

    until: str


class FollowUpAnswer(TypedDict):
    """The second message."""

    after: float
    template_id: str
    variables: dict[str, Any]


class LinksAnswer(TypedDict):
    """Where there is more. `events` opens a stream for an hour or two, without a key."""

    messages: str
    skips: str
    results: str
    events: str


class CampaignAnswer(ProgressAnswer):
    """A campaign, and how far it is."""

    id: str
    name: str
    account_id: str
    segment_id: str | None
    filter: dict[str, Any]
    template_id: str | None
    generator: str
    brief: dict[str, Any] | None
    variables: dict[str, Any]
    content: ContentAnswer | None
    scheduled_at: Moment | None
    send_until: Moment | None
    quiet_hours: QuietHoursAnswer | None
    time_zone: str
    follow_up: FollowUpAnswer | None
    follow_up_of: str | None
    on_unknown: str
    created_at: Moment
    materialised_at: Moment | None
    started_at: Moment | None
    links: LinksAnswer


class RetriedAnswer(TypedDict):
    """How many messages are tried again."""

    retried: int


class ResolvedAnswer(TypedDict):
    """How many messages were unknown, and are not any more."""

    resolved: int


def campaign_as_json(campaign: Campaign) -> CampaignAnswer:
    now = timezone.now()
    standing = Standing.of(campaign)
    return {
        "id": format_id("cmp", campaign.pk),
        "name": campaign.name,
        **progress_as_json(standing, standing.average(now), now),
        "account_id": format_id("acc", campaign.account_id),
        "segment_id": _id("seg", campaign.segment_id),
        "filter": campaign.filter,
        "template_id": _id("tpl", campaign.template_id),
        "generator": campaign.generator,
        "brief": campaign.brief if campaign.generator != "template" else None,
        "variables": campaign.variables,
        "content": _content(campaign),
        "scheduled_at": campaign.scheduled_at,
        "send_until": campaign.send_until,
        "quiet_hours": campaign.quiet_hours,
        "time_zone": campaign.time_zone,
        "follow_up": _follow_up(campaign),
        "follow_up_of": _id("cmp", campaign.parent_id),
        "on_unknown": campaign.on_unknown,
        "created_at": campaign.created_at,
        "materialised_at": campaign.materialised_at,
        "started_at": campaign.started_at,
        "links": _links(campaign),
    }


def _content(campaign: Campaign) -> ContentAnswer | None:
    said = campaign.content
    if said is None:
        return None
    apart = parts.read(said)
    return {
        "text": apart.text,
        "header": apart.header,
        "buttons": buttons_as_json(apart),
        "external_name": said.get("external_name", ""),
        "language": said.get("language", ""),
    }


def _follow_up(campaign: Campaign) -> FollowUpAnswer | None:
    later = campaign.follow_up
    if later is None:
        return None
    return {
        "after": later["after"],
        "template_id": f"tpl_{later['template_id']}",
        "variables": later.get("variables", {}),
    }


def _links(campaign: Campaign) -> LinksAnswer:
    place = f"/v1/campaigns/{format_id('cmp', campaign.pk)}"
    ticket = tickets.make(tenant_id=require_tenant().id, campaign_id=campaign.pk)
    return {
        "messages": f"{settings.PUBLIC_URL}{place}/messages",
        "skips": f"{settings.PUBLIC_URL}{place}/skips",
        "results": f"{settings.PUBLIC_URL}{place}/results.csv",
        "events": f"{settings.STREAM_URL}{place}/events?ticket={ticket}",
    }


def _id(prefix: str, uuid: UUID | None) -> str | None:
    return None if uuid is None else format_id(prefix, uuid)


_IDS = {"account_id": "acc", "segment_id": "seg", "template_id": "tpl"}


def _id_flaws(pointer: str, prefix: str, text: Any) -> Iterator[FieldError]:
    if isinstance(text, str):
        try:
            parse_id(prefix, text)
        except InvalidId:
            yield FieldError(pointer, "invalid_format", f"Ids of these begin with {prefix}_.")


def _read(name: str, value: Any) -> Any:
    """A field of a body as a Wish has it."""
    if name in _IDS and value is not None:
        return parse_id(_IDS[name], value)
    if isinstance(value, QuietHoursWish):
        return value.plain()
    if isinstance(value, FollowUpWish):
        template_id = parse_id("tpl", value.template_id)
        return FollowUp(after=value.after, template_id=template_id, variables=value.variables)
    return value
