"""Stand-ins for a mail server and an object store, on loopback, with a stated latency each.

`python -m benchmarks.standins SMTP_PORT SMTP_MS STORAGE_PORT STORAGE_MS`
"""

import asyncio
import sys
from typing import Any

import uvloop
from aiohttp import web
from aiosmtpd.smtp import SMTP


class Mailbox:
    """Takes every mail, after `delay` seconds, and forgets it."""

    def __init__(self, delay: float) -> None:
        self._delay = delay

    async def handle_DATA(self, *_: Any) -> str:
        await asyncio.sleep(self._delay)
        return "250 OK"


class Bucket:
    """As much of S3 as PUT, GET and HEAD of small objects, each after `delay` seconds."""

    def __init__(self, delay: float) -> None:
        self._delay = delay
        self._objects: dict[str, bytes] = {}

    async def answer(self, request: web.Request) -> web.Response:
        body = await request.read()
        await asyncio.sleep(self._delay)
        if request.method == "PUT":
            self._objects[request.path] = body
            return web.Response(headers={"ETag": '"0"'})
        found = self._objects.get(request.path)
        if found is None:
            return web.Response(status=404, content_type="application/xml", body=_MISSING)
        return web.Response(body=found, headers={"ETag": '"0"'})


_MISSING = b"<Error><Code>NoSuchKey</Code><Message>None here.</Message></Error>"


async def serve(smtp_port: int, smtp_ms: int, storage_port: int, storage_ms: int) -> None:
    """Serve until the process is ended."""
    mailbox, bucket = Mailbox(smtp_ms / 1000), Bucket(storage_ms / 1000)
    loop = asyncio.get_running_loop()

    def session() -> SMTP:
        # Named, or it would ask the name service who it is, at every connection.
        return SMTP(mailbox, hostname="localhost", loop=loop)

    await loop.create_server(session, "127.0.0.1", smtp_port)
    application = web.Application()  # Which answers Expect: 100-continue; boto3 waits for it.
    application.router.add_route("*", "/{path:.*}", bucket.answer)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", storage_port).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve(*(int(word) for word in sys.argv[1:5])))
