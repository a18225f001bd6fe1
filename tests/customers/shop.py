"""A tenant's own source of customers: a real HTTP server that answers as a test says."""

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

Answer = tuple[int, dict[str, str], bytes]


def as_page(items, cursor=None, **more) -> Answer:
    return 200, {}, json.dumps({"data": items, "next_cursor": cursor, **more}).encode()


class Shop:
    """`answer(query)` says what comes; without one, `items` are given out in pages."""

    def __init__(self) -> None:
        self.items: list[dict] = []
        self.asked: list[dict[str, str]] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.answer: Callable[[dict[str, str]], Answer] = self.page
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))
        self.thread.start()

    @property
    def pair(self) -> tuple[str, int]:
        return ("127.0.0.1", self.server.server_port)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/customers?kind=all"

    def page(self, query: dict[str, str]) -> Answer:
        """The items from the cursor on, `limit` of them."""
        start, size = int(query.get("cursor", 0)), int(query["limit"])
        end = start + size
        return as_page(self.items[start:end], end if end < len(self.items) else None)

    def stop(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    def _handler(shop):
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                query = {name: values[0] for name, values in parse_qs(parts.query).items()}
                shop.asked.append(query)
                shop.paths.append(parts.path)
                shop.headers.append({name.lower(): text for name, text in self.headers.items()})
                status, headers, body = shop.answer(query)
                self.send_response(status)
                for name, text in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(name, text)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args) -> None:
                pass

        return Handler
