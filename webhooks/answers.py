"""What a call to a customer's URL came to: an answer, or one clear reason why there is none."""

import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

BODY_KEPT = 64 * 1024  # Bytes of a body, after decompression.
HEADERS_KEPT = 64
HEADER_KEPT = 1024  # Characters of one header's value.


class Kind(StrEnum):
    """Why a call failed, for machines. The first six can only happen before anything is sent."""

    BAD_REQUEST = "bad_request"  # The URL or a header is not ours to send.
    BLOCKED = "blocked_address"  # The host's address is not a public one.
    DNS = "dns"  # The name has no address, or its servers do not answer.
    UNREACHABLE = "unreachable"  # Refused, or no route.
    CONNECT_TIMEOUT = "connect_timeout"
    TLS = "tls"  # No certificate that we believe, or no handshake.
    RESET = "reset"  # The connection broke.
    CLOSED = "closed"  # The connection was closed without a (whole) answer.
    DEADLINE = "deadline"
    PROTOCOL = "protocol"  # What came is not HTTP.
    HEADERS_TOO_LARGE = "headers_too_large"


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer, cut to what an attempt keeps."""

    status: int
    headers: Mapping[str, str]  # Names in lower case, repeated ones joined by commas.
    body: str
    truncated: bool  # The body goes on, or could not be decoded to its end.
    elapsed: float  # Seconds from the call to the end of the body.
    address: str  # The IP address that answered.

    @property
    def ok(self) -> bool:
        """Whether it is a 2xx."""
        return 200 <= self.status < 300


class CallFailed(Exception):
    """No whole answer came. Its text is one sentence.

    `sent` is False when certainly no byte of the request reached anybody; True says that it may
    have been read. `reused` tells that the connection had served a call before, and so may have
    been closed while the request was under way. `answer` is what had come by then, if anything.
    """

    def __init__(
        self,
        kind: Kind,
        text: str,
        *,
        sent: bool = False,
        reused: bool = False,
        answer: Answer | None = None,
    ) -> None:
        super().__init__(text)
        self.kind = kind
        self.sent = sent
        self.reused = reused
        self.answer = answer


def kept_headers(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The first HEADERS_KEPT headers, each cut to HEADER_KEPT characters."""
    kept: dict[str, str] = {}
    for name, value in pairs:
        name = name.lower()
        if name in kept:
            kept[name] = f"{kept[name]}, {value}"[:HEADER_KEPT]
        elif len(kept) < HEADERS_KEPT:
            kept[name[:HEADER_KEPT]] = value[:HEADER_KEPT]
    return kept


class Body:
    """A body as it comes in, decompressed as far as it is kept and never further.

    A bomb is met by the output's bound: zlib is never asked for more than what is still missing.
    """

    def __init__(self, encoding: str, *, most: int = BODY_KEPT) -> None:
        self._encoding = encoding.strip().lower()
        self._inflate = _decompressor(self._encoding)
        self._started = False
        self._kept = bytearray()
        self._most = most
        self._received = 0
        self.broken = False  # It could not be decoded to its end.

    def feed(self, data: bytes) -> None:
        """Take in what was received."""
        self._received += len(data)
        if self._inflate is None:
            self._kept += data[: self._missing]
            return
        try:
            self._kept += self._decoded(self._inflate, data)
        except zlib.error:
            self.broken = True

    @property
    def full(self) -> bool:
        """Whether no more of it is wanted."""
        # Compressed data may go on for ever and come to nothing: empty blocks, or a second stream.
        return self.broken or len(self._kept) > self._most or self._received > 2 * self._most

    def text(self) -> str:
        """What is kept, as text; bytes that are not UTF-8 are replaced."""
        return bytes(self._kept[: self._most]).decode("utf-8", "replace")

    @property
    def data(self) -> bytes:
        """What is kept."""
        return bytes(self._kept[: self._most])

    @property
    def _missing(self) -> int:
        # One byte more than is kept tells a body that fills the room from one that goes on.
        return self._most + 1 - len(self._kept)

    def _decoded(self, inflate: "zlib._Decompress", data: bytes) -> bytes:
        if not self._started and data:
            self._started = True
            # RFC 9110, 8.4.1.2: deflate means zlib's format, but some send it bare.
            if self._encoding == "deflate" and data[0] & 0x0F != 8:
                self._inflate = inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        return b"" if inflate.eof else inflate.decompress(data, self._missing)


def _decompressor(encoding: str) -> "zlib._Decompress | None":
    """None for what is kept as it comes: nothing else was asked for (Accept-Encoding: identity)."""
    if encoding in {"gzip", "x-gzip"}:
        return zlib.decompressobj(16 + zlib.MAX_WBITS)
    return zlib.decompressobj() if encoding == "deflate" else None
