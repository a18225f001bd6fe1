"""Accounts whose provider has been away for long: beat looks for them each minute, and pauses them.

A breaker tries again each minute for as long as there are messages, and each try may cost one of
them its own. After ten minutes of that somebody should know, and say when it is to go on: the
account is paused, with the reason, and its tenant's owners are told by mail, once a day.

What counts is how long the breaker has kept it shut since a message last went through, as its
openings say: an account that failed once, and then had nothing to send for a day, has not failed
for a day.
"""

from uuid import UUID

import structlog
from django.conf import settings
from django.db import connections, transaction

from campaigns import account_notices, accounts
from campaigns.account_notices import ACTOR
from campaigns.errors import AccountNotFound
from campaigns.models import ProviderAccount
from campaigns.policy import BREAKER
from config.ids import format_id
from jobs.models import Lane
from tenants.context import NOWHERE, TenantRef, tenant_context

OPERATOR = "operator"
_PREFIX = "account:"
_BREAKER = "breaker: "  # What the engine puts before the last error.
# By lane_failing: the few that fail.
_FAILING = """
select a.tenant_id, a.id from jobs_lane l
join campaigns_provideraccount a
  on a.tenant_id = l.tenant_id and 'account:' || a.id = l.key
where l.failing_since is not null and l.trips >= %s
  and a.status = 'active' and a.deleted_at is null
order by l.failing_since limit 1000
"""

log = structlog.get_logger(__name__)


def tend() -> int:
    """Pause the accounts whose breaker has been open for too long; how many. The operator's."""
    with connections[OPERATOR].cursor() as cursor:
        cursor.execute(_FAILING, [trips()])
        found = cursor.fetchall()
    return sum(_pause(tenant_id, account_id) for tenant_id, account_id in found)


def trips() -> int:
    """The opening of the breaker before which it has kept an account shut for long enough.

    SLIPWAY["CAMPAIGNS"]["pause_after"] says for how long, in seconds. Its own pauses are counted,
    without what the tries between them took.
    """
    left, n = float(settings.SLIPWAY["CAMPAIGNS"]["pause_after"]), 0
    while left > 0:
        left -= BREAKER.pauses[min(n, len(BREAKER.pauses) - 1)]
        n += 1
    return n + 1


def _pause(tenant_id: int, account_id: UUID) -> bool:
    """In its tenant's context; whether it still was to be paused."""
    # All that is written is in tables that the tenants share.
    with tenant_context(TenantRef(tenant_id, NOWHERE)), transaction.atomic():
        lane = Lane.objects.filter(key=f"{_PREFIX}{account_id}", trips__gte=trips()).first()
        if lane is None:  # A message went through, or somebody changed the account.
            return False
        error = lane.paused_why.removeprefix(_BREAKER)
        reason = f"its provider has failed for long: {error}"[:200]
        try:
            account = accounts.find(account_id)
            changed = accounts.pause(account_id=account_id, reason=reason, actor=ACTOR)
        except AccountNotFound:  # Deleted meanwhile.
            return False
        if changed:
            _tell(account, tenant_id, error)
            log.info("account_paused", tenant_id=tenant_id, account_id=str(account_id))
    return changed


def _tell(account: ProviderAccount, tenant_id: int, error: str) -> None:
    words = {
        "account_id": format_id("acc", account.pk),
        "account_name": account.name,
        "reason": error,
    }
    account_notices.mail(tenant_id, "account_failing", account.pk, words)
