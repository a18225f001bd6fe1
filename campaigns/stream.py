"""GET /v1/campaigns/{id}/events: a campaign's progress as Server-Sent Events.

Served by the process `stream` (config.streams), to whoever shows a tenant's key, or the ticket that
is in the address which the campaign's JSON names (campaigns.tickets). An event's id stands for what
it says: who comes back with Last-Event-ID is told what differs, and 204 when nothing will any more,
which ends a browser's EventSource.
"""

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator
from urllib.parse import parse_qs
from uuid import UUID

import orjson
from django.db import connections
from django.utils import timezone

from campaigns import tickets
from campaigns.errors import CampaignNotFound
from campaigns.progress import Standing, progress_as_json
from campaigns.states import FINISHED, CampaignState
from campaigns.watching import CampaignWatcher, Seen, Watch
from config.ids import parse_id
from config.problems import Unavailable
from config.streams import (
    FIRST_LOOK,
    HEADERS,
    STILL_HERE,
    Answer,
    Scope,
    as_request,
    event,
    header,
    looks,
)
from config.watching import Watched
from tenants.auth import identify, refuse_unless_active

SCOPE = "campaigns:read"
OVER = (*FINISHED, CampaignState.FAILED)


class Progress:
    """A config.streams.Stream."""

    path = re.compile(r"/v1/campaigns/([^/]{1,100})/events")

    def __init__(self) -> None:
        self._watcher = CampaignWatcher()

    async def tell(self, about: str, scope: Scope, answer: Answer) -> None:
        """Raises CampaignNotFound, InvalidTicket and what a key may be refused for; Unavailable."""
        campaign_id = parse_id("cmp", about)
        try:
            async with asyncio.timeout(FIRST_LOOK):
                tenant_id = await _tenant_of(scope, campaign_id)
        except TimeoutError:
            raise Unavailable(headers={"Retry-After": "2"}) from None
        with self._watcher.watch(Watch(tenant_id, campaign_id)) as watched:
            try:
                seen = await watched.first(timeout=FIRST_LOOK)
            except TimeoutError:
                raise Unavailable(headers={"Retry-After": "2"}) from None
            if seen is None:
                raise CampaignNotFound
            last = header(scope, b"last-event-id")
            if seen.standing.state in OVER and last == mark(seen.standing):
                await answer.begin(204, HEADERS)
                await answer.send(b"", more=False)
                return
            await answer.send_events(events(watched, last=last))

    async def stop(self) -> None:
        await self._watcher.stop()


PROGRESS = Progress()


async def events(watched: Watched[Seen], *, last: str) -> AsyncIterator[bytes]:
    """What differs from what the event `last` said, until the campaign is over."""
    async for seen, new in looks(watched):
        standing, now = seen.standing, timezone.now()
        over = standing.state in OVER
        name = mark(standing)
        if not new:
            yield STILL_HERE
        elif name != last or seen.rate is not None:
            rate = seen.rate if seen.rate is not None else standing.average(now)
            told = progress_as_json(standing, rate, now)
            yield event(name, "finished" if over else "progress", told)
            last = name
        if over:
            return


def mark(standing: Standing) -> str:
    """A short name for where the campaign stands: another one for each difference."""
    said = orjson.dumps(progress_as_json(standing, None, timezone.now()))
    return hashlib.sha256(said).hexdigest()[:16]


async def _tenant_of(scope: Scope, campaign_id: UUID) -> int:
    """Whose campaigns the caller may watch, or this one of them.

    Raises InvalidTicket; for keys what tenants.auth raises.
    """
    query = parse_qs(scope.get("query_string", b"").decode("latin-1"))
    if ticket := query.get("ticket", [""])[0]:
        return tickets.tenant_of(ticket, campaign_id=campaign_id)
    return await asyncio.to_thread(_by_key, scope)


def _by_key(scope: Scope) -> int:
    try:
        caller = identify(as_request(scope))
        caller.require_scope(SCOPE)
        tenant = caller.tenant_ref
        if caller.tenant is not None and not caller.is_platform:
            refuse_unless_active(caller.tenant)
        return tenant.id
    finally:
        connections.close_all()  # They are this thread's, which comes and goes.
