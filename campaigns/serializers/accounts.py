"""What a provider account looks like outside, and what its API takes."""

from collections.abc import Iterator
from typing import Annotated, Any, TypedDict

import msgspec
from django.conf import settings
from msgspec import UNSET, Meta, UnsetType

from campaigns.accounts import credential_names
from campaigns.health import Health
from campaigns.models import ProviderAccount
from config.ids import format_id
from config.moments import Moment
from config.problems import FieldError, escape
from config.spelling import unseen_flaw
from tenants.serializers import REASON_LEAST, REASON_MOST
from webhooks.custom_headers import MASK

MOST_RATE = 10_000.0  # Messages a second.
LEAST_RATE = 1 / 3600
MOST_CREDENTIALS = 10
LONGEST_CREDENTIAL = 4000
MOST_OPTIONS = 30

Name = Annotated[str, Meta(min_length=1, max_length=100)]
Provider = Annotated[str, Meta(min_length=1, max_length=40)]
Url = Annotated[str, Meta(max_length=2048)]
Sender = Annotated[str, Meta(min_length=1, max_length=100)]
# What goes into headers: visible ASCII, spaces within (RFC 9110, 5.5).
CredentialName = Annotated[str, Meta(pattern="^[a-z][a-z0-9_]{0,39}$")]
Credential = Annotated[
    str, Meta(min_length=1, max_length=LONGEST_CREDENTIAL, pattern=r"^[!-~]([ -~]*[!-~])?$")
]
Options = Annotated[dict[str, Any], Meta(max_length=MOST_OPTIONS)]
InFlight = Annotated[int, Meta(ge=1, le=1000)]
Reason = Annotated[str, Meta(max_length=REASON_MOST)]


class AccountChange(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """The body of PATCH: what is left out stays as it is; null is to be learnt, or the provider's.

    `credentials` are merged (RFC 7396): a name with null is taken away. `options` are put anew.
    """

    name: Name | UnsetType = UNSET
    base_url: Url | UnsetType | None = UNSET
    sender: Sender | UnsetType = UNSET
    credentials: dict[CredentialName, Credential | None] | UnsetType = UNSET
    options: Options | UnsetType = UNSET
    rate: float | UnsetType | None = UNSET
    max_in_flight: InFlight | UnsetType | None = UNSET
    mode: ProviderAccount.Mode | UnsetType = UNSET

    @staticmethod
    def flaws(read: Any) -> Iterator[FieldError]:
        """What the types cannot say."""
        for name in ("name", "sender"):
            value = getattr(read, name)
            if isinstance(value, str) and (flaw := unseen_flaw(value)):
                yield FieldError(f"/{name}", *flaw)
            if isinstance(value, str) and value != value.strip():
                yield FieldError(f"/{name}", "invalid_format", "It begins or ends with a space.")
        if isinstance(read.credentials, dict) and len(read.credentials) > MOST_CREDENTIALS:
            yield FieldError("/credentials", "too_many", f"At most {MOST_CREDENTIALS}.")
        if isinstance(read.rate, float) and not LEAST_RATE <= read.rate <= MOST_RATE:
            yield FieldError("/rate", "out_of_range", "From one an hour to 10,000 a second.")

    def fields(self) -> dict[str, Any]:
        """What `campaigns.accounts` takes: the fields that the body names."""
        names = type(self).__struct_fields__
        return {name: value for name in names if (value := getattr(self, name)) is not UNSET}


class AccountWish(AccountChange, kw_only=True):
    """The body of POST: an account that is to be. Its credentials are asked about before."""

    name: Name
    provider: Provider
    sender: Sender
    credentials: dict[CredentialName, Credential | None]

    @staticmethod
    def flaws(read: Any) -> Iterator[FieldError]:
        """What the types cannot say."""
        yield from AccountChange.flaws(read)
        for name, value in read.credentials.items() if isinstance(read.credentials, dict) else ():
            if value is None:
                yield FieldError(f"/credentials/{escape(name)}", "required", "Required.")


class AccountReason(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a pause or of its end; the reason is shown, and is for the audit trail."""

    reason: Reason = ""

    @staticmethod
    def flaws(read: Any) -> Iterator[FieldError]:
        """What the types cannot say."""
        if isinstance(read.reason, str) and (flaw := unseen_flaw(read.reason)):
            yield FieldError("/reason", *flaw)


class AccountPause(AccountReason):
    """The body of a pause: why."""

    reason: Reason

    @staticmethod
    def flaws(read: Any) -> Iterator[FieldError]:
        """What the types cannot say."""
        yield from AccountReason.flaws(read)
        if isinstance(read.reason, str) and len(read.reason.strip()) < REASON_LEAST:
            yield FieldError("/reason", "too_short", f"Use at least {REASON_LEAST} characters.")


class AccountAnswer(TypedDict):
    """A provider account. Values of credentials are never shown."""

    id: str
    name: str
    provider: str
    base_url: str
    sender: str
    credentials: dict[str, str]
    options: dict[str, Any]
    rate: float | None
    max_in_flight: int | None
    mode: str
    status: str
    paused_reason: str
    callback_url: str
    verified_at: Moment | None
    created_at: Moment
    updated_at: Moment


class AccountHealthAnswer(TypedDict):
    """How an account fares: see campaigns.health."""

    state: str
    failing_since: Moment | None
    failures: int
    held_until: Moment | None
    held_why: str | None
    learnt_rate: float | None
    learnt_max_in_flight: int | None
    learnt_at: Moment | None


class OneAccountAnswer(AccountAnswer):
    """An account, and how it fares."""

    health: AccountHealthAnswer


def account_as_json(account: ProviderAccount) -> AccountAnswer:
    id_ = format_id("acc", account.pk)
    return {
        "id": id_,
        "name": account.name,
        "provider": account.provider,
        "base_url": account.base_url,
        "sender": account.sender,
        "credentials": dict.fromkeys(credential_names(account), MASK),
        "options": account.options,
        "rate": account.rate,
        "max_in_flight": account.max_in_flight,
        "mode": account.mode,
        "status": account.status,
        "paused_reason": account.paused_reason,
        "callback_url": f"{settings.PUBLIC_URL}/v1/callbacks/{id_}",
        "verified_at": account.verified_at,
        "created_at": account.created_at,
        "updated_at": account.updated_at,
    }


def health_as_json(health: Health) -> AccountHealthAnswer:
    return {
        "state": health.state,
        "failing_since": health.failing_since,
        "failures": health.failures,
        "held_until": health.held_until,
        "held_why": health.held_why,
        "learnt_rate": health.learnt_rate,
        "learnt_max_in_flight": health.learnt_max_in_flight,
        "learnt_at": health.learnt_at,
    }
