"""GET /v1/onboard/{request_id}/events: a sign-up's way as Server-Sent Events.

Served by the process `stream` (config.streams). An event's id is its place in the sign-up's way, so
that a browser that comes back with Last-Event-ID hears what it missed and nothing twice.
"""

import re
from collections.abc import AsyncIterator, Mapping
from typing import Any

from config.ids import InvalidId, parse_id
from config.problems import Unavailable
from config.streams import FIRST_LOOK, STILL_HERE, Answer, Scope, event, header, looks
from config.watching import Watched
from onboarding.errors import UnknownRequest
from onboarding.states import Progress
from onboarding.status import SignUpRow, public
from onboarding.watching import SignUpWatcher


class SignUps:
    """A config.streams.Stream: the request's id is the secret that lets one listen."""

    path = re.compile(r"/v1/onboard/([^/]{1,100})/events")

    def __init__(self) -> None:
        self._watcher = SignUpWatcher()

    async def tell(self, about: str, scope: Scope, answer: Answer) -> None:
        """Raises UnknownRequest, and Unavailable while the database is away."""
        try:
            request_id = parse_id("req", about)
        except InvalidId:
            raise UnknownRequest from None
        with self._watcher.watch(request_id) as watched:
            try:
                row = await watched.first(timeout=FIRST_LOOK)
            except TimeoutError:
                raise Unavailable(headers={"Retry-After": "2"}) from None
            if row is None:
                raise UnknownRequest
            seen = _number(header(scope, b"last-event-id"))
            await answer.send_events(events(watched, seen=seen))

    async def stop(self) -> None:
        await self._watcher.stop()


SIGN_UPS = SignUps()


async def events(watched: Watched[SignUpRow], *, seen: int) -> AsyncIterator[bytes]:
    """What comes after event number `seen`, until the end."""
    async for row, new in looks(watched):
        if not new:
            yield STILL_HERE
        way = story(row)
        for number, (name, data) in enumerate(way, start=1):
            if number > seen:
                yield event(number, name, data)
        seen = max(seen, len(way))
        if row.retry_after is None:
            return


def story(row: SignUpRow) -> list[tuple[str, Mapping[str, Any]]]:
    """What has happened to a sign-up so far, in order; it only ever grows at its end."""
    told = public(row)
    done = [step for step in told["steps"] if step["state"] == "done"]
    way: list[tuple[str, Mapping[str, Any]]] = []
    if row.progress != Progress.PENDING:
        way.append(("status", {"status": Progress.PROVISIONING}))
    way += [("step", step) for step in done]
    if row.progress in {Progress.READY, Progress.CANCELLED}:
        way.append(("status", {"status": row.progress, "tenant": told["tenant"]}))
    return way


def _number(last_event_id: str) -> int:
    """How much the client has heard; nothing, when it says what we never said."""
    known = last_event_id.isascii() and last_event_id.isdigit() and len(last_event_id) < 6
    return int(last_event_id) if known else 0
