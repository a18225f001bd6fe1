"""A file in a request's body: read piece by piece, so that no size of it fills the memory."""

import hashlib
import tempfile
from dataclasses import dataclass
from typing import IO

from django.http import HttpRequest, UnreadablePostError
from rest_framework.request import Request

from config import problems

_PIECE = 256 * 1024


@dataclass(frozen=True, slots=True)
class Upload:
    """What was sent, on this machine's disk for as long as it is open."""

    file: IO[bytes]
    size: int
    digest: bytes  # SHA-256.


def media_type(request: Request | HttpRequest) -> str:
    """What the body is said to be.

    Raises UnsupportedMediaType for a compressed one: a few kilobytes can be gigabytes.
    """
    if request.META.get("HTTP_CONTENT_ENCODING", "identity").lower() != "identity":
        raise problems.UnsupportedMediaType("Send the body without Content-Encoding.")
    return str(request.META.get("CONTENT_TYPE", "")).partition(";")[0].strip().lower()


def receive(request: Request, file: IO[bytes], *, most: int) -> Upload:
    """Write the body to `file`.

    Raises BodyTooLarge (before it reads, where the length is declared), BadRequest for none or half
    of one.
    """
    declared = request.META.get("CONTENT_LENGTH") or ""
    if not (declared.isascii() and declared.isdigit()) or not int(declared[:18]):
        raise problems.BadRequest("Send a body, and its Content-Length.")
    if len(declared) > 18 or int(declared) > most:
        raise problems.BodyTooLarge(f"Send at most {most} bytes.")
    digest, size = hashlib.sha256(), 0
    try:
        while piece := request._request.read(_PIECE):
            digest.update(piece)
            size += file.write(piece)
    except UnreadablePostError:
        size = -1
    if size != int(declared):
        raise problems.BadRequest("The body ended before its Content-Length.")
    file.seek(0)
    return Upload(file, size, digest.digest())


def spool() -> IO[bytes]:
    """A file on disk that is gone when it is closed."""
    return tempfile.TemporaryFile(prefix="slipway-")
