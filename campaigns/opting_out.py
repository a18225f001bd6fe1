"""Whoever writes to a provider's number that they want no more is not written to again.

Done in the callback itself, before it is answered: nobody's number waits in a job's args, and a
callback that broke off is sent again. Said twice, or a week late, it is done once.
"""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import datetime

import structlog

from campaigns.models import Message, ProviderAccount
from campaigns.providers import OptOut
from config.ids import format_id
from customers import consent
from customers.phones import InvalidPhone, normalise

log = structlog.get_logger(__name__)


def hear(account: ProviderAccount, said: Sequence[OptOut]) -> int:
    """Withdraw the consent of everybody who opted out; how many numbers were told of.

    What was said to the number of another business is none of this tenant's: an app of Meta's has
    one address for all of its numbers.
    """
    own = set(_senders(account))
    source = f"provider:{format_id('acc', account.pk)}"
    told: dict[str, tuple[datetime, str]] = {}
    for one in said:
        if one.sender in own:
            for phone in _phones(one):
                told[phone] = max(told.get(phone, (one.at, one.why)), (one.at, one.why))
    for phone, (at, why) in sorted(told.items()):
        if not consent.withdrawn_since(at, phone=phone, source=source):
            consent.withdraw(phone=phone, source=source, reason=why)
    if told:
        log.info("opt_outs_heard", account=str(account.pk), count=len(told))
    return len(told)


def _senders(account: ProviderAccount) -> Iterable[str]:
    rows = ProviderAccount.objects.filter(provider=account.provider, base_url=account.base_url)
    return rows.values_list("sender", flat=True)


def _phones(said: OptOut) -> set[str]:
    """The numbers of one person: theirs by their provider, and the one that was written to.

    Some countries' are spelled otherwise there: a Mexican's with a 1 that no longer is.
    """
    phones = set()
    with suppress(InvalidPhone):
        phones.add(normalise(said.phone))
    if said.answered:
        rows = Message.objects.filter(provider_id=said.answered).exclude(phone="")
        phones |= set(rows.values_list("phone", flat=True))
    return phones
