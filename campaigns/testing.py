"""A campaign's message to a phone that its tenant names, before the others or beside them.

It goes out whatever the campaign does, in a lane of its own, and nobody counts it.
"""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from django.db import transaction

from campaigns import generators, moves, parts, variables
from campaigns.checking import TEMPLATE
from campaigns.errors import ContentMissing, InvalidTest
from campaigns.models import Campaign, Message, ProviderAccount
from campaigns.policy import TRIES
from campaigns.states import AccountStatus
from config.problems import FieldError, escape
from customers import phones
from jobs.services import wake_after_commit

QUEUE = "messages"
VALUE_MOST = 1000  # Characters.


def test_send(*, campaign_id: UUID, phone: str, params: Mapping[str, str], actor: str) -> Message:
    """Send the campaign's message to a phone that its tenant names; nobody counts it.

    Raises CampaignNotFound, InvalidTest with every error, ContentMissing.
    """
    with transaction.atomic():
        campaign = moves.locked(campaign_id)
        content = _content(campaign)
        errors = [*_phone_flaws(phone), *_flaws(content, params), *_account_flaws(campaign)]
        if errors:
            raise InvalidTest(errors=errors)
        if campaign.content is None:  # What is sent is read from there.
            Campaign.objects.filter(pk=campaign.pk, content__isnull=True).update(content=content)
        message = Message(
            tenant_id=campaign.tenant_id,
            campaign=campaign,
            lane=f"campaign-test:{campaign.pk}",
            account_key=f"account:{campaign.account_id}",
            phone=phones.normalise(phone),
            params=dict(params),
            test=True,
            max_attempts=TRIES.attempts,
        )
        message.save(force_insert=True)
        moves.record(campaign, "tested", actor=actor, after={"message": f"msg_{message.pk}"})
        wake_after_commit(QUEUE, tenant_id=campaign.tenant_id)
    message.refresh_from_db()
    return message


def _content(campaign: Campaign) -> dict[str, Any]:
    """What would be sent. Raises ContentMissing while a generator has yet to make it."""
    if campaign.content is not None:
        return dict(campaign.content)
    if campaign.generator != TEMPLATE:
        raise ContentMissing
    return generators.from_template(campaign.brief, campaign).as_json()


def _phone_flaws(phone: str) -> list[FieldError]:
    try:
        phones.normalise(phone)
    except phones.InvalidPhone:
        return [FieldError("/phone", "invalid_phone", "Use the form +49 30 123456.")]
    return []


def _flaws(content: Mapping[str, Any], params: Mapping[str, str]) -> list[FieldError]:
    names = list(variables.names(parts.read(content).whole))
    told = {name: ("required", "The text names it.") for name in names if not params.get(name)}
    for name, value in params.items():
        if name not in names:
            told[name] = ("unknown_variable", "The text does not name it.")
        elif len(value) > VALUE_MOST:
            told[name] = ("too_long", f"At most {VALUE_MOST} characters.")
    return [FieldError(f"/params/{escape(name)}", *flaw) for name, flaw in told.items()]


def _account_flaws(campaign: Campaign) -> list[FieldError]:
    rows = ProviderAccount.objects.filter(pk=campaign.account_id, deleted_at=None)
    if rows.filter(status=AccountStatus.ACTIVE).exists():
        return []
    return [FieldError("", "account_paused", "Its account is paused, or was deleted.")]
