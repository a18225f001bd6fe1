"""Watching campaigns for the stream process: one look for each tenant whose campaigns are watched.

As the app role, in that tenant's context: what it may not see cannot be streamed by mistake.
"""

import time
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID

import psycopg
from django.conf import settings

from campaigns.progress import COLUMNS, Standing, significant
from campaigns.states import CampaignState
from config.watching import Watcher
from tenants.context import NOWHERE
from tenants.postgres import token
from tenants.postgres.connections import conninfo

WINDOW = 15.0  # Seconds over which the rate is measured.
LEAST = 2.0  # Seconds before it says anything.
_CONTEXT_SECONDS = 60

_CLOCK = "select extract(epoch from clock_timestamp())::bigint"
_LOOK = f"""
select {", ".join(COLUMNS)} from public.campaigns_campaign where tenant_id = %s and id = any(%s)
"""  # noqa: S608 - constants.


class Watch(NamedTuple):
    """Whose campaign is watched, and which."""

    tenant_id: int
    campaign_id: UUID


class Seen(NamedTuple):
    """How far a campaign is, and at which rate it went on lately; None while that is unknown."""

    standing: Standing
    rate: float | None


class CampaignWatcher(Watcher[Watch, Seen]):
    """Campaigns, by tenant and id."""

    seconds = 0.7

    def __init__(self) -> None:
        super().__init__()
        self._paces: dict[Watch, deque[tuple[float, int]]] = {}

    async def connect(self) -> psycopg.AsyncConnection[Any]:
        return await psycopg.AsyncConnection.connect(**conninfo("default"), autocommit=True)

    async def find(
        self, connection: psycopg.AsyncConnection[Any], keys: Sequence[Watch]
    ) -> Mapping[Watch, Seen]:
        of_tenant: dict[int, list[UUID]] = defaultdict(list)
        for key in keys:
            of_tenant[key.tenant_id].append(key.campaign_id)
        self._paces = {key: self._paces.get(key, deque()) for key in keys}
        found = {}
        for tenant_id, ids in of_tenant.items():
            await _enter(connection, tenant_id)
            cursor = await connection.execute(_LOOK, [tenant_id, ids])
            for row in await cursor.fetchall():
                key, standing = Watch(tenant_id, row[0]), Standing(*row)
                found[key] = Seen(standing, _rate(self._paces[key], standing))
        return found


def _rate(pace: deque[tuple[float, int]], standing: Standing) -> float | None:
    """Messages a second over the last WINDOW, of which `pace` keeps the looks."""
    if standing.state != CampaignState.RUNNING:
        pace.clear()
        return None
    now = time.monotonic()
    pace.append((now, standing.done))
    while now - pace[0][0] > WINDOW:
        pace.popleft()
    since, done = pace[0]
    return significant((standing.done - done) / (now - since)) if now - since > LEAST else None


async def _enter(connection: psycopg.AsyncConnection[Any], tenant_id: int) -> None:
    """As tenants.postgres does it for Django's connections."""
    row = await (await connection.execute(_CLOCK)).fetchone()
    context = token.sign(
        settings.CONTEXT_KEY,
        tenant_id=tenant_id,
        expires_at=int(row[0] if row else 0) + _CONTEXT_SECONDS,
        pid=0 if settings.DATABASE_PROXIED else connection.info.backend_pid,
    )
    await connection.execute("select slipway.enter_tenant(%s, %s)", [NOWHERE, context])
