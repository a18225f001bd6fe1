"""What an endpoint looks like outside, and what its API takes."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, TypedDict

import msgspec
from django.conf import settings
from msgspec import UNSET, Meta, UnsetType

from config.ids import format_id
from config.moments import Moment
from config.problems import FieldError
from config.spelling import unseen_flaw
from tenants.serializers import REASON_LEAST, REASON_MOST
from webhooks import catalogue
from webhooks.addresses import policy
from webhooks.custom_headers import MASK, names
from webhooks.custom_headers import flaws as header_flaws
from webhooks.destinations import BadUrl, destination
from webhooks.endpoints import LONGEST_OVERLAP
from webhooks.filters import flaw as filter_flaw
from webhooks.health import Health
from webhooks.models import Endpoint
from webhooks.signing import BadSecret, check_secret

MOST_RATE = 10_000.0  # Deliveries a second.
LEAST_RATE = 1 / 3600
LONGEST_SCHEDULE = 7 * 86400  # Seconds, all delays together.

Url = Annotated[str, Meta(max_length=2048)]
Description = Annotated[str, Meta(max_length=200)]
Filter = Annotated[str, Meta(max_length=100)]
Filters = Annotated[list[Filter], Meta(max_length=100)]
InFlight = Annotated[int, Meta(ge=1, le=100)]
Timeout = Annotated[float, Meta(ge=1, le=30)]
Delay = Annotated[int, Meta(ge=0, le=86400)]
Schedule = Annotated[list[Delay], Meta(max_length=20)]
Reason = Annotated[str, Meta(max_length=REASON_MOST)]
Secret = Annotated[str, Meta(max_length=100)]


class RateOver(msgspec.Struct, forbid_unknown_fields=True):
    """A rate of less than one a second is easier said like this: 10 in 60 seconds."""

    count: Annotated[int, Meta(ge=1, le=1_000_000)]
    per_seconds: Annotated[int, Meta(ge=1, le=3600)] = 1

    @property
    def per_second(self) -> float:
        return self.count / self.per_seconds


class EndpointChange(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """The body of PATCH: what is left out stays as it is; null is Slipway's default.

    `headers` are merged (RFC 7396): a name with null is removed.
    """

    url: Url | UnsetType = UNSET
    description: Description | UnsetType = UNSET
    event_types: Filters | UnsetType = UNSET
    headers: dict[str, str | None] | UnsetType = UNSET
    rate: float | RateOver | UnsetType | None = UNSET
    max_in_flight: InFlight | UnsetType | None = UNSET
    timeout: Timeout | UnsetType | None = UNSET
    schedule: Schedule | UnsetType | None = UNSET
    ordered: bool | UnsetType = UNSET

    @staticmethod
    def flaws(read: Any) -> Iterator[FieldError]:
        """What the types cannot say."""
        yield from _url_flaws(read.url)
        if isinstance(read.description, str) and (flaw := unseen_flaw(read.description)):
            yield FieldError("/description", *flaw)
        yield from _filter_flaws(read.event_types or ())
        if isinstance(read.headers, dict):
            yield from header_flaws(read.headers)
        yield from _rate_flaws(read.rate)
        if isinstance(read.schedule, list) and sum(read.schedule) > LONGEST_SCHEDULE:
            yield FieldError("/schedule", "too_long", "All delays together are at most 7 days.")

    def fields(self) -> dict[str, Any]:
        """What `webhooks.endpoints` takes: the fields that the body names."""
        given = {name: getattr(self, name) for name in EndpointChange.__struct_fields__}
        fields = {name: value for name, value in given.items() if value is not UNSET}
        if isinstance(fields.get("rate"), RateOver):
            fields["rate"] = fields["rate"].per_second
        return fields


class EndpointWish(EndpointChange, kw_only=True):
    """The body of POST: an endpoint that is to be. `secret` is one of your own, if you have one."""

    url: Url
    disabled: bool = False
    secret: Secret | None = None

    def fingerprint(self) -> bytes:
        """All of it as bytes, whatever the order of its members."""
        return msgspec.json.encode(self, order="sorted")

    @staticmethod
    def flaws(read: Any) -> Iterator[FieldError]:
        """What the types cannot say."""
        yield from EndpointChange.flaws(read)
        yield from _secret_flaws(read.secret)


class Rotation(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a rotation: for how long the secrets from before are signed with, too."""

    overlap_seconds: Annotated[int, Meta(ge=0, le=LONGEST_OVERLAP)] = 86400
    secret: Secret | None = None

    @staticmethod
    def flaws(read: Any) -> Iterator[FieldError]:
        """What the types cannot say."""
        yield from _secret_flaws(read.secret)


class Disabling(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a disabling; its reason is for the audit trail."""

    reason: Reason = ""

    @staticmethod
    def flaws(read: Any) -> Iterator[FieldError]:
        """What the types cannot say."""
        if isinstance(read.reason, str) and (flaw := unseen_flaw(read.reason)):
            yield FieldError("/reason", *flaw)


class Enabling(msgspec.Struct, forbid_unknown_fields=True):
    """The body of an enabling: what becomes of the deliveries that were held meanwhile."""

    held: Literal["deliver", "discard"] = "deliver"
    reason: Reason = ""

    @staticmethod
    def flaws(read: Any) -> Iterator[FieldError]:
        """What the types cannot say."""
        yield from Disabling.flaws(read)
        unsaid = isinstance(read.reason, str) and len(read.reason.strip()) < REASON_LEAST
        if read.held == "discard" and unsaid:
            yield FieldError("/reason", "required", "Say why they are discarded.")


class SecretAge(TypedDict):
    """Since when a secret signs, and until when; null for as long as it is the newest."""

    made_at: Moment
    expires_at: Moment | None


class EndpointAnswer(TypedDict):
    """An endpoint. Values of headers are never shown, nor are secrets."""

    id: str
    url: str
    description: str
    event_types: list[str]
    headers: dict[str, str]
    rate: float | None
    max_in_flight: int | None
    timeout: float | None
    schedule: list[int] | None
    ordered: bool
    disabled: bool
    disabled_at: Moment | None
    disabled_reason: str
    secrets: list[SecretAge]
    created_at: Moment
    updated_at: Moment


class HealthAnswer(TypedDict):
    """How an endpoint fares. Counts end at 10,000."""

    state: str
    failing_since: Moment | None
    failures: int
    paused_until: Moment | None
    paused_why: str | None
    blocked_by: str | None
    in_flight: int
    pending: int
    oldest_pending_at: Moment | None
    waiting: int
    held: int
    last_error: str


class OneEndpointAnswer(EndpointAnswer):
    """An endpoint, and how it fares."""

    health: HealthAnswer


class NewEndpointAnswer(EndpointAnswer):
    """An endpoint that was just made: the only time that its secret is shown."""

    secret: str


class NewSecretAnswer(TypedDict):
    """A secret that was just made: the only time that it is shown."""

    secret: str
    secrets: list[SecretAge]


class TestAnswer(TypedDict):
    """A test event, on its way."""

    delivery_id: str
    event_id: str


def endpoint_as_json(endpoint: Endpoint) -> EndpointAnswer:
    return {
        "id": format_id("ep", endpoint.pk),
        "url": endpoint.url,
        "description": endpoint.description,
        "event_types": endpoint.event_types,
        "headers": dict.fromkeys(names(endpoint.custom_headers), MASK),
        "rate": endpoint.rate,
        "max_in_flight": endpoint.max_in_flight,
        "timeout": endpoint.timeout,
        "schedule": endpoint.schedule,
        "ordered": endpoint.ordered,
        "disabled": endpoint.disabled_at is not None,
        "disabled_at": endpoint.disabled_at,
        "disabled_reason": endpoint.disabled_reason,
        "secrets": secret_ages(endpoint.secrets),
        "created_at": endpoint.created_at,
        "updated_at": endpoint.updated_at,
    }


def secret_ages(kept: list[Mapping[str, Any]]) -> list[SecretAge]:
    """What may be told of an endpoint's secrets."""
    return [{"made_at": one["made_at"], "expires_at": one["expires_at"]} for one in kept]


def health_as_json(health: Health) -> HealthAnswer:
    return {
        "state": health.state,
        "failing_since": health.failing_since,
        "failures": health.failures,
        "paused_until": health.paused_until,
        "paused_why": health.paused_why,
        "blocked_by": format_id("dlv", health.blocked_by) if health.blocked_by else None,
        "in_flight": health.in_flight,
        "pending": health.pending,
        "oldest_pending_at": health.oldest_pending_at,
        "waiting": health.waiting,
        "held": health.held,
        "last_error": health.last_error,
    }


def _url_flaws(url: Any) -> Iterator[FieldError]:
    if isinstance(url, str):
        try:
            destination(url, policy())
        except BadUrl as error:
            yield FieldError("/url", "invalid_url", str(error))


def _filter_flaws(texts: Sequence[str]) -> Iterator[FieldError]:
    """Where only catalogued types are published, a misspelt one would never be heard of."""
    for index, text in enumerate(texts):
        if flaw := filter_flaw(text):
            yield FieldError(f"/event_types/{index}", *flaw)
    if settings.SLIPWAY["WEBHOOKS"]["catalogue_only"]:
        known = catalogue.load({text for text in texts if not text.endswith(".*")})
        for index, text in enumerate(texts):
            if not known.get(text, True):
                message = "This type is not in the catalogue."
                yield FieldError(f"/event_types/{index}", "unknown_event_type", message)


def _rate_flaws(rate: Any) -> Iterator[FieldError]:
    a_second = rate.per_second if isinstance(rate, RateOver) else rate
    if isinstance(a_second, float) and not LEAST_RATE <= a_second <= MOST_RATE:
        yield FieldError("/rate", "out_of_range", "From one an hour to 10,000 a second.")


def _secret_flaws(secret: Any) -> Iterator[FieldError]:
    if isinstance(secret, str):
        try:
            check_secret(secret)
        except BadSecret as error:
            yield FieldError("/secret", "invalid_secret", str(error))
