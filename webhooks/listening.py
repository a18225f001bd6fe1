"""A receiver for development: verifies what arrives, prints it, and may send it on.

What strangers sent is printed on a terminal: no control character of theirs gets there.
"""

import time
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import orjson
import requests

from config.terminal import printable
from webhooks.signing import TOLERANCE, BadSecret, BadSignature, verify

LARGEST = 1024 * 1024  # Bytes of a body.
PATIENCE = 30.0  # Seconds for a client that says nothing more.
ANY_TIME = 2**40  # Seconds.

_SENT_ON = ("content-type", "webhook-id", "webhook-timestamp", "webhook-signature")


class Listener(ThreadingHTTPServer):
    """On 127.0.0.1. `tell` is given one line, or block of lines, for each request."""

    daemon_threads = True

    def __init__(
        self,
        *,
        secret: str,
        port: int,
        status: int,
        forward: str | None,
        tell: Callable[[str], None],
    ) -> None:
        self.secret, self.status, self.forward, self.tell = secret, status, forward, tell
        super().__init__(("127.0.0.1", port), _Handler)

    @property
    def port(self) -> int:
        return int(self.server_address[1])


class _Handler(BaseHTTPRequestHandler):
    server: Listener
    timeout = PATIENCE

    def do_POST(self) -> None:
        body = self._body()
        if body is None:
            return
        headers = dict(self.headers.items())
        why = flaw(self.server.secret, headers, body)
        self.server.tell(shown(self.path, headers, body, why))
        if why:
            self._answer(401)
        else:
            self._answer(self._send_on(headers, body) if self.server.forward else None)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing besides what `tell` is given."""

    def _body(self) -> bytes | None:
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit()) or int(length[:12]) > LARGEST:
            self._answer(413 if length else 411)
            return None
        return self.rfile.read(int(length))

    def _send_on(self, headers: Mapping[str, str], body: bytes) -> int:
        """The status of whoever it was sent on to; 502 when nobody answered."""
        kept = {name: value for name, value in headers.items() if name.lower() in _SENT_ON}
        try:
            answer = requests.post(
                str(self.server.forward),
                data=body,
                headers=kept,
                timeout=PATIENCE,
                allow_redirects=False,
            )
        except requests.RequestException as error:
            self.server.tell(printable(f"  could not be sent on: {error}"))
            return 502
        self.server.tell(f"  sent on: {answer.status_code}")
        return answer.status_code

    def _answer(self, status: int | None) -> None:
        self.send_response(status or self.server.status)
        self.send_header("Content-Length", "0")
        self.end_headers()


def flaw(
    secret: str, headers: Mapping[str, str], body: bytes, *, any_time: bool = False
) -> str | None:
    """Why a request does not verify; None when it does."""
    tolerance = ANY_TIME if any_time else TOLERANCE
    try:
        verify([secret], headers=headers, body=body, now=time.time(), tolerance=tolerance)
    except (BadSignature, BadSecret) as error:
        return str(error)
    return None


def read_headers(path: str) -> dict[str, str]:
    """A file of `Name: value` lines, as curl and proxies write them.

    Raises OSError, and ValueError for what is not text.
    """
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    pairs = (line.partition(":") for line in lines if ":" in line)
    return {name.strip(): value.strip() for name, _, value in pairs}


def shown(path: str, headers: Mapping[str, str], body: bytes, why: str | None) -> str:
    """A request for the terminal: its verdict, its id, its body."""
    given = {name.lower(): value for name, value in headers.items()}
    verdict = "verified" if why is None else f"NOT VERIFIED: {why}"
    head = f"{time.strftime('%H:%M:%S')} {path} {given.get('webhook-id', 'no id')} {verdict}"
    try:
        said = orjson.dumps(orjson.loads(body), option=orjson.OPT_INDENT_2).decode()
    except orjson.JSONDecodeError:
        said = body.decode(errors="replace")
    lines = printable(said).split("\n")
    return "\n".join([printable(head).replace("\n", " "), *(f"  {line}" for line in lines)])
