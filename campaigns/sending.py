"""What a message sends, and what of it and of the answer its attempt keeps.

Made of the claim alone: the campaign's content, the message's own parameters, and the account. What
is personal in it (the number, the text) goes out, and is kept nowhere but in the message's row.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from uuid import UUID

import orjson

from campaigns import parts, variables
from campaigns.parts import Parts
from campaigns.providers import REDACTED, Account, Outgoing, Provider, Request, masked, opened
from campaigns.providers import provider as provider_named
from jobs.outcomes import Exchange
from jobs.steps import Claim
from webhooks.answers import Answer

_SECRET_ANSWERS = frozenset({"set-cookie", "www-authenticate", "authorization"})


@dataclass(frozen=True, slots=True)
class Content:
    """What a campaign says to everybody, before it is made out to one."""

    parts: Parts
    external_name: str
    language: str
    # Of the text, in the order in which it names them first; of the header; of buttons.
    variables: tuple[str, ...]
    header: tuple[str, ...] = ()
    buttons: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Sending:
    """One message on its way: through whom, and the request."""

    provider: Provider
    account: Account
    request: Request

    @property
    def idempotent(self) -> bool:
        """Whether it may be sent again, and is sent once."""
        return self.provider.idempotent(self.account)

    def exchange(self, answer: Answer | None) -> Exchange:
        """What its attempt keeps."""
        return Exchange(self.request.shown, None if answer is None else _shown(answer))


def account_of(data: Mapping[str, Any]) -> tuple[Provider, Account]:
    """The provider and the account that a claim names. Raises UnknownProvider, KeyLost."""
    account = opened(
        id=data["account_id"],
        provider=data["provider"],
        base_url=data["base_url"],
        sender=data["sender"],
        credentials=data["credentials"],
        options=data["options"],
    )
    return provider_named(account.provider), account


def sending(claim: Claim, provider: Provider, account: Account) -> Sending:
    """The request of a claimed message."""
    data = claim.data
    content = _content(data["content"])
    message = outgoing(claim.id, content, phone=data["phone"], params=data["params"])
    return Sending(provider, account, provider.request(account, message))


def outgoing(id: UUID, content: Content, *, phone: str, params: Mapping[str, str]) -> Outgoing:
    """What a provider is given to send."""
    return Outgoing(
        message_id=id,
        phone=phone,
        text=parts.render(content.parts, params),
        params=params,
        variables=content.variables,
        header=content.header,
        buttons=content.buttons,
        external_name=content.external_name,
        language=content.language,
    )


@lru_cache(maxsize=1024)
def _content(kept: str) -> Content:
    """Campaign.content, from its JSON: a campaign's messages all bring the same."""
    said = orjson.loads(kept)
    apart = parts.read(said)
    named = {index: variables.names(url) for index, url in sorted(apart.buttons.items())}
    return Content(
        apart,
        said.get("external_name", ""),
        said.get("language", "en"),
        tuple(variables.names(apart.text)),
        tuple(variables.names(apart.header)),
        {index: found[0] for index, found in named.items() if found},
    )


def _shown(answer: Answer) -> dict[str, Any]:
    return {
        "status": answer.status,
        "headers": {
            name: REDACTED if name in _SECRET_ANSWERS else value
            for name, value in answer.headers.items()
        },
        "body": masked(answer.body),
        "truncated": answer.truncated,
        "address": answer.address,
    }
