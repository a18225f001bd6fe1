"""What operators do to tenants and keys. What needs the layers above is added there."""

from typing import cast

from config.admin.acts import Act, Asked
from config.problems import Problem
from tenants import keys, services
from tenants.context import NOWHERE, TenantRef
from tenants.models import ApiKey, PlatformKey, Tenant
from tenants.problems import TenantNotFound
from tenants.states import TenantStatus

OPERATOR = "operator"


def ref_of(tenant_id: int) -> TenantRef:
    """What the database must know of a tenant, for services that work in its context.

    Raises TenantNotFound.
    """
    found = Tenant.objects.using(OPERATOR).filter(pk=tenant_id).first()
    if found is None:
        raise TenantNotFound
    ref: TenantRef = found.ref
    return ref


def _suspend(tenant: Tenant, asked: Asked) -> None:
    services.suspend(tenant_id=tenant.pk, actor=asked.actor, reason=asked.reason)


def _reopen(tenant: Tenant, asked: Asked) -> None:
    # Whoever confirms it sees how it stands; what stands otherwise by then is refused.
    services.reopen(
        tenant_id=tenant.pk, source=tenant.status, actor=asked.actor, reason=asked.reason
    )


def _revoke(key: ApiKey, asked: Asked) -> None:
    tenant = TenantRef(cast("int", key.tenant_id), NOWHERE)
    said = {"actor": asked.actor, "reason": asked.reason}
    keys.revoke(tenant=tenant, prefix=key.prefix, using=OPERATOR, **said)


def _revoke_platform(key: PlatformKey, asked: Asked) -> None:
    keys.revoke_platform(prefix=key.prefix, actor=asked.actor, reason=asked.reason)


TENANTS = (
    Act(
        name="suspend",
        label="Suspend",
        permission="suspend",
        done="suspended",
        means="Its pages and keys answer 403 and its work waits; nothing of it is lost.",
        do=_suspend,
        fits=lambda tenant: tenant.status == TenantStatus.ACTIVE,
    ),
    Act(
        name="reopen",
        label="Reopen",
        permission="suspend",
        done="reopened",
        do=_reopen,
        means="What waited meanwhile goes on. One that is closing keeps everything, too, and is"
        " suspended again if it was when it was closed.",
        fits=lambda tenant: (
            tenant.status == TenantStatus.SUSPENDED
            or (tenant.status == TenantStatus.CLOSING and tenant.closes_at is not None)
        ),
    ),
)
API_KEYS = (
    Act(
        name="revoke",
        label="Revoke",
        permission="revoke",
        done="revoked",
        means="Whoever uses it is refused within seconds. It cannot be taken back.",
        do=_revoke,
        fits=lambda key: key.revoked_at is None,
        refusals=(Problem,),
    ),
)
PLATFORM_KEYS = (
    Act(
        name="revoke",
        label="Revoke",
        permission="revoke",
        done="revoked",
        means="Whoever uses it is refused within seconds. It cannot be taken back.",
        do=_revoke_platform,
        fits=lambda key: key.revoked_at is None,
        refusals=(Problem,),
    ),
)
