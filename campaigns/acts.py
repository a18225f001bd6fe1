"""What operators do to campaigns, accounts and messages: as their tenants would, under RLS."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

from campaigns import accounts, lanes, services
from campaigns.models import Campaign, Message, ProviderAccount
from campaigns.states import CANCELLABLE, AccountStatus, CampaignState
from config.admin.acts import Act, Asked
from jobs import acts
from tenants.acts import ref_of
from tenants.context import tenant_context
from tenants.models import TenantOwned
from tenants.routers import as_app

S = CampaignState


@contextmanager
def _in_its_tenant(row: TenantOwned) -> Iterator[None]:
    ref = ref_of(_tenant_of(row))
    with as_app(), tenant_context(ref):
        yield


def _tenant_of(row: TenantOwned) -> int:
    return cast("int", row.tenant_id)


def _said(asked: Asked) -> dict[str, Any]:
    return {"actor": asked.actor, "reason": asked.reason}


def _pause(campaign: Campaign, asked: Asked) -> None:
    with _in_its_tenant(campaign):
        services.pause(campaign_id=campaign.pk, **_said(asked))


def _resume(campaign: Campaign, asked: Asked) -> None:
    with _in_its_tenant(campaign):
        services.resume(campaign_id=campaign.pk, **_said(asked))


def _cancel(campaign: Campaign, asked: Asked) -> None:
    with _in_its_tenant(campaign):
        services.cancel(campaign_id=campaign.pk, **_said(asked))


def _pause_account(account: ProviderAccount, asked: Asked) -> None:
    with _in_its_tenant(account):
        accounts.pause(account_id=account.pk, **_said(asked))


def _resume_account(account: ProviderAccount, asked: Asked) -> None:
    with _in_its_tenant(account):
        accounts.resume(account_id=account.pk, **_said(asked))


CAMPAIGNS = (
    Act(
        name="pause",
        label="Pause",
        permission="steer",
        done="paused",
        means="It sends no more for now; what is under way comes to its end.",
        do=_pause,
        fits=lambda campaign: campaign.state in (S.MATERIALISING, S.RUNNING),
    ),
    Act(
        name="resume",
        label="Resume",
        permission="steer",
        done="resumed",
        do=_resume,
        fits=lambda campaign: campaign.state == S.PAUSED,
    ),
    Act(
        name="cancel",
        label="Cancel",
        permission="cancel",
        done="cancelled",
        means="It sends no more for good: what waits is withdrawn.",
        do=_cancel,
        fits=lambda campaign: campaign.state in CANCELLABLE,
    ),
    *acts.of_lanes(lambda campaign: (campaign.lane, _tenant_of(campaign))),
)
ACCOUNTS = (
    Act(
        name="pause",
        label="Pause",
        permission="steer",
        done="paused",
        means="Nothing is sent through it for now; what is under way comes to its end.",
        do=_pause_account,
        fits=lambda account: account.status == AccountStatus.ACTIVE and account.deleted_at is None,
    ),
    Act(
        name="resume",
        label="Resume",
        permission="steer",
        done="resumed",
        means="It sends again at once: what its lane was to wait for is forgotten, too.",
        do=_resume_account,
        fits=lambda account: account.status == AccountStatus.PAUSED and account.deleted_at is None,
    ),
    *acts.of_lanes(lambda account: (account.key, _tenant_of(account))),
)
MESSAGES = acts.of_works(lanes.QUEUE, Message)
