"""What the receiver does once it has read a request: /<token>/<behaviour>/<arguments…>.

Each behaviour is a function of the connection and the path's arguments (unquoted). Those that are
over at once are plain functions; those that wait are coroutines.
"""

import asyncio
import gzip
import itertools
import os
import random
import zlib
from functools import cache
from http import HTTPStatus

BEHAVIOURS = {}
CHUNK = 64 * 1024


def behaviour(function):
    BEHAVIOURS[function.__name__.replace("_", "-")] = function
    return function


def answer(status=200, body=b"ok", headers=(), *, length=True, version="1.1") -> bytes:
    lines = [f"HTTP/{version} {status} {phrase(status)}", "content-type: text/plain", *headers]
    if length:
        lines.append(f"content-length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def phrase(status: int) -> str:
    try:
        return HTTPStatus(int(status)).phrase
    except ValueError:
        return "Odd"


OK = answer()


@behaviour
def ok(connection):
    connection.write(OK)


@behaviour
def status(connection, *codes):
    """One code; or interim ones (1xx) and then the final one, 200 if none is given."""
    codes = [int(code) for code in codes]
    for code in codes[:-1] if codes[-1] >= 200 else codes:
        connection.write(f"HTTP/1.1 {code} {phrase(code)}\r\nlink: </x>\r\n\r\n".encode())
    final = codes[-1] if codes[-1] >= 200 else 200
    empty = final in {204, 304}
    connection.write(answer(final, b"" if empty else b"said %d" % final, length=not empty))


@behaviour
async def interim_flood(connection):
    """100 Continue, again and again."""
    while connection.alive:
        connection.write(b"HTTP/1.1 100 Continue\r\n\r\n" * 100)
        await asyncio.sleep(0.01)


@behaviour
def upgrade(connection):
    connection.write(
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n"
    )


@behaviour
async def slow(connection, seconds):
    await asyncio.sleep(float(seconds))
    connection.write(OK)


@behaviour
async def moody(connection, seed):
    """Mostly well; now and then slow, refusing, or gone before or after it has read."""
    mood = moods(seed).random()
    if mood < 0.05:
        connection.reset()
    elif mood < 0.08:
        await reset_in_body(connection)
    elif mood < 0.15:
        status(connection, 500)
    elif mood < 0.25:
        await slow(connection, 0.3)
    else:
        connection.write(OK)


@cache
def moods(seed: str) -> random.Random:
    return random.Random(seed)


@behaviour
async def hang(connection):
    await connection.lost.wait()


@behaviour
async def drip_headers(connection, every="0.05"):
    for byte in itertools.chain(b"HTTP/1.1 200 OK\r\n", itertools.cycle(b"x-drop: 1\r\n")):
        if not connection.alive:
            return
        connection.write(bytes([byte]))
        await asyncio.sleep(float(every))


@behaviour
async def drip_body(connection, every="0.05"):
    connection.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n")
    while connection.alive:
        connection.write(b"x")
        await asyncio.sleep(float(every))


@behaviour
def reset(connection):
    """After reading all of it."""
    connection.reset()


@behaviour
async def reset_in_body(connection):
    connection.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\npart")
    await asyncio.sleep(0.05)
    connection.reset()


@behaviour
def close(connection):
    """FIN, without an answer."""
    connection.close()


@behaviour
async def half_open(connection):
    """FIN of our half alone: the client could go on sending."""
    connection.transport.write_eof()
    await connection.lost.wait()


@behaviour
def stale(connection):
    """Answers as if the connection stayed, and closes it."""
    connection.write(OK)
    connection.close()


@behaviour
def trap(connection):
    """Answers, and closes the connection the moment that the next request has come."""
    connection.trapped = True
    connection.write(OK)


@behaviour
def length_short(connection):
    """More bytes than announced."""
    connection.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok and much more")


@behaviour
def length_long(connection):
    """Fewer bytes than announced, and FIN."""
    connection.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nok")
    connection.close()


@behaviour
def length_twice(connection):
    connection.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nokk")


@behaviour
def length_negative(connection):
    connection.write(b"HTTP/1.1 200 OK\r\ncontent-length: -2\r\n\r\nok")


@behaviour
def chunks_bad(connection):
    connection.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nok\r\n0\r\n\r\n")


@behaviour
def second_answer(connection):
    """One answer too many, for whoever uses the connection next."""
    connection.write(OK + answer(500, b"not yours"))


@behaviour
async def gzip_bomb(connection, mebibytes="256"):
    await send_body(connection, bomb(int(mebibytes), 16 + zlib.MAX_WBITS), "gzip")


@behaviour
async def deflate_bomb(connection, mebibytes="256"):
    await send_body(connection, bomb(int(mebibytes), zlib.MAX_WBITS), "deflate")


@behaviour
async def gzip_nothing(connection):
    """Compressed data that never ends and never comes to anything: empty blocks."""
    connection.write(b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\nconnection: close\r\n\r\n")
    connection.write(gzip.compress(b"")[:10])
    while connection.alive:
        connection.write(b"\x00\x00\x00\xff\xff" * 10_000)  # Empty stored blocks.
        await connection.drain()


@behaviour
def gzipped(connection):
    body = gzip.compress(b"small and honest")
    connection.write(answer(200, body, ["content-encoding: gzip"]))


@behaviour
def deflated(connection, form="zlib"):
    bits = zlib.MAX_WBITS if form == "zlib" else -zlib.MAX_WBITS
    packer = zlib.compressobj(9, zlib.DEFLATED, bits)
    body = packer.compress(b"small and honest") + packer.flush()
    connection.write(answer(200, body, ["content-encoding: deflate"]))


@behaviour
def gzip_broken(connection):
    connection.write(answer(200, b"this is not gzip", ["content-encoding: gzip"]))


@behaviour
async def body(connection, size):
    await send_body(connection, b"x" * int(size))


@behaviour
async def endless(connection):
    connection.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
    chunk = b"%x\r\n%s\r\n" % (CHUNK, b"x" * CHUNK)
    while connection.alive:
        connection.write(chunk)
        await connection.drain()


@behaviour
def headers_huge(connection, size="65536"):
    connection.write(answer(200, b"ok", ["x-huge: " + "h" * int(size)]))


@behaviour
def headers_many(connection, count="10000"):
    connection.write(answer(200, b"ok", [f"x-{n}: {n}" for n in range(int(count))]))


@behaviour
async def headers_endless(connection):
    connection.write(b"HTTP/1.1 200 OK\r\n")
    while connection.alive:
        connection.write(b"x-more: and more\r\n" * 1000)
        await connection.drain()


@behaviour
def http10(connection):
    connection.write(b"HTTP/1.0 200 OK\r\ncontent-type: text/plain\r\n\r\nold but good")
    connection.close()


@behaviour
def redirect(connection, code, target):
    connection.write(answer(int(code), b"", [f"location: {target}"]))


@behaviour
def redirect_loop(connection, code="307"):
    connection.write(answer(int(code), b"", [f"location: {connection.path}"]))


@behaviour
def garbage(connection):
    connection.write(b"\x16\x03\x01 this is no HTTP\r\n\r\n")
    connection.close()


@behaviour
def html(connection):
    connection.write(answer(200, b"<script>alert(1)</script>", ["content-type: text/html"]))


@behaviour
def binary(connection):
    connection.write(answer(200, b"\x00\xff\xfe\x00" + os.urandom(64)))


@behaviour
def cookie(connection):
    connection.write(answer(200, b"ok", ["set-cookie: taste=sweet; path=/"]))


@behaviour
def retry_after(connection, code, value):
    connection.write(answer(int(code), b"later", [f"retry-after: {value}"]))


async def send_body(connection, body: bytes, encoding: str = "identity") -> None:
    head = f"HTTP/1.1 200 OK\r\ncontent-encoding: {encoding}\r\ncontent-length: {len(body)}\r\n\r\n"
    connection.write(head.encode())
    for start in range(0, len(body), CHUNK):
        if not connection.alive:
            return
        connection.write(body[start : start + CHUNK])
        await connection.drain()


@cache
def bomb(mebibytes: int, bits: int) -> bytes:
    packer = zlib.compressobj(1, zlib.DEFLATED, bits)
    zeros = bytes(1024 * 1024)
    return b"".join(packer.compress(zeros) for _ in range(mebibytes)) + packer.flush()
