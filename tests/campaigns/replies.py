"""A real HTTP server on a thread, which answers as a test tells it, and what it was asked."""

import contextlib
import json
import socket
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from django.conf import settings


@dataclass(frozen=True)
class Asked:
    """One request."""

    method: str
    path: str
    headers: dict[str, str]  # Names in lower case.
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)


class Replies:
    """What the next requests are answered, and which came. The last answer stays."""

    def __init__(self) -> None:
        self.answers = [(200, b"{}", {})]
        self.asked: list[Asked] = []
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.port = self.server.server_port
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self.server.serve_forever, args=[0.02], daemon=True).start()

    def say(self, status=200, body=None, **headers) -> None:
        """Answer everything like this from now on; a string as it stands, all else as JSON."""
        text = body if isinstance(body, str) else json.dumps({} if body is None else body)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.answers = [(status, text.encode(), named)]

    def hang_up(self) -> None:
        """Reset every connection from now on, once the request was read."""
        self.answers = [None]

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()


def _handler(replies: Replies) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            size = int(self.headers.get("content-length", 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            body = self.rfile.read(size)
            replies.asked.append(Asked(self.command, self.path, headers, body))
            said = replies.answers[0]
            if said is None:
                linger = struct.pack("ii", 1, 0)
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                self.close_connection = True
                return
            status, text, more = said
            self.send_response(status)
            for name, value in more.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(text)

        do_POST = do_HEAD = do_GET

        def log_message(self, *arguments) -> None:
            pass

        def finish(self) -> None:
            with contextlib.suppress(OSError):
                super().finish()

    return Handler


@contextlib.contextmanager
def replying() -> Iterator[Replies]:
    """A server that may be named as a provider's, while the block runs."""
    replies = Replies()
    before = settings.WEBHOOK_OPEN_DESTINATIONS
    settings.WEBHOOK_OPEN_DESTINATIONS = [*before, ("127.0.0.1", replies.port)]
    try:
        yield replies
    finally:
        settings.WEBHOOK_OPEN_DESTINATIONS = before
        replies.stop()
