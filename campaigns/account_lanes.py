"""What an account says to its lane row: how fast, how many at once, and whether at all.

All campaigns of the account share it. Written in the transaction that changes the account, so that
the engine never sees one without the other.
"""

from typing import Any

from django.db import connection
from django.db.models.functions import Now

from campaigns.lanes import NEVER, QUEUE
from campaigns.models import ProviderAccount
from jobs.lanes import HEALTHY, SHUT_FROM
from jobs.models import Lane
from jobs.services import wake_after_commit
from tenants.context import require_tenant

_MIRROR = """
insert into jobs_lane (tenant_id, key, rate, "window") values (%s, %s, %s, %s)
on conflict (tenant_id, key) do update set rate = excluded.rate, "window" = excluded."window"
"""
_SHUT = """
insert into jobs_lane (tenant_id, key, paused_until, paused_why) values (%s, %s, %s, %s)
on conflict (tenant_id, key) do update
  set paused_until = excluded.paused_until, paused_why = excluded.paused_why
"""


def mirror(account: ProviderAccount) -> None:
    """Let the row say what is declared: there is one as soon as there is an account."""
    _execute(_MIRROR, account, account.rate, account.max_in_flight)
    wake_after_commit(QUEUE)  # It may be faster now.


def begin_afresh(account: ProviderAccount) -> None:
    """Forget how it fared, and what it was to wait for: it is another now.

    What is shut until somebody opens it stays so.
    """
    rows = Lane.objects.filter(key=account.key)
    rows.filter(paused_until__lt=SHUT_FROM).update(paused_until=None, paused_why="")
    rows.update(**HEALTHY)
    wake_after_commit(QUEUE)


def shut(account: ProviderAccount, *, why: str) -> None:
    """Claim nothing that goes through it until it is opened."""
    _execute(_SHUT, account, NEVER, why[:200])


def open_again(account: ProviderAccount) -> bool:
    """Claim again, as if it had never failed: else its past would shut it at once.

    An operator's word about the lane stands. Says whether anything held it.
    """
    rows = Lane.objects.filter(key=account.key)
    held = rows.filter(paused_until__gt=Now()).exists()
    rows.update(paused_until=None, paused_why="", **HEALTHY)
    wake_after_commit(QUEUE)
    return held


def _execute(statement: str, account: ProviderAccount, *values: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, [require_tenant().id, account.key, *values])
