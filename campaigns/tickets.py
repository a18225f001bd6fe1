"""Tickets: that somebody may watch one campaign's progress for an hour or two.

A browser's EventSource sends no headers, and a page is no place for an API key. A ticket stands in
the address that the campaign's own JSON names; it shows counters and nothing else. It is the same
for an hour, so that the campaign's ETag is.
"""

from uuid import UUID

from django.core import signing
from django.utils import timezone

from config.problems import Unauthorized

_HOUR = 3600
_LONGEST = 300  # Characters.
_signer = signing.Signer(salt="campaigns.tickets")


class InvalidTicket(Unauthorized):
    """This address does not lead to a campaign's progress any more."""

    code = "invalid_ticket"


def make(*, tenant_id: int, campaign_id: UUID) -> str:
    """A ticket that holds for one hour at least, and for two at most."""
    until = (int(timezone.now().timestamp()) // _HOUR + 2) * _HOUR
    return _signer.sign_object([tenant_id, str(campaign_id), until])


def tenant_of(ticket: str, *, campaign_id: UUID) -> int:
    """Whose campaign it lets one watch. Raises InvalidTicket."""
    try:
        if len(ticket) > _LONGEST:
            raise ValueError
        tenant_id, named, until = _signer.unsign_object(ticket)
        if named != str(campaign_id) or until <= timezone.now().timestamp():
            raise ValueError
    except (signing.BadSignature, ValueError, TypeError):
        raise InvalidTicket from None
    return int(tenant_id)
