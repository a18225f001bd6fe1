"""The address of a closed tenant: nobody else gets it before the quarantine is over.

Links to it are still about in mails and on pages, and whoever had it may not be found in another's
hands. Then the tenant's row lets go of it: its slug becomes one that no sign-up can ask for.
"""

from datetime import timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet
from django.db.models.functions import Now

from config.ids import format_id
from tenants import audit, hosts
from tenants.models import Domain, Tenant
from tenants.services import OPERATOR
from tenants.states import TenantStatus

ACTOR = "system:closing"
AT_ONCE = 500
# Hyphens in the third and fourth place: onboarding.slugs refuses them.
NOBODYS = "c0--"


def over() -> QuerySet[Tenant]:
    """The closed tenants whose quarantine is over, and that still hold their address."""
    kept = timedelta(days=float(settings.SLIPWAY["CLOSING"]["quarantine"]))
    rows = Tenant.objects.using(OPERATOR).filter(
        status=TenantStatus.CLOSED, closed_at__lt=Now() - kept
    )
    held: QuerySet[Tenant] = rows.exclude(slug__startswith=NOBODYS)
    return held


def free() -> int:
    """Let go of their addresses; says how many."""
    found = list(over()[:AT_ONCE])
    for tenant in found:
        _free(tenant)
    return len(found)


def _free(tenant: Tenant) -> None:
    domains = Domain.objects.using(OPERATOR).filter(tenant_id=tenant.pk)
    with transaction.atomic(using=OPERATOR):
        gone = list(domains.values_list("domain", flat=True))
        domains.delete()
        rows = Tenant.objects.using(OPERATOR).filter(pk=tenant.pk, slug=tenant.slug)
        if rows.update(slug=f"{NOBODYS}{tenant.uuid.hex}"):
            audit.record(
                actor=ACTOR,
                action="tenant.address_freed",
                target=format_id("tnt", tenant.uuid),
                tenant_id=tenant.pk,
                using=OPERATOR,
            )
    hosts.forget(gone)
