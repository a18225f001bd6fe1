"""What an endpoint says to its lane: how fast, how many at once, and whether at all.

Written in the transaction that changes the endpoint, so that the engine never sees one without the
other.
"""

from datetime import UTC, datetime
from typing import Any

from django.db import connection
from django.db.models import F

from jobs.lanes import HEALTHY
from jobs.models import Lane
from jobs.services import wake_after_commit
from tenants.context import require_tenant
from webhooks.models import Endpoint

NEVER = datetime(9999, 12, 31, tzinfo=UTC)  # What Python can read, unlike infinity.

_MIRROR = """
insert into jobs_lane (tenant_id, key, rate, "window") values (%s, %s, %s, %s)
on conflict (tenant_id, key) do update set rate = excluded.rate, "window" = excluded."window"
"""
_SHUT = """
insert into jobs_lane (tenant_id, key, paused_until, paused_why) values (%s, %s, %s, %s)
on conflict (tenant_id, key) do update
  set paused_until = excluded.paused_until, paused_why = excluded.paused_why
"""


def mirror(endpoint: Endpoint) -> None:
    """Let the lane be as its endpoint says. Where there is nothing to say there need be no row."""
    says = endpoint.rate is not None or endpoint.max_in_flight is not None
    if says or Lane.objects.filter(key=endpoint.lane).exists():
        _execute(_MIRROR, endpoint, endpoint.rate, endpoint.max_in_flight)
        wake_after_commit("deliveries")  # It may be faster now.


def begin_afresh(endpoint: Endpoint) -> None:
    """Forget how the endpoint fared: it leads elsewhere now. Who else paused it did so for good."""
    rows = Lane.objects.filter(key=endpoint.lane)
    rows.filter(paused_until=F("opened_until")).update(paused_until=None, paused_why="")
    rows.update(**HEALTHY)
    wake_after_commit("deliveries")


def shut(endpoint: Endpoint, *, why: str) -> None:
    """Claim nothing from the lane until it is opened: not even what was published just now."""
    _execute(_SHUT, endpoint, NEVER, why)


def open_again(endpoint: Endpoint) -> None:
    """Claim from the lane again, as if it had never failed: else its past would shut it at once.

    An operator's word about the lane stands.
    """
    Lane.objects.filter(key=endpoint.lane).update(paused_until=None, paused_why="", **HEALTHY)
    wake_after_commit("deliveries")


def _execute(statement: str, endpoint: Endpoint, *values: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, [require_tenant().id, endpoint.lane, *values])
