"""Waiting for an event, but not for ever."""

import asyncio
import contextlib


async def happens(event: asyncio.Event, *, within: float) -> None:
    """Return when `event` is set, or after so many seconds.

    asyncio.wait_for makes a task of the waiting: being woken takes two more turns of the loop.
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(within):
            await event.wait()
