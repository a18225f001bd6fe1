"""What goes wrong with a message: name → what is done instead of accepting it and saying so.

Each fault is a coroutine over an exchange (campaigns.sandbox.exchange): the answer, or an end of
the connection. Those that begin with `accept_`, and every useless answer with 200, have the message
accepted: whoever sends it again sends it twice.
"""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import orjson
from aiohttp import web

if TYPE_CHECKING:
    from campaigns.sandbox.exchange import Exchange

Fault = Callable[["Exchange"], Awaitable[web.Response]]
FAULTS: dict[str, Fault] = {}

DRIP = 0.1  # Seconds between two bytes.
RETRY_AFTER = "1"  # Seconds.


def fault(function: Fault) -> Fault:
    FAULTS[function.__name__] = function
    return function


def said(status: int, body: Any, **headers: str) -> web.Response:
    """An answer in JSON."""
    return web.Response(
        status=status, body=orjson.dumps(body), content_type="application/json", headers=headers
    )


def error(status: int, code: str | int, message: str, **headers: str) -> web.Response:
    """An answer that says what is wrong."""
    return said(status, {"error": {"code": code, "message": message}}, **headers)


# ---- Not accepted ----


@fault
async def hang(exchange: "Exchange") -> web.Response:
    """No answer, ever."""
    return await exchange.never()


@fault
async def reset(exchange: "Exchange") -> web.Response:
    """The connection is reset."""
    return exchange.reset()


@fault
async def error_500(exchange: "Exchange") -> web.Response:
    """It went wrong before the message was accepted; who asked cannot know that."""
    return error(500, "internal", "Something went wrong.")


@fault
async def unavailable(exchange: "Exchange") -> web.Response:
    """503 with this code promises that nothing was accepted."""
    return error(503, "unavailable", "Not now; nothing was accepted.")


@fault
async def too_many(exchange: "Exchange") -> web.Response:
    """429 that does not say until when."""
    return error(429, "too_many_requests", "Too many requests.")


@fault
async def too_many_until(exchange: "Exchange") -> web.Response:
    """429 with Retry-After."""
    return error(429, "too_many_requests", "Too many requests.", **{"Retry-After": RETRY_AFTER})


@fault
async def unauthorized(exchange: "Exchange") -> web.Response:
    """The key is not taken, which it takes as long to find out as to accept."""
    await exchange.work()
    return error(401, "unauthorized", "This key is not known.")


@fault
async def refused(exchange: "Exchange") -> web.Response:
    """This recipient cannot be written to, now or later."""
    return error(422, "undeliverable", f"{exchange.message.to} is not on this service.")


@fault
async def opted_out(exchange: "Exchange") -> web.Response:
    """This recipient wants no messages."""
    return error(422, "opted_out", f"{exchange.message.to} has opted out.")


# ---- Accepted ----


@fault
async def accept_hang(exchange: "Exchange") -> web.Response:
    """Accepted, and never answered."""
    await exchange.accept()
    return await exchange.never()


@fault
async def accept_reset(exchange: "Exchange") -> web.Response:
    """Accepted, and the connection is reset."""
    await exchange.accept()
    return exchange.reset()


@fault
async def accept_500(exchange: "Exchange") -> web.Response:
    """Accepted, and the answer says that it went wrong."""
    await exchange.accept()
    return error(500, "internal", "Something went wrong.")


@fault
async def drip(exchange: "Exchange") -> web.Response:
    """Accepted, and the answer comes byte by byte, without an end."""
    await exchange.accept()
    exchange.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n")
    while True:
        exchange.write(b" ")
        await exchange.wait(DRIP)


@fault
async def html(exchange: "Exchange") -> web.Response:
    """Accepted, and a page comes where JSON should."""
    await exchange.accept()
    return web.Response(text="<html><body>Welcome</body></html>", content_type="text/html")


@fault
async def truncated(exchange: "Exchange") -> web.Response:
    """Accepted, and the JSON breaks off."""
    await exchange.accept()
    return web.Response(body=b'{"id": "sbx-', content_type="application/json")


@fault
async def missing_id(exchange: "Exchange") -> web.Response:
    """Accepted, and the answer does not say as what."""
    await exchange.accept()
    return said(200, {"status": "accepted"})


@fault
async def wrong_length(exchange: "Exchange") -> web.Response:
    """Accepted, and the answer is shorter than it says."""
    await exchange.accept()
    exchange.write(b'HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{"id": "sbx-')
    return exchange.end()
