"""What sends a tenant's messages: one file a provider, behind one protocol.

A provider turns a message into one HTTP request, and what is answered into a verdict. It calls
nobody (campaigns.steps does, through webhooks.http), and keeps nothing: all that is an account's
comes with each call. The exception is `verify`, one synchronous call when an account is made.

SLIPWAY["PROVIDERS"] names them; an extension adds its own (docs/extensions.md).
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache, lru_cache
from hashlib import sha256
from typing import Any, Protocol, runtime_checkable
from uuid import UUID

import orjson
from django.conf import settings
from django.utils.module_loading import import_string

from config.problems import FieldError, Problem
from webhooks import secrets
from webhooks.answers import Answer

REDACTED = "[redacted]"
LONGEST_PROVIDER_ID = 200  # Characters, as Message.provider_id has room for.
# A phone number, in whatever spelling providers repeat it: E.164 has 15 digits at most. What begins
# with a plus (as it stands, or encoded for a URL) or a zero may have gaps between its groups.
_PHONE = re.compile(
    r"""
    (?: (?:%2[Bb]|(?<![0-9A-Za-z])\+) \(?[0-9] (?:(?:[ ().\-/\u00a0\u202f]|%20){0,3}[0-9]){6,14}
      | (?<![0-9A-Za-z]) \(?0 (?:(?:[ )\-/\u00a0\u202f]|%20){0,2}[0-9]){6,16}
      | (?<![0-9A-Za-z]) [0-9]{7,15}
    ) (?![0-9A-Za-z])""",
    re.VERBOSE,
)
_MASK = "[phone]"


class UnknownProvider(Problem):
    """There is no such provider."""

    status = 400
    code = "unknown_provider"


class CredentialsRefused(Problem):
    """The provider refuses these credentials."""

    status = 422
    code = "credentials_refused"


class ProviderUnreachable(Problem):
    """The provider could not be asked about these credentials."""

    status = 422  # The caller named the address: nothing is broken here.
    code = "provider_unreachable"


@dataclass(frozen=True, slots=True, eq=False)
class Account:
    """A provider account with its credentials in the clear: never stored, logged or shown.

    Compared by identity: `opened` gives the same one for the same row, so that a provider may
    remember what it makes of one.
    """

    id: UUID
    provider: str
    base_url: str  # Without a slash at its end.
    sender: str
    credentials: Mapping[str, str] = field(repr=False)
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One message, with all that any provider needs of it.

    `message_id` goes along as the idempotency key and as what callbacks give back. Providers of
    approved templates send `external_name`, `language` and the parameters in the order of
    `variables` (in which the template's text names them first), and those of `header` and of
    `buttons` (index → variable) apart; others send `text`, rendered, which has all of it.
    """

    message_id: UUID
    phone: str = field(repr=False)  # E.164, with its plus.
    text: str = field(repr=False)
    params: Mapping[str, str] = field(default_factory=dict, repr=False)
    variables: Sequence[str] = ()
    header: Sequence[str] = ()
    buttons: Mapping[int, str] = field(default_factory=dict)
    external_name: str = ""
    language: str = "en"
    test: bool = False


@dataclass(frozen=True, slots=True)
class Request:
    """One POST. `shown` is what an attempt keeps of it: nothing personal, no credentials."""

    url: str
    body: bytes = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    shown: Mapping[str, Any]


# ---- Verdicts: what an answer means ----


@dataclass(frozen=True, slots=True)
class Accepted:
    """The provider took the message, and knows it by this id."""

    provider_id: str


@dataclass(frozen=True, slots=True)
class Refused:
    """This recipient will not be written to, now or later. `opted_out`: by their own will."""

    error: str
    opted_out: bool = False


@dataclass(frozen=True, slots=True)
class Later:
    """Surely not accepted, and worth another try; `after` is the least delay in seconds."""

    error: str
    after: float | None = None


@dataclass(frozen=True, slots=True)
class Slower:
    """The account sends too fast: all of it waits `after` seconds. Not this message's fault."""

    after: float
    reason: str


@dataclass(frozen=True, slots=True)
class PairLimit:
    """Too much to this one recipient: at the n-th time, this message waits `after` ** n seconds."""

    after: float
    reason: str


@dataclass(frozen=True, slots=True)
class AccountRefused:
    """So would all messages be: the account is refused, or the campaign's template.

    `template` tells that only campaigns with this template are concerned.
    """

    reason: str
    template: bool = False


@dataclass(frozen=True, slots=True)
class Ambiguous:
    """Accepted or not: the answer does not tell."""

    error: str


Verdict = Accepted | Refused | Later | Slower | PairLimit | AccountRefused | Ambiguous


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a provider tells of a message afterwards. It holds nothing personal.

    `message_id` is ours, where the provider gives it back; None where there is only its own id.
    """

    message_id: UUID | None
    provider_id: str
    what: str  # "sent", "delivered", "read" or "failed".
    at: datetime
    error: str = ""  # A code and a word, of "failed".
    opted_out: bool = False


@dataclass(frozen=True, slots=True)
class OptOut:
    """That somebody said to one of the provider's numbers that they want no more messages."""

    phone: str = field(repr=False)  # E.164, as the provider spells it.
    sender: str  # Whom they said it to, as ProviderAccount.sender.
    at: datetime
    why: str  # For the log of consent: "wrote stop".
    answered: str = ""  # The provider's id of the message that it answers.


class BadCallback(Problem):
    """The callback cannot be read."""

    status = 400
    code = "bad_callback"


class Provider(Protocol):
    """One provider of messages."""

    name: str
    base_url: str  # Where an account leads that names no base_url; "" where it must name one.

    def flaws(self, account: Account) -> Iterator[FieldError]:
        """What is wrong with its sender, options (/options/…) and credentials (/credentials/…)."""

    def verify(self, account: Account) -> None:
        """Ask the provider once whether the credentials are good (webhooks.sync_http).

        Raises CredentialsRefused, ProviderUnreachable.
        """

    def idempotent(self, account: Account) -> bool:
        """Whether the same message may be sent again and is sent once: by its message_id."""

    def request(self, account: Account, message: Outgoing) -> Request:
        """The request that sends the message."""

    def judge(self, account: Account, answer: Answer) -> Verdict:
        """What a whole answer means."""

    def genuine(self, account: Account, headers: Mapping[str, str], body: bytes) -> bool:
        """Whether a callback is signed with the account's secret; compared in constant time.

        Names of headers are in lower case.
        """

    def receipts(self, account: Account, headers: Mapping[str, str], body: bytes) -> list[Receipt]:
        """What a genuine callback tells; unknown fields and kinds are passed over.

        Raises BadCallback for what cannot be read.
        """

    def handshake(self, account: Account, query: Mapping[str, str]) -> str | None:
        """What a GET of the callback's address is answered; None: there is nothing there."""


@runtime_checkable
class Listening(Protocol):
    """A provider whose callbacks also bring what people write back."""

    def opt_outs(self, account: Account, headers: Mapping[str, str], body: bytes) -> list[OptOut]:
        """Who says in a genuine callback that they want no more. Raises BadCallback."""


def names() -> list[str]:
    """The names of all providers."""
    return sorted(settings.SLIPWAY["PROVIDERS"])


def provider(name: str) -> Provider:
    """The provider of this name in SLIPWAY["PROVIDERS"]. Raises UnknownProvider."""
    path = settings.SLIPWAY["PROVIDERS"].get(name)
    if path is None:
        raise UnknownProvider(f"Use one of {', '.join(names())}.")
    return _imported(path)


def opened(
    *, id: UUID, provider: str, base_url: str, sender: str, credentials: str, options: str
) -> Account:
    """The account that a claim carries; `credentials` encrypted, `options` as JSON.

    Remembered: a campaign's messages open the same few again and again.
    Raises webhooks.secrets.KeyLost.
    """
    ring = tuple(settings.STORED_SECRET_KEYS)
    return _opened(id, provider, base_url, sender, credentials, options, ring)


def sealed(credentials: Mapping[str, str]) -> str:
    """What may be stored of credentials."""
    return secrets.encrypt(orjson.dumps(dict(credentials)).decode())


def shown(
    url: str, body: bytes, headers: Mapping[str, str], *, secret: Sequence[str], template: str = ""
) -> dict[str, Any]:
    """What an attempt keeps of a request: no body, since it says who is written to, and what.

    `secret` names the headers (in lower case) that are credentials.
    """
    kept: dict[str, Any] = {
        "method": "POST",
        "url": url,
        "headers": {k: REDACTED if k.lower() in secret else v for k, v in headers.items()},
        "body_bytes": len(body),
        "body_sha256": sha256(body).hexdigest(),
    }
    return kept | ({"template": template} if template else {})


def masked(text: str) -> str:
    """The text without what may be phone numbers: for answers and errors that are kept."""
    return _PHONE.sub(_MASK, text)


@cache
def _imported(path: str) -> Provider:
    found: Provider = import_string(path)
    return found


@lru_cache(maxsize=4096)
def _opened(
    id: UUID,
    provider: str,
    base_url: str,
    sender: str,
    credentials: str,
    options: str,
    ring: tuple[str, ...],
) -> Account:
    plain = orjson.loads(secrets.decrypt(credentials))
    return Account(id, provider, base_url.rstrip("/"), sender, plain, orjson.loads(options))
